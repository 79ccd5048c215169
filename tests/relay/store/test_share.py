"""A tenant's share: what is counted within a window, when it is slowed or held, and until when."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config.schema import TenantShare
from relay.config.units import Seconds
from relay.store.keys import WAKE_CHANNEL
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.share import Counts, Shares, State
from tests.kit.clock import Clock, use_virtual_time
from tests.kit.redis import Server

DAY = 86_400
SLOT = DAY / 24
SETTINGS = TenantShare(
    at_least=100, slow_unknown=0.1, slow_content=0.2, slow_complaints=0.002, hold_unknown=0.3
)


@pytest.fixture
def shares(link: Link, clock: Clock) -> Shares:
    return Shares(link, SETTINGS)


async def look(shares: Shares, tenant: str = "acme") -> State:
    return (await shares.read([tenant]))[tenant]


async def settle(shares: Shares, tenant: str = "acme") -> State:
    return (await shares.settle([tenant]))[tenant]


# -- counting


async def test_nothing_is_known_of_who_has_sent_nothing(shares: Shares) -> None:
    assert await look(shares) == State()
    assert await shares.read([]) == {}


async def test_sums_add_up_by_tenant(shares: Shares) -> None:
    await shares.add("acme", Counts(tried=5, unknown=1))
    await shares.add("other", Counts(tried=50, content=2))
    await shares.add("acme", Counts(tried=2, complaints=1))

    states = await shares.read(["acme", "other", "third"])

    assert states["acme"].counts == Counts(7, 1, 0, 1)
    assert states["other"].counts == Counts(50, 0, 2, 0)
    assert states["third"].counts == Counts()


async def test_many_tenants_at_once(shares: Shares, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.store.share._BATCH", 3)
    names = [f"t{number}" for number in range(100)]
    for number, name in enumerate(names):
        await shares.add(name, Counts(tried=number))

    states = await shares.settle(names)

    assert [states[name].counts.tried for name in names] == list(range(100))


async def test_the_window_slides(shares: Shares, clock: Clock) -> None:
    await shares.add("acme", Counts(tried=10))
    await clock.pass_by(DAY - SLOT)
    await shares.add("acme", Counts(tried=1))
    assert (await look(shares)).counts.tried == 11
    await clock.pass_by(2 * SLOT)  # a slot is let go as a whole: so much too late at most
    assert (await look(shares)).counts.tried == 1
    await clock.pass_by(DAY)
    assert (await look(shares)).counts.tried == 0


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(
            st.floats(0, 30 * 3600),
            st.builds(Counts, *[st.integers(0, 1_000_000)] * 4),
        ),
        max_size=20,
    ),
    two=st.lists(st.booleans(), min_size=20, max_size=20),
)
async def test_what_is_in_the_window_is_counted_whoever_adds_it(
    shared_server: Server, steps: Sequence[tuple[float, Counts]], two: Sequence[bool]
) -> None:
    shared_server.fresh()
    with pytest.MonkeyPatch.context() as patch:
        use_virtual_time(patch)
        links = [make_link(shared_server.url, timeout=10) for _ in range(2)]
        try:
            clock = Clock(links[0])
            await clock.set(clock.now)
            workers = [Shares(link, SETTINGS) for link in links]
            done: list[tuple[int, Counts]] = []
            for (gap, counts), which in zip(steps, two, strict=False):
                await clock.pass_by(gap)
                done.append((clock.now, counts))
                state = await workers[which].add("acme", counts)
                seen = await look(workers[not which])
                assert seen.counts == state.counts
                assert (seen.state, seen.reason) == (state.state, state.reason) or state.changed
                certain = [c for at, c in done if clock.now - at < DAY * 1000]
                possible = [c for at, c in done if clock.now - at < (DAY + SLOT) * 1000]
                for number, count in enumerate(state.counts):
                    assert sum(c[number] for c in certain) <= count
                    assert count <= sum(c[number] for c in possible)
        finally:
            for link in links:
                await link.aclose()


# -- what follows


@pytest.mark.parametrize(
    ("counts", "state", "reason"),
    [
        (Counts(99, 99), "", ""),
        (Counts(100, 9, 19, 0), "", ""),
        (Counts(1000, 100), "slow", "unknown users 10 % of 1,000 in 1d: slowed at 10 %"),
        (Counts(100, content=25), "slow", "content refused 25 % of 100 in 1d: slowed at 20 %"),
        (
            Counts(30_000, complaints=93),
            "slow",
            "complaints 0.31 % of 30,000 in 1d: slowed at 0.2 %",
        ),
        (Counts(1000, 123, 205), "slow", "unknown users 12.3 % of 1,000 in 1d: slowed at 10 %"),
        (Counts(200, 61), "hold", "unknown users 30.5 % of 200 in 1d: held at 30 %"),
        (Counts(100, content=100), "slow", "content refused 100 % of 100 in 1d: slowed at 20 %"),
        (Counts(complaints=1000), "", ""),
    ],
)
async def test_shares_slow_or_hold(shares: Shares, counts: Counts, state: str, reason: str) -> None:
    found = await shares.add("acme", counts)
    assert (found.state, found.reason) == (state, reason)
    assert found.changed is bool(state)


async def test_a_day_that_adds_up_slowly(shares: Shares) -> None:
    states = [(await shares.add("acme", Counts(50, 10))).state for _ in range(3)]
    assert states == ["", "slow", "slow"]


async def test_only_one_is_told_that_it_has_changed(shares: Shares, server: Server) -> None:
    other = make_link(server.url, timeout=10)
    try:
        theirs = Shares(other, SETTINGS)
        changes = [
            (await one.add("acme", Counts(60, 12))).changed
            for one in (shares, theirs, shares, theirs)
        ]
        assert changes == [False, True, False, False]
        assert await look(shares) == await look(theirs)
        assert not (await settle(theirs)).changed
    finally:
        await other.aclose()


async def test_who_looks_changes_nothing(shares: Shares, clock: Clock) -> None:
    await shares.add("acme", Counts(1000, 150))
    await clock.pass_by(2 * DAY)
    state = await look(shares)
    assert (state.state, state.counts, state.changed) == ("slow", Counts(), False)
    assert (await settle(shares)).changed


async def test_it_is_slowed_until_the_share_is_well_below(shares: Shares, clock: Clock) -> None:
    begun = clock.now / 1000
    await shares.add("acme", Counts(1000, 110))
    await clock.pass_by(60)
    state = await shares.add("acme", Counts(300))  # 8.5 %: below its threshold, above 8 %
    assert (state.state, state.since) == ("slow", begun)
    assert state.reason == "unknown users 11 % of 1,000 in 1d: slowed at 10 %"

    state = await shares.add("acme", Counts(100))

    assert (state.state, state.changed, state.since) == ("", True, begun + 60)
    assert state.reason == "unknown users 7.86 % of 1,400 in 1d"
    state = await look(shares)
    assert (state.state, state.reason) == ("", "")


async def test_another_share_that_is_too_large_keeps_it_slow(shares: Shares) -> None:
    await shares.add("acme", Counts(1000, 110))
    assert (await shares.add("acme", Counts(1000, 0, 350))).state == "slow"


async def test_from_slow_to_hold_and_not_back_to_slow(shares: Shares) -> None:
    await shares.add("acme", Counts(100, 11))
    state = await shares.add("acme", Counts(100, 60))
    assert (state.state, state.changed) == ("hold", True)
    state = await shares.add("acme", Counts(200, 0))  # 17.75 %
    assert (state.state, state.changed) == ("hold", False)
    assert (await shares.add("acme", Counts(1000, 0))).state == ""


async def test_what_is_held_ends_when_the_window_has_gone(shares: Shares, clock: Clock) -> None:
    await shares.add("acme", Counts(1000, 400))
    await clock.pass_by(DAY - SLOT)
    assert (await settle(shares)).state == "hold"
    await clock.pass_by(2 * SLOT)
    state = await settle(shares)
    assert (state.state, state.changed) == ("", True)
    assert state.reason == "unknown users 0 % of 0 in 1d"
    assert not (await settle(shares)).changed


async def test_an_operator_forgets_it(shares: Shares) -> None:
    await shares.add("acme", Counts(1000, 400))
    await shares.add("other", Counts(1000, 400))
    await shares.clear("acme")
    assert await settle(shares) == State()
    assert (await look(shares, "other")).state == "hold"


async def test_a_threshold_of_nothing_is_none(link: Link, clock: Clock) -> None:
    never = TenantShare(at_least=1, slow_unknown=0, slow_content=0, slow_complaints=0)
    assert (await Shares(link, never).add("acme", Counts(9, 9, 9, 9))).state == ""
    # ... also when it was one before the last restart.
    await Shares(link, SETTINGS).add("other", Counts(1000, 200))
    assert (await settle(Shares(link, never), "other")).state == ""


async def test_a_hold_without_a_threshold_for_slow_ends_below_its_own(
    link: Link, clock: Clock
) -> None:
    only = TenantShare(at_least=100, slow_content=0, hold_content=0.5)
    shares = Shares(link, only)
    assert (await shares.add("acme", Counts(100, content=50))).state == "hold"
    assert (await shares.add("acme", Counts(20))).state == "hold"  # 41.7 %
    assert (await shares.add("acme", Counts(10))).state == ""  # 38.5 %


async def test_another_window_begins_anew(link: Link, clock: Clock) -> None:
    await Shares(link, SETTINGS).add("acme", Counts(tried=10))
    hour = Shares(link, TenantShare(window=Seconds(3600)))
    assert (await hour.add("acme", Counts(tried=1))).counts.tried == 1
    assert (await look(Shares(link, SETTINGS))).counts.tried == 10


@pytest.mark.parametrize(("seconds", "text"), [(5400, "90m"), (3600, "1h"), (86_461.5, "86462s")])
async def test_the_window_is_told(link: Link, clock: Clock, seconds: float, text: str) -> None:
    shares = Shares(link, TenantShare(window=Seconds(seconds)))
    assert f" in {text}: " in (await shares.add("acme", Counts(1000, 200))).reason


async def test_workers_hear_of_it(shares: Shares, server: Server) -> None:
    with server.client() as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(WAKE_CHANNEL)
        assert listener.get_message(timeout=5) is None  # that we listen
        await shares.add("acme", Counts(1000, 1))
        await shares.add("acme", Counts(1000, 999))
        heard = listener.get_message(timeout=5)
        assert heard is not None
        assert heard["data"] == b"suspensions"
        await shares.add("acme", Counts(1, 1))
        assert listener.get_message(timeout=0.1) is None
        await shares.clear("acme")
        assert listener.get_message(timeout=5) is not None


async def test_nothing_is_kept_for_ever(shares: Shares, server: Server) -> None:
    await shares.add("acme", Counts(1000, 999))
    with server.client() as client:
        (key,) = [key for key in client.scan_iter() if b":share:" in key]
        assert 2 * DAY <= client.ttl(key) <= 3 * DAY
