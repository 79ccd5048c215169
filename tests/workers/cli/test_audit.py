"""``outgate audit`` as a person runs it, on a real store and a real trail."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from relay.audit.chain import find_day, try_hold
from relay.audit.trail import Trail
from relay.store.link import Link
from tests.kit.command import Desk, make_desk
from tests.kit.redis import Server
from tests.kit.trail import KEY, START, WallClock, make_event

DAY = 86_400.0
NAME = "gw.worker.1"


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    return make_desk(
        tmp_path,
        server,
        tables='[audit]\ndirectory = "audit"\nkey_file = "key"\nretention = "30d"\n',
    )


async def write(desk: Desk, link: Link, *moments: float, name: str = NAME) -> None:
    """Write a line at each of some times; the store hears of it."""
    path = Path(desk.config.audit.directory) / name
    path.mkdir(parents=True, exist_ok=True)
    held = try_hold(path)
    assert held is not None
    clock = WallClock(moments[0])
    trail = Trail(held, key=KEY, link=link, clock=clock)
    for number, clock.now in enumerate(moments):
        trail.flush()
        trail.write(make_event(number))
    trail.flush()
    trail.sync()
    await trail.beacon.tell(link)
    trail.close()


def read_operator(desk: Desk) -> list[dict[str, Any]]:
    """Return the lines of the operators' chain."""
    (chain,) = Path(desk.config.audit.directory).glob("*.operator.1")
    lines = [
        line for file in sorted(chain.glob("*.jsonl")) for line in file.read_bytes().split(b"\n")
    ]
    return [json.loads(line) for line in lines if line]


async def test_a_sound_trail(desk: Desk, link: Link) -> None:
    await write(desk, link, START, START + 1, START + DAY)
    said = await desk.ask("audit", "verify")
    assert (said["sound"], said["store"], said["signed"]) == (True, True, True)
    assert (said["chains"], said["days"], said["lines"]) == (1, 2, 4)

    done = await desk.call("audit", "verify")
    assert done.status == 0
    assert "sound: 4 lines, 2 days, 1 chain\n" in done.out


async def test_options_may_stand_behind_the_word(desk: Desk, link: Link) -> None:
    await write(desk, link, START)
    from tests.kit.command import _run_here

    done = _run_here(["audit", "verify", "-c", desk.file, "--no-store", "--json"])
    assert done.said["sound"]


async def test_a_cut_end_and_a_missing_chain_are_found(desk: Desk, link: Link) -> None:
    await write(desk, link, START, START + 1)
    await write(desk, link, START, name="gw.ingress.1")
    directory = Path(desk.config.audit.directory)
    file = directory / NAME / "2026-01-01.jsonl"
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    shutil.rmtree(directory / "gw.ingress.1")

    done = await desk.call("audit", "verify")
    assert done.status == 1
    assert f"{NAME}: ends with line 1; the store knows of line 2: its end is cut off" in done.out
    assert "gw.ingress.1: the chain is missing; the store knows 1 lines of it" in done.out
    assert "NOT sound: 2 findings" in done.out
    # The next process uses the number again; what it was is not forgotten.
    await write(desk, link, START + 2, START + 3, START + 4)
    done = await desk.call("audit", "verify", "--json")
    assert "line 2 was there once" in json.dumps(done.said["findings"])


async def test_without_the_store(desk: Desk, link: Link, server: Server, tmp_path: Path) -> None:
    await write(desk, link, START)
    done = await desk.call("audit", "verify", "--no-store")
    assert done.status == 0
    assert "the store was not asked" in done.out
    file = Path(desk.file)
    file.write_text(file.read_text().replace(server.url, f"unix://{tmp_path}/nobody"))
    done = await desk.call("audit", "verify")
    assert done.status == 1
    assert "--no-store" in done.err


async def test_there_is_no_trail(server: Server, tmp_path: Path) -> None:
    done = await make_desk(tmp_path, server).call("audit", "verify")
    assert done.status == 2
    assert "audit.directory" in done.err


async def test_a_tenants_lines_and_their_proof(desk: Desk, link: Link, tmp_path: Path) -> None:
    await write(desk, link, START, START + 1, START + DAY)
    file = tmp_path / "acme.jsonl"
    words = ("--tenant", "acme", "--from", "2026-01-01", "--to", "2026-01-01")
    done = await desk.call("audit", "export", *words, "--output", str(file), "--why", "ticket 7")
    assert done.status == 0, done
    assert file.read_bytes().count(b'"line":') == 2
    said = await desk.ask("audit", "verify", "--export", str(file))
    assert (said["lines"], said["seals"], said["faults"]) == (2, 1, [])
    file.write_bytes(file.read_bytes().replace(b"M00001", b"M00002"))
    done = await desk.call("audit", "verify", "--export", str(file))
    assert done.status == 1
    assert "NOT sound" in done.out

    line = read_operator(desk)[-1]
    assert (line["event"], line["command"], line["who"][:4]) == ("command", "audit", "ann@")
    assert line["asked"]["tenant"] == "acme"
    assert line["why"] == "ticket 7"


async def test_an_export_does_not_overwrite(desk: Desk, link: Link, tmp_path: Path) -> None:
    await write(desk, link, START)
    (tmp_path / "there").write_text("mine")
    words = ("--tenant", "acme", "--from", "2026-01-01", "--to", "2026-01-01")
    done = await desk.call("audit", "export", *words, "--output", str(tmp_path / "there"))
    assert done.status == 1
    assert (tmp_path / "there").read_text() == "mine"
    done = await desk.call("audit", "export", *words[:-1], "tomorrow")
    assert done.status == 2


async def test_days_of_processes_that_did_not_come_back_are_sealed(desk: Desk, link: Link) -> None:
    await write(desk, link, START, START + 1)
    said = await desk.ask("audit", "seal")
    assert said["sealed"] == [[NAME, "2026-01-01"]]
    said = await desk.ask("audit", "verify")
    assert (said["sound"], said["notes"]) == (True, [])
    assert (await desk.ask("audit", "seal"))["sealed"] == []


async def test_what_is_old_is_taken_away(desk: Desk, link: Link) -> None:
    now = time.time()
    await write(desk, link, now - 90 * DAY, now - 40 * DAY, now - 5 * DAY, now)
    said = await desk.ask("audit", "purge", "--dry-run")
    days = [find_day(now - 90 * DAY), find_day(now - 40 * DAY)]
    assert [one["days"] for one in said["purged"]] == [days]
    path = Path(desk.config.audit.directory) / NAME
    assert len(list(path.glob("*.jsonl"))) == 4

    assert (await desk.ask("audit", "purge", "--why", "retention"))["dry_run"] is False
    assert len(list(path.glob("*.jsonl"))) == 2
    said = await desk.ask("audit", "verify")
    assert said["sound"], said
    (line,) = [line for line in read_operator(desk) if line["event"] == "purged"]
    assert (line["purged"]["chain"], line["purged"]["days"]) == (NAME, days)
    assert line["why"] == "retention"
    # What somebody takes away himself is another matter.
    min(path.glob("*.jsonl")).unlink()
    assert (await desk.call("audit", "verify")).status == 1


async def test_a_chain_of_the_past_goes_as_a_whole(desk: Desk, link: Link) -> None:
    now = time.time()
    await write(desk, link, now - 90 * DAY, now - 89 * DAY)
    await desk.ask("audit", "seal")
    await desk.ask("audit", "purge")
    assert not (Path(desk.config.audit.directory) / NAME).exists()
    assert (await desk.ask("audit", "verify"))["sound"]


async def test_nothing_is_purged_without_a_time(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server, tables='[audit]\ndirectory = "audit"\n')
    (tmp_path / "audit").mkdir()
    done = await desk.call("audit", "purge")
    assert done.status == 2
    assert "audit.retention" in done.err


async def test_every_command_stands_in_the_trail_before_and_after(desk: Desk) -> None:
    await desk.ask("suspend", "--tenant", "acme", "--why", "hacked")
    begun, done = read_operator(desk)
    assert (begun["event"], begun["command"]) == ("command", "suspend")
    assert begun["asked"] == {"tenant": "acme"}
    assert (done["event"], done["tenant"], done["why"]) == ("suspended", "acme", "hacked")
    # The log has what it always had.
    assert [e["event"] for e in desk.read_events("suspended")] == ["suspended"]
    assert desk.read_events("command") == []
    assert (await desk.ask("audit", "verify"))["lines"] == 2


async def test_nothing_is_done_that_cannot_be_recorded(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("in the way")
    done = await desk.call("suspend", "--tenant", "acme")
    assert done.status == 1
    assert "nothing was done" in done.err
    (tmp_path / "audit").unlink()
    assert (await desk.ask("status"))["suspensions"] == []
