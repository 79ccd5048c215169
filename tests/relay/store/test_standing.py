"""The standing of a source at a site: real scripts on a real server, in virtual time."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config import Config
from relay.config.schema import Reputation, Source, Warmup
from relay.config.units import Seconds
from relay.store.gate import Gates, Reserved, SiteLimits, Want
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.standing import (
    DEFAULT_WARMUP,
    Change,
    PutOff,
    Report,
    Standing,
    Standings,
    make_schedules,
)
from tests.kit.clock import Clock, use_virtual_time
from tests.kit.redis import Server

SITE = "site.example"
LIMITS = SiteLimits(SITE, 0)
DAY = 86400.0
CONFIG = Config(
    source=(
        Source(name="a", address="127.0.0.11"),
        Source(name="b", address="127.0.0.12"),
        Source(name="new", address="127.0.0.13", warmup="short"),
    ),
    warmup={"short": Warmup(days=(10, 20, 40), idle=Seconds(3 * 86400))},
)


class Stage:
    """A site, its sources, and the clock."""

    def __init__(self, link: Link, clock: Clock, config: Config = CONFIG) -> None:
        self.gates = Gates(link, lease=60, schedules=make_schedules(config))
        self.standings = Standings(link, config)
        self.clock = clock

    async def hear(self, source: str = "a", **counts: object) -> list[Change]:
        return await self.standings.report(SITE, [Report(source, **counts)])  # type: ignore[arg-type]

    async def ask(self, *names: str, room: int = 1000, backlog: int = 1000) -> Reserved:
        names = names or ("a",)
        wants = [Want(name, room, 1, 100) for name in names]
        weights = dict.fromkeys(names, 1)
        return await self.gates.reserve(LIMITS, "default", backlog, wants, weights)

    async def count(self, *names: str, room: int = 1000) -> int:
        return sum(grant.count for grant in (await self.ask(*names, room=room)).grants)

    async def see(self, source: str = "a") -> Standing:
        now = self.clock.now / 1000
        return (await self.standings.read([SITE], now))[SITE, source]

    async def pass_by(self, seconds: float) -> None:
        await self.clock.pass_by(seconds)

    async def to_midnight(self, *, plus: float = 60) -> None:
        left = DAY - self.clock.now / 1000 % DAY
        await self.pass_by(left + plus)


@asynccontextmanager
async def open_stage(server: Server) -> AsyncIterator[Stage]:
    """A fresh store for each example: a fixture would last for all of them."""
    server.fresh()
    with pytest.MonkeyPatch.context() as patch:
        use_virtual_time(patch)
        link = make_link(server.url, timeout=10)
        clock = Clock(link)
        await clock.set(clock.now)
        yield Stage(link, clock)
        await link.aclose()


@pytest.fixture
async def stage(link: Link, clock: Clock) -> Stage:
    return Stage(link, clock)


# -- score ------------------------------------------------------------------------------------


async def test_a_new_source_is_unknown_not_good(stage: Stage) -> None:
    await stage.hear()

    assert (await stage.see()).score == 0.5
    assert (await stage.see()).evidence == 0


async def test_good_answers_raise_it_and_bad_ones_lower_it(stage: Stage) -> None:
    await stage.hear(delivered=80)
    good = (await stage.see()).score
    await stage.hear(unknown=10)
    worse = (await stage.see()).score
    await stage.hear(complaints=1)

    assert good == pytest.approx(0.9)
    assert (await stage.see()).score < worse < good


async def test_evidence_fades(stage: Stage) -> None:
    await stage.hear(delivered=80)
    await stage.pass_by(DAY)

    standing = await stage.see()

    assert standing.evidence == pytest.approx(40, rel=1e-3)
    assert standing.score == pytest.approx(50 / 60, rel=1e-3)


@pytest.mark.parametrize("counts", [{"unknown": 80}, {"complaints": 2}, {"content": 170}])
async def test_below_the_floor_is_quarantine(stage: Stage, counts: dict[str, int]) -> None:
    changes = await stage.hear(delivered=20, answered=80, **counts)

    assert "quarantined" in [change.kind for change in changes]
    assert "score" in next(c.why for c in changes if c.kind == "quarantined")
    assert await stage.count() == 0


async def test_few_answers_are_not_enough_for_the_floor(stage: Stage) -> None:
    """A list with wrong addresses at a small site must not hold up all other mail to it."""
    assert await stage.hear(answered=90, unknown=90) == []
    assert await stage.count() > 0


async def test_weight_follows_what_is_against_it(stage: Stage) -> None:
    """Two with the same weight: the one with unknown recipients gets less, and not nothing."""
    await stage.hear("a", delivered=200)
    await stage.hear("b", delivered=150, unknown=25)
    counts = {"a": 0, "b": 0}
    for _ in range(20):
        for name, grant in zip("ab", (await stage.ask("a", "b", backlog=50)).grants, strict=True):
            counts[name] += grant.count

    assert 0.2 < counts["b"] / counts["a"] < 0.8


# -- pace -------------------------------------------------------------------------------------


async def run_steadily(stage: Stage, seconds: int, rate: float, **more: object) -> None:
    for _ in range(seconds):
        await stage.pass_by(1)
        await stage.hear(delivered=int(rate), **more)


async def test_what_a_burst_met_is_not_the_pace_for_long(stage: Stage) -> None:
    """Three messages came through before the first throttle; the receiver takes thirty a second."""
    await stage.hear(delivered=3, throttled=1)
    assert (await stage.see()).pace == pytest.approx(1.5, rel=0.05)

    await run_steadily(stage, 10, 0)
    for _ in range(40):  # what the pace lets through in that time
        await stage.pass_by(5)
        pace = (await stage.see()).pace
        assert pace is not None
        await stage.hear(delivered=int(5 * pace))

    pace = (await stage.see()).pace
    assert pace is not None
    assert pace > 20


async def test_a_burst_after_a_quiet_hour_is_one_too(stage: Stage) -> None:
    for _ in range(60):
        await stage.pass_by(60)
        await stage.hear(delivered=1)
    await stage.pass_by(1)
    await stage.hear(delivered=30, throttled=1)

    assert (await stage.see()).pace == pytest.approx(15, rel=0.1)


async def test_nothing_reached_is_no_reason_for_the_slowest_pace(stage: Stage) -> None:
    """The first message was throttled, or a neighbour's."""
    await stage.hear(throttled=1)

    assert (await stage.see()).pace == pytest.approx(0.25)


async def test_a_throttle_halves_what_was_reached(stage: Stage) -> None:
    await run_steadily(stage, 30, 20)

    (change,) = await stage.hear(throttled=3, why="421 slow down")

    assert change.kind == "slowed"
    assert change.pace == pytest.approx(10, rel=0.1)
    assert change.why == "421 slow down"
    reserved = await stage.ask()
    assert not reserved.grants[0].count
    assert reserved.why == "throttled"


async def test_what_was_under_way_counts_once(stage: Stage) -> None:
    await run_steadily(stage, 30, 20)
    (first,) = await stage.hear(throttled=1)

    assert await stage.hear(throttled=5) == []
    assert (await stage.see()).pace == pytest.approx(first.pace, rel=1e-3)


async def test_silence_is_longer_each_time_that_it_was_not_enough(stage: Stage) -> None:
    """And the pace stays: nothing has gone through, so that nothing is known of it."""
    await run_steadily(stage, 30, 20)
    paces, rests = [], []
    for _ in range(4):
        (change,) = await stage.hear(throttled=1)
        paces.append(change.pace)
        rests.append(change.rest)
        await stage.pass_by(change.rest + 0.1)

    assert rests == [130, 520, 2080, 3600]
    assert len(set(paces)) == 1


async def test_after_a_silence_one_message_finds_out_for_all(stage: Stage) -> None:
    await run_steadily(stage, 30, 20)
    await stage.hear(throttled=1)
    await stage.pass_by(131)

    assert await stage.count() == 1
    reserved = await stage.ask()
    assert (reserved.grants[0].count, reserved.why) == (0, "throttled")
    await stage.hear(delivered=1)
    await stage.pass_by(1)
    assert await stage.count() > 1


async def test_silence_that_was_enough_is_shorter_the_next_time(stage: Stage) -> None:
    await run_steadily(stage, 30, 20)
    rests = []
    for _ in range(4):
        (change,) = await stage.hear(throttled=1)
        rests.append(change.rest)
        await stage.pass_by(change.rest + 0.1)
        await run_steadily(stage, 30, 5)

    assert rests == [130, pytest.approx(91), 65, 65]


async def test_throttled_again_at_once_it_is_what_goes_through(stage: Stage) -> None:
    """A receiver that saves up ten messages and takes one in two seconds; we had reached twenty a second."""
    await run_steadily(stage, 30, 20)
    await stage.hear(throttled=1)
    for _ in range(6):
        await stage.pass_by(140)
        await stage.hear(delivered=10)
        await stage.pass_by(1)
        await stage.hear(throttled=1)

    assert ((await stage.see()).pace or 0) < 1.5


async def test_it_never_falls_below_the_slowest(stage: Stage) -> None:
    for _ in range(30):
        await stage.hear(throttled=1, rest=1.0)
        await stage.pass_by(90_000)
        await stage.hear(delivered=1)

    assert (await stage.see()).pace == pytest.approx(1 / 60)


async def test_what_a_receiver_asks_for_is_kept_to_but_not_for_ever(stage: Stage) -> None:
    await stage.hear(delivered=5)
    (change,) = await stage.hear(throttled=1, rest=3600.0)
    assert change.rest == 3600
    await stage.pass_by(3601)
    (change,) = await stage.hear(throttled=1, rest=1e9)
    assert change.rest == DAY


async def test_pace_is_kept_over_all_who_ask(stage: Stage) -> None:
    await run_steadily(stage, 30, 20)
    await stage.hear(throttled=1)
    await stage.pass_by(131)
    await stage.hear(delivered=1)
    pace = (await stage.see()).pace
    assert pace is not None
    granted = 0
    for _ in range(100):
        granted += await stage.count()
        await stage.pass_by(0.1)

    assert granted == pytest.approx(10 * pace, rel=0.1)


async def test_clean_time_brings_it_back(stage: Stage) -> None:
    await run_steadily(stage, 30, 20)
    await stage.hear(throttled=1)
    low = (await stage.see()).pace
    assert low is not None
    for _ in range(900):
        await stage.pass_by(1)
        await stage.hear(delivered=int((await stage.see()).pace or 0))

    high = (await stage.see()).pace
    assert high is None or high > 1.8 * low


async def test_time_without_mail_proves_nothing(stage: Stage) -> None:
    await run_steadily(stage, 30, 20)
    await stage.hear(throttled=1)
    low = (await stage.see()).pace
    await stage.pass_by(DAY)
    await stage.hear(delivered=1)

    assert (await stage.see()).pace == low


async def test_after_a_long_streak_it_is_back_soon(stage: Stage) -> None:
    """A day's allowance was used up: the next morning it must not begin from nothing for hours."""
    await run_steadily(stage, 60, 20)
    for _ in range(10):
        (change, *_) = await stage.hear(throttled=1)
        await stage.pass_by(change.rest + 1)
    seconds = 0.0
    while ((await stage.see()).pace or 0) < 15 and seconds < 7200:
        granted = await stage.count()
        await stage.pass_by(0.4)
        seconds += 0.4
        if granted:
            await stage.hear(delivered=granted)

    assert seconds < 900


async def run_receiver(stage: Stage, limit: float, burst: float, seconds: float) -> tuple[int, int]:
    """Send to a receiver that counts in a bucket; return how many it took, and how many it did not."""
    taken = throttled = 0
    left = burst
    passed = 0.0
    while passed < seconds:
        granted = await stage.count()
        good = min(granted, int(left))
        left -= good
        if granted:
            bad = granted - good
            taken, throttled = taken + good, throttled + bad
            await stage.hear(delivered=good, throttled=bad)
        await stage.pass_by(0.4)
        passed += 0.4
        left = min(burst, left + 0.4 * limit)
    return taken, throttled


async def test_a_limit_is_found_kept_and_found_again(stage: Stage) -> None:
    """Found within minutes, then few are throttled; found again when it has halved, or doubled."""
    await run_receiver(stage, 4, 20, 900)
    taken, throttled = await run_receiver(stage, 4, 20, 1200)
    assert taken > 0.7 * 4 * 1200
    assert throttled < 0.005 * taken

    await run_receiver(stage, 2, 20, 600)
    taken, throttled = await run_receiver(stage, 2, 20, 900)
    assert taken > 0.75 * 2 * 900
    assert throttled < 0.005 * taken

    await run_receiver(stage, 4, 20, 1500)
    taken, _ = await run_receiver(stage, 4, 20, 900)
    assert taken > 0.7 * 4 * 900


async def run_by_chance(
    stage: Stage, refuses: Callable[[int], bool], seconds: float
) -> list[Change]:
    """Send to a host that refuses messages by their number, whatever the pace, up to 20 a second."""
    number, passed = 0, 0.0
    changes: list[Change] = []
    while passed < seconds:
        granted = await stage.count(room=10)
        if granted:
            bad = sum(refuses(number + place) for place in range(granted))
            number += granted
            changes += await stage.hear(delivered=granted - bad, throttled=bad)
        await stage.pass_by(0.5)
        passed += 0.5
    return changes


async def test_a_host_that_refuses_at_any_pace_is_not_crawled_to(stage: Stage) -> None:
    """One in ten, whatever the pace: to be silent for a minute each time gains nothing."""
    await run_steadily(stage, 60, 20)
    changes = await run_by_chance(stage, lambda number: number % 10 == 9, 900)
    assert "at any pace" in changes[-1].why
    assert (await stage.see()).pace is None

    assert not await run_by_chance(stage, lambda number: number % 10 == 9, 300)


async def test_what_is_refused_more_and_more_was_about_us_after_all(stage: Stage) -> None:
    await run_steadily(stage, 60, 20)
    await run_by_chance(stage, lambda number: number % 10 == 9, 900)
    assert (await stage.see()).pace is None

    changes = await run_by_chance(stage, lambda number: number % 3 != 0, 60)
    assert changes[0].kind == "slowed"


async def test_what_asks_for_a_wait_is_taken_at_its_word(stage: Stage) -> None:
    """However often it comes, and however slowly we go."""
    await run_steadily(stage, 60, 20)
    for _ in range(20):
        (change, *_) = await stage.hear(throttled=1, rest=60.0)
        assert change.kind == "slowed"
        await stage.pass_by(change.rest + 120)
        await stage.hear(delivered=1)


async def test_the_configured_rate_ends_a_pace(stage: Stage) -> None:
    await run_steadily(stage, 30, 20, most=10.0)
    await stage.hear(throttled=1, most=10.0)
    kinds: list[str] = []
    for _ in range(900):
        await stage.pass_by(1)
        pace = (await stage.see()).pace
        if pace is None:
            break
        kinds += [c.kind for c in await stage.hear(delivered=int(pace), most=10.0)]

    assert kinds == ["unpaced"]


async def test_connections_narrow_and_widen(stage: Stage) -> None:
    for number in range(10):
        assert await stage.gates.take_slot(LIMITS, "a", f"c{number}", 20)
    (change,) = await stage.hear(delivered=1, crowded=2, why="421 too many connections")
    assert (change.kind, change.connections) == ("narrowed", 8)
    assert not await stage.gates.take_slot(LIMITS, "a", "c10", 20)
    for _ in range(10):
        await stage.pass_by(60)
        await stage.hear(delivered=5)

    assert (await stage.see()).connections == 10


# -- quarantine -------------------------------------------------------------------------------


async def test_a_block_silences_one_source_at_one_site(stage: Stage) -> None:
    (change,) = await stage.hear(delivered=3, blocked=1, why="550 5.7.1 blocked")

    assert (change.kind, change.why) == ("quarantined", "550 5.7.1 blocked")
    assert await stage.count("a") == 0
    assert (await stage.ask("a", "b", room=0)).why == "quarantine"
    assert (await stage.ask("a")).why == "all quarantined"
    assert await stage.count("b") > 0
    elsewhere = SiteLimits("elsewhere.example", 0)
    want = Want("a", 5, 1, 5)
    reserved = await stage.gates.reserve(elsewhere, "default", 5, [want], {"a": 1})
    assert reserved.grants[0].count == 5


async def test_others_take_all_its_turns(stage: Stage) -> None:
    await stage.hear("a", blocked=1)

    grants = (await stage.ask("a", "b", room=1000)).grants

    assert [grant.count for grant in grants] == [0, 1000]


async def test_who_was_shut_out_has_no_claim_on_what_it_missed(stage: Stage) -> None:
    """In quarantine, or suspended and so not among those that are alive."""
    grants = (await stage.ask("a", "b", backlog=10)).grants
    assert [grant.count for grant in grants] == [5, 5]
    await stage.hear("a", blocked=1)
    assert (await stage.ask("a", "b", backlog=400)).grants[1].count == 400
    await stage.pass_by(1801)
    assert [g.count for g in (await stage.ask("a", "b", backlog=10)).grants] == [1, 9]
    await stage.standings.report(SITE, [Report("a", delivered=5)])
    await stage.pass_by(600)
    for _ in range(400):
        await stage.ask("b", backlog=1)
    grants = (await stage.ask("a", "b", backlog=20)).grants
    assert grants[1].count >= 9


async def leave_quarantine(stage: Stage) -> list[Change]:
    await stage.hear(blocked=1)
    await stage.pass_by(1801)
    changes: list[Change] = []
    for _ in range(5):
        assert await stage.count() == 1
        assert await stage.count() == 0  # one at a time, over all workers
        changes += await stage.hear(delivered=1)
    return changes


async def test_it_leaves_by_probing(stage: Stage) -> None:
    await stage.hear(delivered=100)

    changes = await leave_quarantine(stage)

    assert [change.kind for change in changes] == ["released"]
    assert (await stage.see()).quarantine is None
    assert await stage.count() >= 1


async def test_throttled_early_again_and_again_after_it(stage: Stage) -> None:
    """By who was never throttled before: the pace that it was released with is the first one."""
    await leave_quarantine(stage)
    paces = [(await stage.see()).pace or 0]
    changes: list[Change] = []
    for _ in range(6):
        changes += await stage.hear(throttled=1)
        paces.append((await stage.see()).pace or 0)
        await stage.pass_by(changes[-1].rest + 1)
        await stage.hear(delivered=1)

    assert [change.kind for change in changes] == ["slowed"] * 6
    assert paces == sorted(paces, reverse=True)
    assert paces[-1] > 0


async def test_a_lost_probe_is_followed_by_another(stage: Stage) -> None:
    await stage.hear(blocked=1)
    await stage.pass_by(1801)
    assert await stage.count() == 1
    await stage.pass_by(61)
    assert await stage.count() == 1


async def test_an_unused_probe_goes_back(stage: Stage) -> None:
    await stage.hear(blocked=1)
    await stage.pass_by(1801)
    assert await stage.count() == 1
    stage.gates.refund(LIMITS, "default", {"a": 1}, {"a": 1})
    assert await stage.count() == 1


async def test_a_block_while_probing_lasts_longer(stage: Stage) -> None:
    lengths = []
    for _ in range(5):
        (change,) = await stage.hear(blocked=1)
        lengths.append(change.till - stage.clock.now / 1000)
        await stage.pass_by(lengths[-1] + 1)
        assert await stage.count() == 1

    assert lengths == [1800, 1800, 3600, 7200, 14400]


async def test_a_block_of_long_ago_is_forgotten(stage: Stage) -> None:
    await stage.hear(blocked=1)
    await stage.pass_by(8 * DAY)
    (change,) = await stage.hear(blocked=1)

    assert change.count == 1


# -- warm-up ----------------------------------------------------------------------------------


async def use_up(stage: Stage, *, spoilt: int = 0) -> int:
    """Send what may go today."""
    sent = 0
    while (reserved := await stage.ask("new", room=7)).why != "warm-up":
        await stage.pass_by(1)
        if count := reserved.grants[0].count:
            sent += count
            await stage.hear("new", delivered=count)
    if spoilt:
        await stage.hear("new", throttled=spoilt)
    return sent


async def test_allowance_is_exact_and_grows_on_good_days(stage: Stage) -> None:
    sent = []
    for _ in range(3):
        sent.append(await use_up(stage))
        assert (await stage.ask("new")).why == "warm-up"
        await stage.to_midnight()

    assert sent == [10, 20, 40]
    assert await stage.count("new", room=1000) == 1000  # it is warm
    warmup = (await stage.see("new")).warmup
    assert warmup is not None
    assert warmup.allowance is None


async def test_what_was_given_back_may_go(stage: Stage) -> None:
    assert await stage.count("new") == 10
    stage.gates.refund(LIMITS, "default", {"new": 4}, {"new": 1})
    assert await stage.count("new") == 4


async def test_a_spoilt_day_does_not_count(stage: Stage) -> None:
    assert await use_up(stage, spoilt=2) == 10
    await stage.to_midnight()
    assert await use_up(stage) == 10


async def test_a_day_with_little_mail_does_not_count(stage: Stage) -> None:
    assert await stage.count("new", room=3) == 3
    await stage.to_midnight()
    assert await use_up(stage) == 10


async def test_a_block_takes_a_day_back(stage: Stage) -> None:
    await use_up(stage)
    await stage.to_midnight()
    await use_up(stage)
    await stage.hear("new", blocked=1)
    await stage.to_midnight()
    await stage.hear("new", delivered=0)

    warmup = (await stage.see("new")).warmup
    assert warmup is not None
    assert warmup.allowance == 10


async def test_overflow_goes_to_warm_sources(stage: Stage) -> None:
    grants = (await stage.ask("a", "new", room=1000)).grants
    more = (await stage.ask("a", "new", room=1000)).grants

    assert grants[1].count + more[1].count == 10
    assert more[0].count == 1000


async def test_idle_days_take_warmth_away(stage: Stage) -> None:
    for _ in range(3):
        await use_up(stage)
        await stage.to_midnight()
    await stage.pass_by(5 * DAY)  # five without mail, three are forgiven

    assert await use_up(stage) == 20


async def test_default_schedule_is_what_it_says() -> None:
    days = DEFAULT_WARMUP.days
    assert days[0] == 50
    assert all(1.3 < later / day < 1.6 for day, later in itertools.pairwise(days))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30), st.booleans()), max_size=60)
)
async def test_no_sequence_exceeds_an_allowance(
    shared_server: Server, steps: list[tuple[int, int, bool]]
) -> None:
    """Whoever asks, gives back, and lets nights pass: what is out never exceeds the day's number."""
    async with open_stage(shared_server) as stage:
        out: dict[int, int] = {}
        for room, back, night in steps:
            today = int(stage.clock.now // (DAY * 1000))
            granted = await stage.count("new", room=room)
            unused = min(back, granted)
            stage.gates.refund(LIMITS, "default", {"new": unused}, {"new": 1})
            await stage.hear("new", delivered=granted - unused)
            out[today] = out.get(today, 0) + granted - unused
            warmup = (await stage.see("new")).warmup
            assert warmup is not None
            assert warmup.allowance is None or out[today] <= warmup.allowance
            assert warmup.used == out[today]
            if night:
                await stage.to_midnight()


NIGHTS = st.tuples(
    st.integers(0, 45), st.sampled_from(["", "throttled", "blocked"]), st.integers(1, 6)
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(days=st.lists(NIGHTS, min_size=1, max_size=12))
async def test_what_is_shown_of_a_new_day_is_what_the_gate_finds(
    shared_server: Server, days: list[tuple[int, str, int]]
) -> None:
    """A record says how it was when it was written; what is shown of it is as the script will have it."""
    async with open_stage(shared_server) as stage:
        for room, bad, nights in days:
            sent = await stage.count("new", room=room)
            await stage.hear("new", delivered=sent, **{bad: 1} if bad else {})
            today = (await stage.see("new")).warmup
            for _ in range(nights):
                await stage.to_midnight()
            shown = (await stage.see("new")).warmup
            await stage.hear("new")  # rolls the day
            assert shown == (await stage.see("new")).warmup
            if nights == 1 and today and shown and today.used * 2 >= (today.allowance or 0):
                is_as_said = shown.allowance == today.next_allowance
                assert is_as_said or bad == "throttled"  # a bad day, by its share of throttles


async def test_first_day_is_shown_before_anything_is_sent(stage: Stage) -> None:
    now = stage.clock.now / 1000

    first = stage.standings.begin(SITE, "new", now)

    assert (first.score, first.evidence, first.quarantine) == (0.5, 0, None)
    assert first.warmup is not None
    assert (first.warmup.day, first.warmup.allowance, first.warmup.used) == (1, 10, 0)
    assert first.warmup.next_allowance == 20
    assert first.warmup.next_day % DAY == 0
    assert 0 < first.warmup.next_day - now <= DAY
    assert stage.standings.begin(SITE, "a", now).warmup is None


async def test_pace_that_is_used_up_is_shown_to_open_when_the_gate_lets_one_go(
    stage: Stage,
) -> None:
    await stage.hear(throttled=1)
    await stage.pass_by(2)  # the rest after it
    while await stage.count():
        pass

    opens = (await stage.see()).pace_opens

    await stage.clock.set(opens * 1000 - 50)
    assert await stage.count() == 0
    await stage.clock.set(opens * 1000 + 50)
    assert (await stage.see()).pace_opens == 0
    assert await stage.count() == 1


async def test_a_probe_that_is_out_is_shown(stage: Stage) -> None:
    await stage.hear(blocked=1, why="listed")
    await stage.pass_by(1801)
    quarantine = (await stage.see()).quarantine
    assert quarantine is not None
    assert quarantine.probe_until == 0

    assert await stage.count() == 1

    quarantine = (await stage.see()).quarantine
    assert quarantine is not None
    assert quarantine.probe_until == stage.clock.now / 1000 + 60
    assert (quarantine.probed, quarantine.why) == (0, "listed")


# -- tenants ----------------------------------------------------------------------------------


async def test_a_tenant_is_put_off_whatever_the_source(stage: Stage) -> None:
    put_off = [PutOff("acme", why="421 DKIM domain")]
    (change,) = await stage.standings.report(SITE, [], put_off)
    assert (change.kind, change.tenant, change.rest) == ("put_off", "acme", 60)

    assert (await stage.ask("a")).put_off == {"acme": 60}
    assert await stage.standings.report(SITE, [], put_off) == []  # the same, still under way
    await stage.pass_by(61)
    assert (await stage.ask("b")).put_off == {}
    (change,) = await stage.standings.report(SITE, [], put_off)
    assert change.rest == 120


async def test_sites_with_something_to_tell_are_listed(stage: Stage) -> None:
    await stage.standings.report("quiet.example", [Report("a", delivered=5)])
    await stage.hear(throttled=1)

    assert await stage.standings.list_sites() == [SITE]


# -- always -----------------------------------------------------------------------------------

counts = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 50)
        for name in (
            "delivered",
            "throttled",
            "crowded",
            "blocked",
            "unknown",
            "content",
            "complaints",
        )
    },
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.tuples(counts, st.floats(0, 1e5)), max_size=40))
async def test_no_news_lead_out_of_bounds(
    shared_server: Server, steps: list[tuple[dict[str, int], float]]
) -> None:
    async with open_stage(shared_server) as stage:
        for news, seconds in steps:
            await stage.hear(**news)
            await stage.count(room=3)
            await stage.pass_by(seconds)
            standing = await stage.see()
            assert 0 < standing.score < 1
            assert standing.pace is None or 1 / 60 <= standing.pace <= 1e6
            assert standing.connections is None or standing.connections >= 1
            assert standing.quarantine is None or standing.quarantine.count >= 1


def test_reputation_has_sane_defaults() -> None:
    settings: Callable[[], Reputation] = Reputation
    assert settings().quarantine[0] == 1800
