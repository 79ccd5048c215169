"""``outgate archive`` as an operator runs it: a directory, a bucket, a store, an event log."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from relay.archive import Entry, open_archive
from relay.archive.name import find_place, format_day
from relay.store.link import Link
from relay.store.suspension import Suspensions
from tests.kit.archive import DAY, MESSAGE, make, write_keys
from tests.kit.command import Desk, make_desk
from tests.kit.redis import Server
from tests.kit.s3 import S3Server, find_obstacle
from workers.cli.main import main

_ARCHIVE = '[archive]\ndirectory = "archive"\nkey_file = "keys"\nretention = "2d"\n'


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    write_keys(tmp_path / "keys")
    return make_desk(tmp_path, server, tables=_ARCHIVE)


async def put(desk: Desk, *entries: Entry, message: bytes = MESSAGE) -> list[str]:
    archive = open_archive(desk.config)
    assert archive is not None
    for entry in entries:
        await archive.put(entry, message)
    return [entry.id for entry in entries]


async def find(desk: Desk, *words: str) -> list[dict[str, Any]]:
    done = await desk.call("archive", "find", *words, "--json")
    assert done.status == 0, done
    return [json.loads(line) for line in done.out.splitlines()]


def find_file(desk: Desk, message_id: str, tenant: str = "acme") -> Path:
    return Path(desk.config.archive.directory) / find_place(tenant, message_id).name


# -- find


async def test_find(desk: Desk) -> None:
    ids = await put(desk, make("bob@example.com", age=2), make(tenant="globex", age=1), make())

    assert [one["id"] for one in await find(desk)] == ids[::-1]
    (one,) = await find(desk, "--recipient", "bob@*")
    assert one["id"] == ids[0]
    assert one["sender"] == "s@acme.example"
    assert one["sealed"] is True
    assert [o["id"] for o in await find(desk, "--tenant", "globex")] == [ids[1]]
    assert [o["id"] for o in await find(desk, "--id", ids[2].lower())] == [ids[2]]
    assert len(await find(desk, "--message-id", "one@acme.example")) == 3


async def test_find_for_people(desk: Desk) -> None:
    people = [f"r{n}@example.com" for n in range(5)]
    (message_id,) = await put(desk, make(*people, sender=""))

    done = await desk.call("archive", "find")

    assert message_id in done.out
    assert "<> -> r0@example.com, r1@example.com, r2@example.com and 2 more\n" in done.out


async def test_find_stops_at_its_limit_and_says_so(desk: Desk) -> None:
    ids = await put(desk, *(make(age=age) for age in range(5)))

    done = await desk.call("archive", "find", "--limit", "2", "--json")

    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ids[:2]
    assert "--limit 2 ends here" in done.err
    assert len(await find(desk, "--limit", "0")) == 5


async def test_find_nothing(desk: Desk) -> None:
    await put(desk)

    done = await desk.call("archive", "find", "--sender", "x@y.example")

    assert (done.status, done.out) == (1, "")
    assert "nothing in the archive matches" in done.err


async def test_find_tells_of_damage(desk: Desk) -> None:
    ids = await put(desk, make(age=1), make())
    find_file(desk, ids[0]).write_bytes(b"")

    done = await desk.call("archive", "find")

    assert done.status == 1
    assert ids[1] in done.out
    assert f"{find_place('acme', ids[0]).name}: it ends" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("--from", "yesterday"),
        ("--from", "2026-13-01"),
        ("--from", "2026-02-01", "--to", "2026-01-01"),
        ("--id", "x"),
        ("--tenant", "../.."),
        ("--tenant", ".holds"),
        ("--limit", "-1"),
        ("--copy", "s3"),
    ],
)
async def test_find_what_makes_no_sense(desk: Desk, words: tuple[str, ...]) -> None:
    await put(desk)

    assert (await desk.call("archive", "find", *words)).status == 2


# -- get


async def test_get_is_the_message_octet_by_octet(desk: Desk, tmp_path: Path) -> None:
    message = b"Subject: \xff\r\n\r\n" + os.urandom(1 << 20)
    (message_id,) = await put(desk, make(), message=message)
    file = tmp_path / "message.eml"

    done = await desk.call("archive", "get", message_id, "--output", str(file))

    assert done.status == 0
    assert file.read_bytes() == message
    assert file.stat().st_mode & 0o777 == 0o600
    again = await desk.call("archive", "get", message_id, "--output", str(file))
    assert again.status == 1
    assert "File exists" in again.err


def test_get_prints_octets(server: Server, desk: Desk) -> None:
    message = bytes(range(256))
    (message_id,) = trio.run(lambda: put(desk, make(), message=message))

    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "archive", "get", message_id, "-c", desk.file],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=True,
    )

    assert done.stdout == message


async def test_get_the_envelope(desk: Desk) -> None:
    (message_id,) = await put(desk, make("bob@example.com", rule="secret"))

    done = await desk.call("archive", "get", message_id, "--envelope", "--output", "/dev/stdout")
    assert done.status == 1  # what is there already stays
    said = (await find(desk, "--id", message_id))[0]
    file = Path(desk.file).with_name("envelope")
    await desk.call("archive", "get", message_id, "--envelope", "--output", str(file))

    text = file.read_text()
    for word in (message_id, "bob@example.com", "secret", "192.0.2.1", "TLSv1.3", said["digest"]):
        assert word in text
    assert said["digest"] == hashlib.sha256(MESSAGE).hexdigest()


async def test_get_what_is_not_there(desk: Desk) -> None:
    await put(desk, make())

    done = await desk.call("archive", "get", make().id)

    assert done.status == 1
    assert "is not in the archive" in done.err


async def test_get_what_was_changed(desk: Desk, tmp_path: Path) -> None:
    (message_id,) = await put(desk, make())
    file = find_file(desk, message_id)
    octets = bytearray(file.read_bytes())
    octets[-1] ^= 1
    file.write_bytes(octets)

    done = await desk.call("archive", "get", message_id, "--output", str(tmp_path / "out"))

    assert done.status == 1
    assert "its seal is broken" in done.err
    assert not (tmp_path / "out").exists()


async def test_get_says_what_is_not_sealed(desk: Desk, tmp_path: Path) -> None:
    text = Path(desk.file).read_text()
    Path(desk.file).write_text(text.replace('key_file = "keys"', ""))
    (message_id,) = await put(desk, make())
    Path(desk.file).write_text(text)

    done = await desk.call("archive", "get", message_id, "--output", str(tmp_path / "out"))

    assert done.status == 0
    assert "it is not sealed" in done.err


async def test_get_from_the_other_copy(server: Server, tmp_path: Path) -> None:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    write_keys(tmp_path / "keys")
    with S3Server() as s3:
        s3.fresh()
        lines = "".join(f"{k} = {json.dumps(v)}\n" for k, v in s3.settings(tmp_path).items())
        desk = make_desk(tmp_path, server, tables=f"{_ARCHIVE}[archive.s3]\n{lines}")
        (message_id,) = await put(desk, make(age=3 * DAY))
        find_file(desk, message_id).write_bytes(b"{")

        done = await desk.call("archive", "get", message_id, "--output", str(tmp_path / "out"))
        assert done.status == 0, done
        assert (tmp_path / "out").read_bytes() == MESSAGE
        assert "this is the copy of bucket mail" in done.err

        assert [one["id"] for one in await find(desk, "--copy", "s3")] == [message_id]
        purged = await desk.ask("archive", "purge")
        assert purged["objects"] == 2
        assert [e["copy"] for e in desk.read_events("archive-purged")] == ["directory", "s3"]
        assert (await desk.call("archive", "find", "--copy", "s3")).status == 1


# -- holds


async def test_a_hold_is_on_record_and_keeps(desk: Desk, link: Link) -> None:
    (message_id,) = await put(desk, make(age=9 * DAY))

    held = await desk.ask("archive", "hold", "--tenant", "acme", "--why", "case 4711")

    (event,) = desk.read_events("archive-held")
    assert event["hold"] == held["hold"]
    assert (event["tenant"], event["why"]) == ("acme", "case 4711")
    assert event["who"].startswith("ann@")
    (decision,) = await Suspensions(link).read_decisions()
    assert msgspec.json.decode(decision)["event"] == "archive-held"
    (listed,) = await desk.ask("archive", "holds")
    assert (listed["hold"], listed["why"]) == (held["hold"], "case 4711")
    assert "case 4711" in (await desk.call("archive", "holds")).out

    purged = await desk.ask("archive", "purge")
    assert (purged["objects"], purged["held"]) == (0, 1)
    assert find_file(desk, message_id).exists()

    released = await desk.ask("archive", "release", held["hold"], "--why", "closed")
    assert released["released"]["tenant"] == "acme"
    (event,) = desk.read_events("archive-released")
    assert (event["hold"], event["why"]) == (held["hold"], "closed")
    assert await desk.ask("archive", "holds") == []
    assert (await desk.ask("archive", "purge"))["objects"] == 1
    assert not find_file(desk, message_id).exists()


async def test_a_hold_by_id_and_days(desk: Desk) -> None:
    (message_id,) = await put(desk, make(age=9 * DAY))
    unknown, day = make().id, format_day(0)

    held = await desk.ask(
        "archive", "hold", "--id", message_id, "--id", unknown, "--from", day, "--why", "x"
    )

    assert held["ids"] == [message_id, unknown]
    assert held["from"] == day
    assert held["missing"] == [unknown]


async def test_a_hold_does_not_wait_for_the_store(desk: Desk) -> None:
    text = Path(desk.file).read_text()
    Path(desk.file).write_text(text.replace(desk.config.store.url, "unix:///nowhere"))
    await put(desk)

    done = await desk.call("archive", "hold", "--all", "--why", "x")

    assert done.status == 0
    assert "held: the whole archive" in done.out
    assert "only the event log has a record" in done.err
    assert len(desk.read_events("archive-held")) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("hold", "--why", "x"),
        ("hold", "--tenant", "acme"),
        ("hold", "--tenant", "acme", "--why", " "),
        ("hold", "--id", "x", "--why", "x"),
        ("release", "../h", "--why", "x"),
        ("release", "h"),
    ],
)
async def test_holds_that_make_no_sense(desk: Desk, words: tuple[str, ...]) -> None:
    await put(desk)

    assert (await desk.call("archive", *words)).status == 2
    assert await desk.ask("archive", "holds") == []


async def test_release_what_is_not_held(desk: Desk) -> None:
    await put(desk)

    done = await desk.call("archive", "release", "h", "--why", "x")

    assert done.status == 1
    assert not desk.read_events("archive-released")


# -- purge


async def test_purge_is_on_record_by_tenant_and_day(desk: Desk) -> None:
    old = await put(
        desk, make(age=9 * DAY), make(age=9 * DAY - 1), make(tenant="globex", age=5 * DAY)
    )
    (young,) = await put(desk, make(age=DAY))

    dry = await desk.ask("archive", "purge", "--dry-run")
    assert (dry["objects"], dry["dry_run"]) == (3, True)
    assert not desk.read_events("archive-purged")
    assert len(await find(desk)) == 4

    done = await desk.ask("archive", "purge", "--why", "routine")

    assert done["objects"] == 3
    assert [one["id"] for one in await find(desk)] == [young]
    events = desk.read_events("archive-purged")
    counted = {(e["tenant"], e["day"]): e["count"] for e in events}
    assert sum(counted.values()) == 3
    assert counted["globex", find_place("globex", old[2]).day] == 1
    assert {e["why"] for e in events} == {"routine"}
    assert not find_file(desk, old[0]).parent.exists()


async def test_purge_less_than_may_go(desk: Desk) -> None:
    await put(desk, make(age=9 * DAY), make(age=5 * DAY), make(tenant="globex", age=9 * DAY))

    done = await desk.ask("archive", "purge", "--older-than", "7d", "--tenant", "acme")

    assert done["objects"] == 1
    assert len(await find(desk)) == 2


async def test_purge_never_more_than_may_go(desk: Desk) -> None:
    await put(desk, make(age=1.5 * DAY))

    done = await desk.call("archive", "purge", "--older-than", "1d")

    assert done.status == 2
    assert "archive.retention keeps messages for 2 days" in done.err
    assert len(await find(desk)) == 1


async def test_purge_never_without_a_retention(desk: Desk) -> None:
    Path(desk.file).write_text(Path(desk.file).read_text().replace('retention = "2d"', ""))
    await put(desk, make(age=999 * DAY))

    for words in ((), ("--older-than", "10d"), ("--dry-run",)):
        done = await desk.call("archive", "purge", *words)
        assert done.status == 2
        assert "nothing is purged" in done.err
    assert len(await find(desk)) == 1


async def test_what_goes_is_on_record_before_it_goes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message_id,) = await put(desk, make(age=9 * DAY))

    def fail(self: Path, *, missing_ok: bool) -> None:
        del missing_ok
        raise OSError(5, "Input/output error", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fail)
        done = await desk.call("archive", "purge")

    assert done.status == 1
    assert "could not remove" in done.err
    assert len(desk.read_events("archive-purged")) == 1
    assert find_file(desk, message_id).exists()


async def test_without_a_record_nothing_goes(desk: Desk, tmp_path: Path) -> None:
    ids = await put(desk, make(age=9 * DAY))
    (tmp_path / "state/events.jsonl").mkdir(parents=True)

    done = await desk.call("archive", "purge")

    assert done.status == 1
    assert "nothing was done" in done.err
    assert find_file(desk, ids[0]).exists()


# -- the rest


async def test_without_an_archive_it_says_what_to_configure(server: Server, tmp_path: Path) -> None:
    done = await make_desk(tmp_path, server).call("archive", "find")

    assert done.status == 2
    assert "set archive.directory or archive.s3.bucket" in done.err


async def test_a_directory_that_nobody_has_made(desk: Desk) -> None:
    done = await desk.call("archive", "find")

    assert done.status == 1
    assert "could not list itself: No such file or directory" in done.err
    assert not Path(desk.config.archive.directory).exists()


async def test_options_may_stand_on_either_side(desk: Desk) -> None:
    (message_id,) = await put(desk, make())

    before = await desk.call("archive", "--json", "find")
    behind = await desk.call("archive", "find", "--json", "-c", desk.file)

    assert json.loads(before.out)["id"] == json.loads(behind.out)["id"] == message_id


@pytest.mark.parametrize("part", ["find", "get", "hold", "holds", "release", "purge"])
def test_help_has_an_example(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["archive", part, "--help"])

    assert caught.value.code == 0
    assert f"outgate archive {part}" in capsys.readouterr().out.partition("example:")[2]
