"""Berths: how many connections and deliveries a source may have at a site."""

import math
from typing import Any

import pytest
import trio

from relay.config import Config
from relay.errors import StoreUnavailable
from relay.store.gate import Gates
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from workers.berth import DEPTH, Berth, find_rests
from workers.site import Terms

TERMS: dict[str, Any] = {
    "name": "site",
    "tls": "opportunistic",
    "messages_per_connection": 100,
    "connections": None,
    "rates": (),
    "source_connections": 20,
    "source_rates": (),
    "retry": (60.0, 300.0),
}


def make_berth(gates: Gates, *, source: str = "a", share: float = 0.5, **terms: Any) -> Berth:
    made = Terms(**TERMS | terms)
    return Berth(source, made, gates, worker=f"w{source}", find_share=lambda: share)


@pytest.fixture
def gates(link: Link, config: Config) -> Gates:
    return Gates(link, lease=config.delivery.claim)


@pytest.mark.parametrize(
    ("site", "own", "share", "most"),
    [
        (None, 20, 0.1, 20),
        (8, 20, 0.5, 4),
        (8, 20, 0.3, 3),  # rounded up: together a little more; the gate counts
        (8, 2, 0.5, 2),
        (1, 20, 0.01, 1),  # always one: it may be that nobody else comes
        (8, 20, 1.0, 8),
    ],
)
async def test_its_share_of_the_site_s_connections(
    gates: Gates, site: int | None, own: int, share: float, most: int
) -> None:
    berth = make_berth(gates, share=share, connections=site, source_connections=own)
    assert berth.most == most


async def test_room_grows_with_what_the_hosts_have_earned(gates: Gates) -> None:
    berth = make_berth(gates)
    assert berth.room == DEPTH
    assert not berth.is_proven
    berth.windows["x"] = 1
    assert berth.room == DEPTH
    berth.windows["y"] = 3
    assert berth.is_proven
    assert berth.room == 4 * DEPTH
    berth.held = 4 * DEPTH + 1
    assert berth.room == 0
    berth.held = 0
    berth.windows["y"] = 1000
    assert berth.room == 20 * DEPTH


async def test_connections_are_leased_over_all_workers(gates: Gates) -> None:
    one = make_berth(gates, connections=2, share=1.0)
    other = make_berth(gates, source="b", connections=2, share=1.0)
    first = await one.moor()
    assert first is not None
    assert await other.moor() is not None
    assert await one.moor() is None
    assert await other.moor() is None
    one.leave(first)
    assert await other.moor() is not None
    assert one.connections == set()
    assert len(other.connections) == 2


async def test_a_source_keeps_to_its_own_limit(gates: Gates) -> None:
    berth = make_berth(gates, source_connections=2)
    assert [await berth.moor() is not None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("retry", "first", "most"),
    [((4.0, 8.0), 1.0, 8.0), ((60.0, 300.0), 15.0, 300.0), ((1.0,), 0.25, 1.0)],
)
def test_rests_are_shorter_than_retries(
    retry: tuple[float, ...], first: float, most: float
) -> None:
    assert find_rests(Terms(**TERMS | {"retry": retry})) == (first, most)


def test_rests_are_bounded() -> None:
    first, most = find_rests(Terms(**TERMS | {"retry": (14400.0,)}))
    assert first <= 900
    assert first <= most <= 900


async def test_failing_again_rests_twice_as_long_and_recovering_ends_it(
    gates: Gates, link: Link
) -> None:
    berth = make_berth(gates, retry=(0.04, 10.0))
    assert await berth.fail("no answer") == pytest.approx(0.01)
    assert berth.failures == 1
    # Several sessions that fail together count once.
    assert await berth.fail("no answer") <= 0.01
    assert berth.failures == 1
    await trio.sleep(0.015)
    assert await berth.fail("no answer") == pytest.approx(0.02)
    assert berth.failures == 2
    berth.recover()
    assert berth.failures == 0
    assert await berth.fail("no answer") == pytest.approx(0.01)
    assert berth.failures == 1


# -- leases that the store does not confirm ------------------------------------------------------

LEASE = 60.0  # s


async def test_connections_are_closed_once_before_their_leases_end(gates: Gates) -> None:
    berth = make_berth(gates)
    began = trio.current_time()
    closed: list[str] = []
    one, two = await berth.moor(), await berth.moor()
    assert one is not None
    assert two is not None
    berth.guard(one, lambda: closed.append("one"))

    count, due = berth.close_lapsed(LEASE)
    assert count == 0
    assert began + 0.8 * LEASE < due < began + LEASE
    assert not closed

    assert berth.close_lapsed(0.0) == (2, math.inf)
    assert closed == ["one"]
    assert berth.has_lost(one)
    assert berth.has_lost(two)
    assert berth.close_lapsed(0.0) == (0, math.inf)
    berth.guard(two, lambda: closed.append("two"))  # it was being opened
    assert closed == ["one", "two"]
    assert berth.connections == {one, two}, "its session may still be under way"


async def test_what_the_store_confirms_is_good_for_a_lease_from_when_it_was_asked(
    gates: Gates,
) -> None:
    berth = make_berth(gates)
    await berth.moor()
    before = berth.close_lapsed(LEASE)[1]
    await trio.sleep(0.05)
    asked = trio.current_time()
    await berth.renew()
    after = berth.close_lapsed(LEASE)[1]
    assert before + 0.05 <= after <= asked + LEASE


async def test_a_renewal_without_an_answer_confirms_nothing(gates: Gates, link: Link) -> None:
    berth = make_berth(gates)
    await berth.moor()
    before = berth.close_lapsed(LEASE)
    await link.aclose()
    with pytest.raises(StoreUnavailable):
        await berth.renew()
    assert berth.close_lapsed(LEASE) == before


async def test_a_lease_that_others_may_have_begins_nothing_and_ends_what_it_has(
    gates: Gates, link: Link
) -> None:
    """The store can be asked: what is under way on it is on record."""
    berth = make_berth(gates)
    closed: list[str] = []
    connection = await berth.moor()
    assert connection is not None
    berth.guard(connection, lambda: closed.append(connection))
    await link.call("DEL", make_key(find_shard("site"), "slots", "site"))
    await berth.renew()
    assert berth.has_lost(connection)
    assert not closed
    # Cut off after that, it is closed as all others.
    assert berth.close_lapsed(0.0)[0] == 1
    assert closed == [connection]
    berth.leave(connection)
    assert not berth.connections
