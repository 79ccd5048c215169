"""The count of what waits: fresh, rarer the more it costs, and no older than the store's absence."""

from collections.abc import Iterator

import pytest
import trio

from relay.config import Config
from relay.errors import StoreUnavailable
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.command import post
from tests.kit.redis import Server, open_server
from workers.admin import snapshot as module
from workers.admin.snapshot import Snapshot


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may stop."""
    with open_server() as server:
        yield server


async def test_it_is_counted_again(
    store: Store, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST", 0.05)
    snapshot = Snapshot(store)
    nursery.start_soon(snapshot.run)
    first = await snapshot.read()
    assert (first.backlog, first.complete) == ([], True)
    await post(store, "bob@y.test")
    with trio.fail_after(30):
        while not (await snapshot.read()).backlog:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    assert (await snapshot.read()).at > first.at


async def test_what_costs_much_is_rare(
    store: Store, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, times, spent = Snapshot(store), [], 0.0

    async def refresh() -> None:
        nonlocal spent
        times.append(trio.current_time())
        spent += 0.2  # s of a core

    monkeypatch.setattr(snapshot, "refresh", refresh)
    monkeypatch.setattr(module.time, "thread_time", lambda: spent)
    with trio.move_on_after(45):
        await snapshot.run()
    assert [round(moment - times[0]) for moment in times] == [0, 10, 20, 30, 40]


async def test_without_a_store_there_is_none(own_server: Server, config: Config) -> None:
    link = Link(own_server.url, timeout=5)
    try:
        async with trio.open_nursery() as nursery:
            snapshot = Snapshot(Store(link, config))
            await snapshot.refresh()
            own_server.kill()
            nursery.start_soon(snapshot.run)
            with pytest.raises(StoreUnavailable):
                await snapshot.read()
            own_server.start()
            with trio.fail_after(30):
                while True:
                    try:
                        await snapshot.read()
                        break
                    except StoreUnavailable:
                        await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    finally:
        await link.aclose()


async def test_nobody_waits_for_ever_for_the_first(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(trio.TooSlowError):
        await Snapshot(store).read()
