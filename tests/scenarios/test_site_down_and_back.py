"""A site goes down with mail waiting for it: one probe at a time; when it is back all flows at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, Works, open_works

COUNT = 200


async def wait_for_rest(works: Works, seconds: float) -> list[dict[str, Any]]:
    """Return all rests so far, as soon as one is of so many seconds."""
    rests = await works.wait_for_event("resting")
    while max(event["wait"] for event in rests) < seconds:
        rests = await works.wait_for_event("resting", len(rests) + 1)
    return rests


def accumulate_longer(waits: list[float]) -> Iterator[float]:
    """Yield those that are longer than all before."""
    longest = 0.0
    for wait in waits:
        if wait > longest:
            longest = wait
            yield wait


async def test_all_that_waits_flows_as_soon_as_a_probe_gets_through(
    server: Server, tmp_path: Path
) -> None:
    async with open_host("CONNECT 421 4.3.2 not today") as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "retry": ["4s", "1h"]}
        async with open_works(server, tmp_path, running=False, **settings) as works:
            await works.post_many(COUNT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works.run)
                rests = await wait_for_rest(works, 4.0)
                host.script.clear()
                # A quarter of the first wait, doubling; while it rests nobody knocks. In a run of some
                # twenty two knock before it rests: that counts once, and the same rest is told twice.
                waits = [event["wait"] for event in rests]
                assert list(accumulate_longer(waits)) == [1.0, 2.0, 4.0]
                await host.wait_for(1)
                start = trio.current_time()
                await host.wait_for(COUNT - len(rests) - 1)
                assert trio.current_time() - start < 1
                await works.hurry("y.test")  # those that were tried wait for their time
                await works.wait_for(delivered=COUNT, queued=0, bounced=0, unknown=0)
                await works.finish()
                nursery.cancel_scope.cancel()
            works.check()
        deferred = works.read_events("deferred")
        delivered = works.read_events("delivered")
        attempts = [event["attempt"] for event in delivered]
    # None got through before; by the events' own times, for who reads them may be late.
    assert min(event["time"] for event in delivered) > rests[-1]["time"]
    # Only what was tried has lost an attempt.
    assert 1 <= len(deferred) <= len(rests) + 1
    assert sum(attempts) == COUNT + len(deferred)


async def test_the_probe_is_one_message_by_one_source(server: Server, tmp_path: Path) -> None:
    """Each source rests by itself, and comes back with a single session."""
    async with open_host("CONNECT 421 4.3.2 not today") as host:
        settings = {
            "routes": {"y.test": [host.make_host()]},
            "addresses": SOURCES,
            "retry": ["2s"],
        }
        async with open_works(server, tmp_path, running=False, **settings) as works:
            await works.post_many(50)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works.run)
                await works.wait_for_event("resting", 6)
                nursery.cancel_scope.cancel()
            rests = works.read_events("resting")[:6]
            works.check()
    assert sorted((event["source"], event["wait"]) for event in rests) == [
        (name, wait) for name in SOURCES for wait in (0.5, 1.0)
    ]
    assert len(works.read_events("deferred")) <= host.sessions
    assert host.sessions <= 9


async def test_a_host_that_dies_under_way(server: Server, tmp_path: Path) -> None:
    """The listener is gone for a while; kept sessions too."""
    async with trio.open_nursery() as nursery:
        host = ScriptedHost()
        scope = await nursery.start(run_scoped, host)
        settings = {"routes": {"y.test": [host.make_host()]}, "retry": ["1s"]}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post_many(20)
            await works.wait_for(delivered=20)
            scope.cancel()
            await works.post_many(100)
            await works.wait_for_event("resting")
            await nursery.start(run_scoped, host)
            await works.wait_for(delivered=120, queued=0, unknown=0, seconds=5)
            await works.finish()
            works.check()
        nursery.cancel_scope.cancel()
    assert len(host.messages) == 120


async def run_scoped(
    host: ScriptedHost,
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a host until the scope is cancelled, at the same port as before."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            task_status.started(scope)
            await trio.sleep_forever()
