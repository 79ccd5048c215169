"""Retrying whole queues: counted, interrupted between two of them, on the record whatever happens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.errors import StoreUnavailable
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.command import Desk, make_desk, post
from tests.kit.messages import EVENT, Claims
from tests.kit.redis import Server
from workers.operations import retry as module
from workers.operations.decision import Decision
from workers.operations.retry import retry
from workers.views.selection import make_selection

QUEUES = 120  # more than are let go at a time


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    """Return a configuration, and the log that belongs to it."""
    return make_desk(tmp_path, server)


class Hurried:
    """A Watch that has no time: it interrupts as soon as something has begun."""

    def __init__(self, *, patient: bool = False) -> None:
        self.told: list[int] = []
        self._patient = patient

    async def run(self, interrupt: Callable[[], None]) -> None:
        if not self._patient:
            await trio.lowlevel.checkpoint()
            interrupt()

    def tell(self, deliveries: int) -> None:
        self.told.append(deliveries)


async def put_off(store: Store) -> list[str]:
    """Have a delivery in each of many queues that waits for an hour."""
    messages = [await post(store, f"bob@d{number}.test") for number in range(QUEUES)]
    claims = Claims(store)
    for number in range(QUEUES):
        for claim in await claims.take(f"d{number}.test"):  # all of its shard
            assert await store.defer(claim, EVENT, wait=3600)
    return messages


async def order(desk: Desk, store: Store, watch: Hurried, *ids: str) -> dict[str, Any]:
    chosen = make_selection("" if ids else "acme", "", "", "", ids)
    async with Decision(desk.config, "retry", {}, who="ann", why="") as decided:
        return await retry(store, desk.config, chosen, decided, watch, dry=False)


async def count_due(store: Store) -> int:
    queues = [f"acme/d{number}.test" for number in range(QUEUES)]
    return sum(size.due for size in (await store.read_sizes(queues)).values())


async def test_all_are_counted(server: Server, desk: Desk, store: Store) -> None:
    await put_off(store)

    done = await order(desk, store, Hurried(patient=True))

    assert (done["deliveries"], done["meant"], done["interrupted"]) == (QUEUES, QUEUES, False)
    check(server)


async def test_it_stops_between_two_queues_and_goes_on_when_it_is_said_again(
    server: Server, desk: Desk, store: Store
) -> None:
    await put_off(store)

    first = await order(desk, store, Hurried())

    assert first["interrupted"]
    assert 0 < first["deliveries"] < first["meant"] == QUEUES
    assert await count_due(store) == QUEUES - first["deliveries"]
    check(server)

    second = await order(desk, store, Hurried(patient=True))

    assert first["deliveries"] + second["deliveries"] == QUEUES
    assert not second["interrupted"]
    recorded = [event["deliveries"] for event in desk.read_events("retried")]
    assert recorded == [first["deliveries"], second["deliveries"]]
    check(server)


async def test_who_is_told_to_stop_too_late_has_done_it_all(
    server: Server, desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_off(store)
    monkeypatch.setattr(module, "_TASKS", QUEUES)

    done = await order(desk, store, Hurried())

    assert (done["deliveries"], done["interrupted"]) == (QUEUES, False)


async def test_what_was_let_go_before_the_store_went_away_is_on_the_record(
    desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_off(store)
    hurry, calls = store.hurry, 0

    async def break_off(queue: str, **more: Any) -> int:
        nonlocal calls
        calls += 1
        if calls > 7:
            raise StoreUnavailable("the store does not answer", executed=False)
        return await hurry(queue, **more)

    monkeypatch.setattr(store, "hurry", break_off)
    monkeypatch.setattr(module, "_TASKS", 1)
    with pytest.RaisesGroup(StoreUnavailable, flatten_subgroups=True):
        await order(desk, store, Hurried(patient=True))

    assert [event["deliveries"] for event in desk.read_events("retried")] == [7]


async def test_progress_is_told(desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await put_off(store)
    monkeypatch.setattr(module, "_REPORT", 0.0)
    watch = Hurried(patient=True)

    await order(desk, store, watch)

    assert watch.told == sorted(watch.told)
    assert 0 < watch.told[-1] <= QUEUES


async def test_single_ones_say_whether_they_were_interrupted(
    server: Server, desk: Desk, store: Store
) -> None:
    messages = await put_off(store)

    first = await order(desk, store, Hurried(), *messages)
    second = await order(desk, store, Hurried(patient=True), *messages)

    assert first["interrupted"]
    assert first["deliveries"] < first["meant"] == QUEUES
    assert first["deliveries"] + second["deliveries"] == QUEUES
    check(server)


async def test_it_stops_within_a_large_queue(server: Server, desk: Desk, store: Store) -> None:
    for _ in range(450):
        await post(store, "bob@d0.test")
    claims = Claims(store)
    while found := await claims.take("d0.test"):
        for claim in found:
            assert await store.defer(claim, EVENT, wait=3600)

    first = await order(desk, store, Hurried())
    second = await order(desk, store, Hurried(patient=True))

    assert (first["deliveries"], first["interrupted"]) == (100, True)
    assert (second["deliveries"], second["interrupted"]) == (350, False)
    check(server)
