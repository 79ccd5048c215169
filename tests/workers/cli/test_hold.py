"""``outgate hold``: it waits, whatever happens, until somebody says so or its time is over."""

import time
from pathlib import Path

import pytest
import trio

from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.command import Desk, make_desk, note_site, post
from tests.kit.messages import EVENT, Claims
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


async def test_it_waits_until_it_is_retried(server: Server, tmp_path: Path) -> None:
    async with open_host("RCPT 451 4.3.0 later") as host:
        desk = make_desk(
            tmp_path, server, routes={"y.test": host.make_host()}, delivery='retry = ["1s"]'
        )
        async with open_works(server, tmp_path, config=desk.config) as works:
            message = await post(works.store, "bob@y.test", "ann@y.test")
            await works.wait_for_event("deferred")
            done = await desk.call("hold", "--id", message, "--why", "odd")
            assert "held: 1 delivery to 2 recipients" in done.out
            assert f"undo: outgate retry --id {message}" in done.out
            (event,) = desk.read_events("held")
            assert (event["deliveries"], event["affected"], event["why"]) == (1, 2, "odd")
            tried = host.counts["MAIL"]
            await trio.sleep(2)
            assert host.counts["MAIL"] == tried

            (now,) = (await desk.ask("explain", message))["now"]
            assert now["why"] == "held"
            assert "ann@" in now["text"]
            assert ": odd; until `outgate retry`" in now["text"]
            assert 4.9 * 86400 < now["opens"] <= 5 * 86400

            assert (await desk.call("retry", "--id", message)).status == 0
            await works.wait_for_event("deferred", 2)
            works.check()


async def test_its_time_ends_while_it_is_held(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server, delivery='retry = ["1s"]\nexpire = "3s"')
    async with open_works(server, tmp_path, config=desk.config, running=False, bell=False) as works:
        await post(works.store, "bob@y.test")
        await post(works.store, "ann@y.test")
        await put_off(works.store, 1, 1)
        assert (await desk.ask("hold", "--domain", "y.test"))["deliveries"] == 2
        started = time.time()
        await works.run_until(bounced=2)
        assert time.time() - started < 6
        works.check()


async def put_off(store: Store, count: int, wait: float = 60) -> None:
    for claim in (await Claims(store).take("y.test", most=count))[:count]:
        await store.defer(claim, EVENT, wait=wait)


@pytest.mark.parametrize("ready", [0, 120, 250])
async def test_each_is_held_once(server: Server, desk: Desk, store: Store, ready: int) -> None:
    """Also when there are several pages, and what is held stands behind what is not."""
    async with trio.open_nursery() as nursery:
        for number in range(250):
            accepted = time.time() - number * 3600 % 86400
            nursery.start_soon(lambda n=number, a=accepted: post(store, f"u{n}@y.test", accepted=a))
    for _ in range(3):
        await put_off(store, min(100, 250 - ready))
    await note_site(store, "big", "acme/y.test")
    done = await desk.ask("hold", "--tenant", "acme", "--site", "big")
    assert (done["deliveries"], done["recipients"]) == (250, 250)
    (row,) = (await desk.ask("queues"))["queues"]
    assert (row["ready"], row["due"]) == (0, 250)
    # Each until its own time is over.
    assert 4 * 86400 - 10 < row["next_due"] <= 4.05 * 86400
    again = await desk.ask("hold", "--all")
    assert (again["deliveries"], again["held_before"]) == (0, 250)
    check(server)


async def test_a_dry_run_touches_nothing(server: Server, desk: Desk, store: Store) -> None:
    await post(store, "bob@y.test")
    done = await desk.call("hold", "--all", "--dry-run")
    assert done.out == "1 delivery would be held\n"
    (row,) = (await desk.ask("queues"))["queues"]
    assert row["ready"] == 1


async def test_only_what_is_meant(server: Server, desk: Desk, store: Store) -> None:
    await post(store, "bob@y.test", priority="urgent")
    await post(store, "bob@y.test", tenant="globex")
    await post(store, "bob@z.test")
    assert (await desk.ask("hold", "--tenant", "acme", "--domain", "y.test"))["deliveries"] == 1
    rows = (await desk.ask("queues"))["queues"]
    assert {(r["tenant"], r["domain"]): (r["ready"], r["due"]) for r in rows} == {
        ("acme", "y.test"): (0, 1),
        ("globex", "y.test"): (1, 0),
        ("acme", "z.test"): (1, 0),
    }
