"""Whose turn it is: shares that hold over workers of any speed, and nobody who waits for ever."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from relay.config import Rate
from relay.store.gate import Gates, Reserved, SiteLimits, Want
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.opening import make_link
from tests.kit.clock import Clock, use_virtual_time
from tests.kit.crowd import Crowd, Worker
from tests.kit.redis import Server

WEIGHTS = {"a": 5, "b": 2, "c": 3}
SITE = "site.example"
LIMITS = SiteLimits(SITE, 0)
FOUND = [Phase.explicit, Phase.reuse, Phase.generate]  # a crowd takes seconds: nothing is shrunk
PATIENCE = 1.0  # of reserve.lua, s
TURNS = make_key(find_shard(SITE), "turns", "default", SITE)


async def ask(
    gates: Gates,
    source: str,
    backlog: int,
    *,
    room: int = 1000,
    weights: Mapping[str, int] = WEIGHTS,
    limits: SiteLimits = LIMITS,
) -> Reserved:
    """A worker with one source asks."""
    return await gates.reserve(limits, "default", backlog, [Want(source, room, 1, 9)], weights)


async def take(gates: Gates, source: str, backlog: int, **more: object) -> int:
    return (await ask(gates, source, backlog, **more)).grants[0].count  # type: ignore[arg-type]


def assert_shares(counts: Counter[str], weights: Mapping[str, int], part: float = 0.01) -> None:
    total, all_weights = counts.total(), sum(weights.values())
    for name, weight in weights.items():
        assert abs(counts[name] - total * weight / all_weights) <= max(1, part * total), counts


# -- shares -----------------------------------------------------------------------------------


async def test_shares_in_one_process(gates: Gates, clock: Clock) -> None:
    wants = [Want(name, 1000, 0, 9) for name in WEIGHTS]
    reserved = await gates.reserve(LIMITS, "default", 1000, wants, WEIGHTS)

    assert_shares(Counter({grant.source: grant.count for grant in reserved.grants}), WEIGHTS, 0.003)


async def test_each_may_take_its_share_of_what_is_in_sight_at_once(
    gates: Gates, clock: Clock
) -> None:
    counts: Counter[str] = Counter()
    backlog = 1000
    for name in "bca":
        counts[name] = await take(gates, name, backlog)
        backlog -= counts[name]

    assert backlog == 0
    assert_shares(counts, WEIGHTS)


worker = st.builds(
    Worker,
    sources=st.just([]),
    room=st.sampled_from([10, 100]),
    berth=st.sampled_from([1, 5, 25, 100]),
    service=st.sampled_from([0.01, 0.1, 0.3]),  # who takes longer than a second is passed over
    delay=st.sampled_from([0.0005, 0.02]),
)


@settings(
    max_examples=5,
    derandomize=True,  # about one order in a hundred is off by 1.8 %
    deadline=None,
    phases=FOUND,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(workers=st.lists(worker, min_size=3, max_size=3), seed=st.integers(0, 99))
async def test_shares_over_workers_of_any_speed(
    shared_server: Server, workers: list[Worker], seed: int
) -> None:
    """A thousand, in any order of looks, claims, refunds and ends; none that sleeps too long."""
    crowd = await run_crowd(shared_server, workers, WEIGHTS, [(0.0, 1000)], seed=seed)

    assert_shares(crowd.counts, WEIGHTS, 0.015)  # 0.012 has been seen
    # The slowest takes its turns within a second: nobody waits longer for it.
    assert crowd.find_longest_gap() < 2 * PATIENCE


@pytest.mark.parametrize("gap", [0.003, 0.1, 0.9])
async def test_shares_of_messages_that_come_one_by_one(server: Server, gap: float) -> None:
    """All workers hear of each and run for it; it goes to whose turn it is."""
    workers = [Worker([]), Worker([], delay=0.01), Worker([], service=0.01)]
    arrivals = [(number * gap, 1) for number in range(200)]

    crowd = await run_crowd(server, workers, WEIGHTS, arrivals)

    assert_shares(crowd.counts, WEIGHTS, 0.015)
    assert (
        max(taken.time - time for taken, (time, _) in zip(crowd.taken, arrivals, strict=True)) < 1
    )


async def test_shares_under_a_rate_which_is_used(server: Server) -> None:
    limits = SiteLimits(SITE, 0, (Rate(50, 1),))
    workers = [Worker([]), Worker([], service=0.02), Worker([], service=0.3)]

    crowd = await run_crowd(server, workers, WEIGHTS, [(0.0, 600)], limits=limits)

    assert_shares(crowd.counts, WEIGHTS, 0.02)
    assert 600 / 50 - 0.5 < crowd.taken[-1].time < 1.05 * 600 / 50


async def run_crowd(
    server: Server,
    workers: list[Worker],
    weights: dict[str, int],
    arrivals: list[tuple[float, int]],
    *,
    limits: SiteLimits = LIMITS,
    seed: int = 0,
    until: float = 1e9,
) -> Crowd:
    """Let workers (with the sources in turn, if they have none) drain what arrives."""
    server.fresh()
    workers = [
        Worker(
            one.sources or [name],
            one.room,
            one.berth,
            one.service,
            one.delay,
            gone=one.gone,
        )
        for one, name in zip(workers, weights, strict=False)
    ]
    with pytest.MonkeyPatch.context() as patch:
        use_virtual_time(patch)
        link = make_link(server.url, timeout=10)
        clock = Clock(link)
        await clock.set(clock.now)
        crowd = Crowd(
            Gates(link, lease=60), clock, workers, weights,
            limits=limits, seed=seed,
        )  # fmt: skip
        for time, count in arrivals:
            crowd.put(time, count)
        await crowd.run(until=until)
        await link.aclose()
    assert crowd.backlog == 0, "a stall"
    return crowd


# -- nobody waits for ever --------------------------------------------------------------------


@settings(
    max_examples=15,
    deadline=None,
    phases=FOUND,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_any_crowd_drains_any_backlog(shared_server: Server, data: st.DataObject) -> None:
    """Workers with one source or several, shared or not, some without room, some that vanish."""
    names = "abcdef"[: data.draw(st.integers(2, 6))]
    weights = {name: data.draw(st.sampled_from([1, 2, 5, 50])) for name in names}
    workers = data.draw(st.lists(worker, min_size=2, max_size=6))
    for one in workers:
        one.sources = sorted(data.draw(st.sets(st.sampled_from(names), min_size=1)))
    for one in workers[1:]:
        one.gone = data.draw(st.booleans())
        one.room = data.draw(st.sampled_from([0, one.room]))
    arrivals = data.draw(
        st.lists(st.tuples(st.floats(0, 30), st.integers(1, 30)), min_size=1, max_size=8)
    )
    limits = data.draw(
        st.sampled_from(
            [LIMITS, SiteLimits(SITE, 0, (Rate(20, 1),)), SiteLimits(SITE, 0, (), (Rate(10, 1),))]
        )
    )

    crowd = await run_crowd(
        shared_server, workers, weights, arrivals,
        limits=limits, seed=data.draw(st.integers(0, 99)),
        until=400.0,
    )  # fmt: skip

    # No longer than: the slowest that is there, a second for who is not, and what a rate takes.
    idle = 0.0
    for before, after in zip([None, *crowd.taken], crowd.taken, strict=False):
        since = max([before.time if before else 0.0, *(t for t, _ in arrivals if t <= after.time)])
        idle = max(idle, after.time - since)
    assert idle < 2 * PATIENCE + 1.5 + 0.05 * len(names)


async def test_thirty_that_have_no_room_are_waited_for_together(server: Server) -> None:
    weights = {f"s{number}": 1 for number in range(30)}
    workers = [Worker([name], room=100 if name == "s0" else 0) for name in weights]

    crowd = await run_crowd(server, workers, weights, [(0.0, 10)])

    assert crowd.taken[0].time < PATIENCE + 30 * 0.05 + 0.5
    # Some have their first turn after ours.
    assert crowd.taken[-1].time < crowd.taken[0].time + PATIENCE + 30 * 0.05


# -- who does not come ------------------------------------------------------------------------


async def test_who_does_not_come_is_passed_over_after_a_second(gates: Gates, clock: Clock) -> None:
    weights = {"a": 1, "b": 1}
    assert await take(gates, "a", 10, weights=weights) == 5
    asked = await ask(gates, "a", 1, weights=weights)
    while asked.grants[0].count:  # its place was ahead of b's
        asked = await ask(gates, "a", 1, weights=weights)
    assert (asked.why, asked.wait) == ("turn", 1.001)
    await clock.pass_by(0.9)
    assert await take(gates, "a", 1, weights=weights) == 0
    await clock.pass_by(0.2)

    assert await take(gates, "a", 50, weights=weights) == 50


async def test_who_comes_back_has_no_claim_on_what_it_missed(
    gates: Gates, clock: Clock, link: Link
) -> None:
    weights = {"a": 1, "b": 1}
    await take(gates, "a", 10, weights=weights)
    await take(gates, "a", 10, weights=weights)
    await link.call("HSET", TURNS, "@b", clock.now - 1500)  # b does not come
    assert await take(gates, "a", 100, weights=weights) == 100

    assert 48 <= await take(gates, "b", 100, weights=weights) <= 52


async def test_who_comes_late_catches_up_a_little(gates: Gates, clock: Clock, link: Link) -> None:
    """It came in time all the while, and could never take its share; a thousand turns, no more."""
    weights = {"a": 1, "b": 1}
    await take(gates, "a", 2, weights=weights)
    place = float(await link.call("HGET", TURNS, "a"))
    await link.call("HSET", TURNS, "b", place - 10_000)

    assert await take(gates, "b", 500, weights=weights) >= 490
    assert await take(gates, "a", 1, weights=weights) == 1


async def test_who_comes_is_not_passed_over_for_having_little_room(
    gates: Gates, clock: Clock
) -> None:
    weights = {"a": 1, "b": 1}
    await take(gates, "a", 40, weights=weights)
    for _ in range(6):
        assert await take(gates, "b", 100, room=1, weights=weights) == 1
        await clock.pass_by(0.4)
        await take(gates, "a", 1, weights=weights)

    assert await take(gates, "a", 8, weights=weights) == 0  # b is still owed fourteen


@pytest.mark.parametrize("why", ["rest", "source rate"])
async def test_who_may_not_send_is_not_waited_for(gates: Gates, clock: Clock, why: str) -> None:
    weights = {"a": 1, "b": 9}
    limits = LIMITS
    if why == "rest":
        await gates.fail(SITE, "b", first=60, most=60)
    else:
        limits = SiteLimits(SITE, 0, (), (Rate(60, 60, 40),))
        assert await take(gates, "b", 40, weights={"b": 9}, limits=limits) == 40

    assert await take(gates, "a", 30, weights=weights, limits=limits) == 30
    assert (await ask(gates, "b", 30, weights=weights, limits=limits)).why == why


async def test_places_stay_while_their_first_turn_is_to_come(gates: Gates, clock: Clock) -> None:
    """Each alone in its process, with one delivery in sight at a time."""
    counts: Counter[str] = Counter()
    while counts.total() < 100:
        for name in "abc":
            counts[name] += await take(gates, name, 1)

    assert_shares(counts, WEIGHTS)


async def test_two_that_come_back_at_once_do_not_wait_for_each_other(
    gates: Gates, clock: Clock, link: Link
) -> None:
    for place, name in enumerate("bac"):
        await link.call("HSET", TURNS, name, 10 + place / 3)
    for name in "ab":
        await link.call("HSET", TURNS, f"@{name}", clock.now - 1500)

    assert sum([await take(gates, name, 1) for name in "bcabca"]) >= 1


# -- beginnings -------------------------------------------------------------------------------


async def test_new_sites_begin_with_the_odds_of_the_weights(gates: Gates, clock: Clock) -> None:
    first: Counter[str] = Counter()
    wants = [Want(name, 1, 0, 1) for name in WEIGHTS]
    for number in range(1000):
        limits = SiteLimits(f"s{number}.example", 0)
        reserved = await gates.reserve(limits, "default", 1, wants, WEIGHTS)
        first.update({grant.source: grant.count for grant in reserved.grants})

    assert_shares(first, WEIGHTS, 0.05)


# -- wake-ups ---------------------------------------------------------------------------------


async def test_whose_turn_is_to_come_does_not_hold_up_a_rate(gates: Gates, clock: Clock) -> None:
    """What a second brings is dealt out as well: there is enough for both."""
    weights = {"a": 1, "b": 1}
    while await take(gates, "a", 1, weights=weights):
        pass
    limits = SiteLimits(SITE, 0, (Rate(20, 1, 1),))

    assert await take(gates, "a", 10, weights=weights, limits=limits) == 1


async def test_who_waits_for_a_turn_is_rung_when_it_is_taken(gates: Gates, clock: Clock) -> None:
    weights = {"a": 1, "b": 1}
    shard = find_shard(SITE)
    while await take(gates, "a", 1, weights=weights):
        pass
    rings = await clock.count_rings(shard)

    assert await take(gates, "b", 1, weights=weights) == 1
    assert await clock.count_rings(shard) == rings + 1
    await take(gates, "b", 2, weights=weights)
    assert await clock.count_rings(shard) == rings + 1  # nobody waits


async def test_who_waits_for_a_turn_is_rung_when_it_is_given_back(
    gates: Gates, clock: Clock
) -> None:
    weights = {"a": 1, "b": 1}
    while await take(gates, "a", 1, weights=weights):
        pass
    rings = await clock.count_rings(find_shard(SITE))

    gates.refund(LIMITS, "default", {"a": 1}, weights)

    assert await clock.count_rings(find_shard(SITE)) == rings + 1
