"""Resuming and suspending when they are cut off: nothing is done that is not on the record."""

from pathlib import Path

import pytest
import trio

from relay.errors import StoreUnavailable
from relay.events import decode_event
from relay.store.queue import Store
from relay.store.suspension import Suspension, Suspensions
from tests.kit.command import Desk, make_desk
from tests.kit.redis import Server
from workers.operations.decision import Decision
from workers.operations.resume import resume
from workers.operations.suspend import suspend
from workers.views.selection import make_selection

SITES = ["a.test", "b.test", "c.test"]


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    """Return a configuration, and the log that belongs to it."""
    return make_desk(tmp_path, server)


async def suspend_sites(desk: Desk, store: Store) -> None:
    for site in SITES:
        async with Decision(desk.config, "suspend", {}, who="ann", why="") as decided:
            chosen = make_selection("", "", site, "", ())
            await suspend(store, desk.config, chosen, None, decided)


async def resume_all(desk: Desk, store: Store) -> None:
    async with Decision(desk.config, "resume", {}, who="ann", why="") as decided:
        await resume(store, desk.config, make_selection("", "", "", "", ()), True, decided)


async def read_sites(store: Store) -> list[str]:
    return sorted(one.site for one in await Suspensions(store.link).read())


def read_ended(desk: Desk) -> list[list[str]]:
    return [event["suspensions"] for event in desk.read_events("resumed")]


async def test_what_had_ended_when_it_was_cut_off_is_on_the_record(
    desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await suspend_sites(desk, store)
    end = Suspensions.resume
    with trio.CancelScope() as scope:

        async def end_and_cut(suspensions: Suspensions, one: Suspension) -> bool:
            scope.cancel()
            return await end(suspensions, one)

        monkeypatch.setattr(Suspensions, "resume", end_and_cut)
        await resume_all(desk, store)

    assert scope.cancelled_caught
    left = await read_sites(store)
    assert len(left) == len(SITES) - 1
    [ended] = read_ended(desk)
    assert sorted([*left, *(name.removeprefix("site=") for name in ended)]) == SITES

    monkeypatch.setattr(Suspensions, "resume", end)
    await resume_all(desk, store)  # said again, it goes on

    assert await read_sites(store) == []
    assert sorted(map(len, read_ended(desk))) == [1, 2]


async def test_what_had_ended_when_the_store_went_away_is_on_the_record(
    desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await suspend_sites(desk, store)
    end, calls = Suspensions.resume, 0

    async def break_off(suspensions: Suspensions, one: Suspension) -> bool:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise StoreUnavailable("the store does not answer", executed=False)
        return await end(suspensions, one)

    monkeypatch.setattr(Suspensions, "resume", break_off)
    with pytest.raises(StoreUnavailable):
        await resume_all(desk, store)

    assert len(await read_sites(store)) == 1
    assert list(map(len, read_ended(desk))) == [2]


async def test_a_suspension_that_is_cut_off_is_on_the_record(
    desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Suspensions.suspend
    with trio.CancelScope() as scope:

        async def begin_and_cut(suspensions: Suspensions, one: Suspension) -> None:
            scope.cancel()
            await begin(suspensions, one)

        monkeypatch.setattr(Suspensions, "suspend", begin_and_cut)
        async with Decision(desk.config, "suspend", {}, who="ann", why="") as decided:
            chosen = make_selection("", "", SITES[0], "", ())
            await suspend(store, desk.config, chosen, None, decided)

    assert await read_sites(store) == SITES[:1]
    assert [event["site"] for event in desk.read_events("suspended")] == SITES[:1]
    [kept] = await Suspensions(store.link).read_decisions()
    assert decode_event(kept)["site"] == SITES[0]
