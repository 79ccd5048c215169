"""Gates on a real server: rates, caps, connections, rests and presence; whose turn: test_turns.py."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config import Rate
from relay.store.gate import Gates, Reserved, SiteLimits, Want
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.opening import make_link
from tests.kit.clock import Clock, use_virtual_time
from tests.kit.redis import Server

SITE = "site.example"
WEIGHTS = {"a": 1}
PLENTY = 1_000_000


def at_site(*rates: Rate, source: Sequence[Rate] = (), connections: int = 0) -> SiteLimits:
    return SiteLimits(SITE, connections, rates, tuple(source))


async def ask(
    gates: Gates,
    limits: SiteLimits,
    *,
    source: str = "a",
    room: int = PLENTY,
    backlog: int = PLENTY,
    connections: int = 1,
    most: int = 5,
) -> Reserved:
    """One source that is alone in its pool."""
    want = Want(source, room, connections, most)
    return await gates.reserve(limits, "default", backlog, [want], {source: 1})


def count(reserved: Reserved) -> int:
    return sum(grant.count for grant in reserved.grants)


# -- rates ------------------------------------------------------------------------------------


async def test_no_limit_is_the_backlog_or_the_room(gates: Gates, clock: Clock) -> None:
    assert count(await ask(gates, at_site(), backlog=7)) == 7
    assert count(await ask(gates, at_site(), room=5)) == 5


async def test_most_is_for_all_our_sources_together(gates: Gates, clock: Clock) -> None:
    wants = [Want("a", 9, 0, 9), Want("b", 9, 0, 9)]

    reserved = await gates.reserve(at_site(), "p", 100, wants, {"a": 1, "b": 1}, most=8)

    assert [grant.count for grant in reserved.grants] == [4, 4]


async def test_pace_fills_evenly_up_to_its_burst(gates: Gates, clock: Clock) -> None:
    limits = at_site(Rate(100, 1, 20))
    assert count(await ask(gates, limits)) == 20
    empty = await ask(gates, limits)
    assert (count(empty), empty.why) == (0, "site rate")
    assert empty.wait == 0.05  # until a twentieth of a second's worth is there
    await clock.pass_by(0.05)
    assert count(await ask(gates, limits)) == 5
    await clock.pass_by(60)
    assert count(await ask(gates, limits)) == 20


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.sampled_from(
        [Rate(7, 1, 3), Rate(100, 1), Rate(20, 60, 5), Rate(50, 3600), Rate(24, 86_400)]
    ),
    gaps=st.lists(st.floats(0.001, 5.0) | st.floats(60.0, 8000.0), min_size=5, max_size=40),
    data=st.data(),
)
async def test_rate_holds_over_any_window(
    shared_server: Server, rate: Rate, gaps: list[float], data: st.DataObject
) -> None:
    """Whatever is asked and refunded, whenever; and what the rate allows is had in the end."""
    shared_server.fresh()
    with pytest.MonkeyPatch.context() as patch:
        use_virtual_time(patch)
        link = make_link(shared_server.url, timeout=10)
        clock, gates, used = Clock(link), Gates(link, lease=60), []
        await clock.set(clock.now + data.draw(st.integers(0, 100_000_000)))
        for gap in gaps:
            await clock.pass_by(gap)
            granted = count(await ask(gates, at_site(rate)))
            back = data.draw(st.integers(0, granted))
            if back:
                gates.refund(at_site(rate), "default", {"a": back}, WEIGHTS)
            used.append((clock.now / 1000, granted - back))
        await clock.pass_by(rate.seconds * 26 / 24)
        assert count(await ask(gates, at_site(rate))) == (rate.count if rate.is_cap else rate.burst)
        await link.aclose()
    for first, last in itertools.combinations_with_replacement(range(len(used)), 2):
        sent = sum(number for _, number in used[first : last + 1])
        passed = used[last][0] - used[first][0]
        if rate.is_cap:
            assert passed >= rate.seconds or sent <= rate.count
        else:
            assert sent <= rate.count / rate.seconds * passed + rate.burst + 1e-3


async def test_cap_is_exact_and_waits_for_its_oldest_part(gates: Gates, clock: Clock) -> None:
    limits = at_site(Rate(10, 3600))
    assert count(await ask(gates, limits, backlog=4)) == 4
    await clock.pass_by(1000)
    assert count(await ask(gates, limits)) == 6
    waiting = await ask(gates, limits)
    assert (count(waiting), waiting.why) == (0, "site rate")
    assert waiting.wait is not None
    assert 2600 < waiting.wait <= 2750  # at worst a 24th of the hour later than it could
    await clock.pass_by(waiting.wait - 0.001)
    assert count(await ask(gates, limits)) == 0
    await clock.pass_by(0.001)
    assert count(await ask(gates, limits)) == 4


async def test_all_windows_hold_at_once(gates: Gates, clock: Clock) -> None:
    limits = at_site(Rate(10, 1, 10), Rate(25, 86_400), source=[Rate(60, 60, 8)])
    sent = []
    for _ in range(6):
        sent.append(count(await ask(gates, limits)))
        await clock.pass_by(2)

    # The source: 8, then two each two seconds; the site's day ends it.
    assert sent == [8, 2, 2, 2, 2, 2]
    await clock.pass_by(60)
    assert count(await ask(gates, limits)) == 7
    await clock.pass_by(60)
    assert (await ask(gates, limits)).why == "site rate"


async def test_refund_gives_back_rate_and_turn(gates: Gates, clock: Clock, link: Link) -> None:
    limits = at_site(Rate(10, 1, 10), Rate(10, 3600), source=[Rate(10, 1, 10)])
    key = make_key(find_shard(SITE), "turns", "default", SITE)
    assert count(await ask(gates, limits, backlog=10)) == 10
    before = float(await link.call("HGET", key, "a"))

    gates.refund(limits, "default", {"a": 4}, WEIGHTS)

    assert float(await link.call("HGET", key, "a")) == pytest.approx(before - 4)
    assert count(await ask(gates, limits)) == 4


async def test_source_without_rate_left_leaves_the_sites_to_others(
    gates: Gates, clock: Clock
) -> None:
    limits = at_site(Rate(100, 1, 100), source=[Rate(10, 1, 10)])
    wants = [Want("a", 99, 0, 9), Want("b", 99, 0, 9)]
    weights = {"a": 9, "b": 1}

    first = await gates.reserve(limits, "default", 15, wants, weights)
    second = await gates.reserve(limits, "default", 15, wants, weights)

    assert sum(grant.count for grant in (*first.grants, *second.grants)) == 20
    assert (await ask(gates, limits)).why == "source rate"


async def test_rate_of_a_tenant(gates: Gates, clock: Clock) -> None:
    rates = (Rate(10, 1, 10), Rate(12, 3600))
    assert await gates.charge_tenant("acme", rates, 4) == (4, 0)
    assert (await gates.charge_tenant("acme", rates, 9))[0] == 6
    granted, wait = await gates.charge_tenant("acme", rates, 9)
    assert (granted, wait) == (0, 0.1)
    gates.refund_tenant("acme", rates, 3)
    assert (await gates.charge_tenant("acme", rates, 9))[0] == 3
    await clock.pass_by(10)
    assert (await gates.charge_tenant("acme", rates, 9))[0] == 2
    granted, wait = await gates.charge_tenant("acme", rates, 9)
    assert granted == 0
    assert 3500 < wait < 3760


async def test_tenants_and_sites_have_meters_of_their_own(gates: Gates, clock: Clock) -> None:
    rate = Rate(10, 1, 10)
    assert (await gates.charge_tenant(SITE, [rate], 10))[0] == 10
    assert (await gates.charge_tenant("other", [rate], 10))[0] == 10
    assert count(await ask(gates, at_site(rate, source=[rate]))) == 10


async def test_rates_on_the_servers_clock(gates: Gates) -> None:
    """The one test here that does without a clock of its own."""
    limits = at_site(Rate(1000, 1, 20))
    assert count(await ask(gates, limits)) == 20
    refused = await ask(gates, limits)
    while not (granted := count(await ask(gates, limits))):
        pass
    assert 1 <= granted <= 20
    assert refused.wait is None or refused.wait <= 0.05


# -- connections ------------------------------------------------------------------------------


async def test_connections_of_a_source_and_of_a_site(gates: Gates, clock: Clock) -> None:
    limits = at_site(connections=3)
    taken = [
        await gates.take_slot(limits, source, f"{source}{number}", 2)
        for number in range(3)
        for source in "ab"
    ]
    assert taken == [True, True, True, False, False, False]
    gates.free_slot(limits, "a", "a0")
    assert not await gates.take_slot(limits, "b", "b3", 1)
    assert await gates.take_slot(limits, "b", "b3", 2)
    assert not await gates.take_slot(limits, "a", "a4", 2)


async def test_sites_without_a_limit_have_the_sources(gates: Gates, clock: Clock) -> None:
    assert [await gates.take_slot(at_site(), "a", f"c{n}", 4) for n in range(5)] == (
        [True] * 4 + [False]
    )
    assert await gates.take_slot(SiteLimits("other", 0), "a", "c9", 4)


async def test_lease_of_a_connection_ends_unless_it_is_renewed(gates: Gates, clock: Clock) -> None:
    limits = at_site(connections=2)
    for name in ("kept", "lost"):
        assert await gates.take_slot(limits, "a", name, 5)
    await clock.pass_by(40)
    assert await gates.renew_slots(SITE, [("a", "kept"), ("a", "unknown")]) == ["unknown"]
    await clock.pass_by(21)

    assert await gates.renew_slots(SITE, [("a", "lost")]) == ["lost"]
    assert await gates.take_slot(limits, "b", "new", 5)
    assert not await gates.take_slot(limits, "b", "another", 5)
    assert await gates.renew_slots(SITE, [("a", "kept"), ("a", "lost")]) == ["lost"]


async def test_source_that_could_open_no_connection_is_granted_nothing(
    gates: Gates, clock: Clock
) -> None:
    limits = at_site(connections=1)
    assert await gates.take_slot(limits, "b", "b1", 5)

    without = await ask(gates, limits, backlog=3, connections=0)
    with_one = await ask(gates, limits, backlog=3, connections=1)

    assert (count(without), without.why, without.wait) == (0, "connections", 1.0)
    assert count(with_one) == 3
    other = at_site()
    assert await gates.take_slot(other, "a", "a1", 1)  # another process has our source's only one
    assert (await ask(gates, other, connections=0, most=1)).why == "connections"


async def test_end_of_a_connection_rings_when_the_site_was_full(gates: Gates, clock: Clock) -> None:
    limits, shard = at_site(connections=2), find_shard(SITE)
    for name in ("c1", "c2"):
        await gates.take_slot(limits, "a", name, 5)

    gates.free_slot(limits, "a", "c1")
    assert await clock.count_rings(shard) == 1
    gates.free_slot(limits, "a", "c2")
    assert await clock.count_rings(shard) == 1


# -- rests ------------------------------------------------------------------------------------


async def test_rests_double_up_to_the_longest(gates: Gates, clock: Clock) -> None:
    rests = []
    for _ in range(5):
        failures, rest = await gates.fail(SITE, "a", first=10, most=60)
        rests.append((failures, rest))
        again = await gates.fail(SITE, "a", first=10, most=60)
        assert again == (failures, rest)  # sessions that fail together count once
        await clock.pass_by(rest)

    assert rests == [(1, 10), (2, 20), (3, 40), (4, 60), (5, 60)]


async def test_rest_ends_with_one_probe_and_recovery_with_all(gates: Gates, clock: Clock) -> None:
    await gates.fail(SITE, "a", first=10, most=60)
    resting = await ask(gates, at_site())
    assert (count(resting), resting.why, resting.wait) == (0, "rest", 10.0)
    assert count(await ask(gates, at_site(), source="b")) > 1  # another source does not rest
    await clock.pass_by(10)

    probe = await ask(gates, at_site())
    assert (count(probe), probe.grants[0].failures) == (1, 1)
    rings = await clock.count_rings(find_shard(SITE))
    gates.recover(SITE, "a")
    gates.recover(SITE, "a")

    assert await clock.count_rings(find_shard(SITE)) == rings + 1
    assert count(await ask(gates, at_site(), backlog=50)) == 50


# -- presence ---------------------------------------------------------------------------------


async def test_who_is_alive(gates: Gates, clock: Clock) -> None:
    assert await gates.announce("source:a", "pool:default") == {"source:a", "pool:default"}
    await clock.pass_by(10)
    assert await gates.announce("source:b") == {"source:a", "pool:default", "source:b"}
    await clock.pass_by(6)
    assert await gates.announce("source:b") == {"source:b"}
    await gates.leave("source:b")
    assert await gates.announce("worker:x") == {"worker:x"}


# -- what is left over ------------------------------------------------------------------------


async def test_everything_of_a_gate_is_forgotten_in_time(
    gates: Gates, clock: Clock, server: Server
) -> None:
    rates = (Rate(5, 1), Rate(5, 86_400))
    limits = at_site(*rates, source=rates, connections=2)
    wants = [Want("a", 1, 0, 1)]
    for weights in ({"a": 1, "b": 9}, {"a": 9, "b": 1}):
        await gates.reserve(limits, "default", 1, wants, weights)
    await gates.take_slot(limits, "a", "c", 2)
    await gates.fail(SITE, "a", first=1, most=9)
    await gates.charge_tenant("acme", rates, 1)

    with server.client() as client:
        kinds = {}
        for key in client.scan_iter("{og*"):
            kinds[key.decode().split(":")[1]] = client.pttl(key)
    del kinds["clock"]
    kinds.pop("rings", None)
    assert kinds.keys() == {"meter", "turns", "slots", "berths", "rests"}
    assert all(0 < left <= 3 * 86_400_000 for left in kinds.values())
