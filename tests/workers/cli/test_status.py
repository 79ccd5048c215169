"""``outgate status`` as a person runs it, on a real store."""

from pathlib import Path

import pytest

from relay.store.gate import Gates
from relay.store.queue import Store
from tests.kit.command import Desk, post
from tests.kit.messages import EVENT, Claims
from tests.kit.redis import Server
from workers.cli.main import main


async def test_the_ledger(desk: Desk, store: Store) -> None:
    await post(store, "x@b.test", "y@b.test")

    state = await desk.ask("status")

    assert state["ledger"] == {
        "accepted": 2,
        "delivered": 0,
        "bounced": 0,
        "queued": 2,
        "unknown": 0,
    }
    assert state["store"]["weaknesses"] == []


async def test_what_waits(desk: Desk, store: Store) -> None:
    for _ in range(4):
        await post(store, "x@b.test", accepted=1000.0)
    first, _ = await Claims(store).take("b.test", most=2)
    await store.defer(first, EVENT, wait=60)

    counts = (await desk.ask("status"))["deliveries"]

    assert counts.pop("oldest") > 1_000_000_000
    assert counts == {"queues": 1, "ready": 2, "due": 1, "claimed": 1, "forwarding": 0}


async def test_who_is_there_and_what_is_suspended(desk: Desk, store: Store) -> None:
    gates = Gates(store.link, lease=60)
    await gates.announce("worker:1", "worker:2", "source:a")
    await desk.ask("suspend", "--site", "big", "--why", "asked to")

    state = await desk.ask("status")

    assert (state["workers"], state["sources"]) == (2, {"a": True})
    (one,) = state["suspensions"]
    assert (one["what"], one["why"], one["until"]) == ("site=big", "asked to", None)
    done = await desk.call("status")
    assert "ledger: adds up (accepted = delivered + bounced + queued)" in done.out
    assert "sources: 1 of 1 alive, in 2 worker processes" in done.out
    assert "suspended: site=big suspended by ann@" in done.out


async def test_a_source_that_nobody_has(desk: Desk) -> None:
    done = await desk.call("status")
    assert "sources: 0 of 1 alive; not: a, in 0 worker processes" in done.out


def test_the_ledger_does_not_add_up(
    desk: Desk, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.client() as client:
        client.hset("{og3}:ledger", "accepted", 1)

    assert main(["status", "-c", desk.file]) == 1
    assert "does NOT add up" in capsys.readouterr().out


def test_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text(f'[store]\nurl = "unix://{tmp_path}/nobody"\n[ingress]\nhostname = "gw"\n')

    assert main(["status", "-c", str(path)]) == 1
    assert "start it, or correct store.url" in capsys.readouterr().err
