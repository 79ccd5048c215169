"""Each rule of an emulated provider, on a clock that the test moves."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.receivers import A, B, Play, code_of

DAY = 86400
ESCALATION = {"penalty": "60s", "factor": 2.0, "maximum": "10m", "grace": "5s"}


def test_who_keeps_to_the_rate_hears_nothing_of_it() -> None:
    play = Play(rate="2/s burst 1")
    for _ in range(100):
        assert play.send() == 250
        play.clock.now += 0.5

    assert play.provider.total().throttled == 0
    assert play.provider.books[A].accepted == 100


def test_each_address_has_a_rate_of_its_own() -> None:
    play = Play(rate="2/s burst 2", style="yahoo")

    assert play.burst(3) == [250, 250, 421]
    assert play.burst(3, B) == [250, 250, 421]
    play.clock.now += 0.5
    assert play.burst(2) == [250, 421]


# -- patience


def test_a_penalty_ends_by_waiting() -> None:
    play = Play(rate="10/s burst 1", escalation=ESCALATION)
    assert play.burst(2)[1] in (450, 451)

    play.clock.now += 59.9
    assert play.provider.limits(A).penalised_until == pytest.approx(play.clock.now + 0.1)
    assert play.provider.limits(B).penalised_until == 0
    play.clock.now += 0.2
    assert play.send() == 250


def test_what_is_on_its_way_already_is_not_held_against_anybody() -> None:
    play = Play(rate="10/s burst 1", escalation=ESCALATION, block={"after": 1})
    play.burst(30)
    play.clock.now += 4.9
    play.burst(30)

    assert play.provider.total().penalties == 1
    assert play.provider.limits(A).penalised_until == pytest.approx(play.clock.now + 60 - 4.9)


def test_ignored_penalties_get_longer_up_to_a_maximum() -> None:
    play = Play(rate="10/s burst 1", escalation=ESCALATION)
    play.burst(2)
    lengths = []
    for _ in range(6):
        play.clock.now += 6
        play.send()
        lengths.append(play.provider.limits(A).penalised_until - play.clock.now)

    assert lengths == pytest.approx([120, 240, 480, 600, 600, 600])


def test_penalties_are_forgotten() -> None:
    play = Play(rate="10/s burst 1", escalation=ESCALATION | {"forgiveness": "1h"})
    play.burst(2)
    play.clock.now += 10
    play.send()
    play.clock.now += 3500
    play.burst(2)
    assert play.provider.limits(A).penalised_until - play.clock.now == pytest.approx(120)

    play.clock.now += 3601
    play.burst(2)
    assert play.provider.limits(A).penalised_until - play.clock.now == pytest.approx(60)


def test_ignoring_penalties_ends_in_a_block_that_ends_by_itself() -> None:
    play = Play(
        rate="10/s burst 1", escalation=ESCALATION, block={"after": 3, "lasts": "4h"}, style="yahoo"
    )
    play.burst(2)
    for _ in range(3):
        play.clock.now += 6
        assert play.send() == 421
    blocked_until = play.provider.limits(A).blocked_until

    assert blocked_until == play.clock.now + 4 * 3600
    assert play.send() == 553
    assert play.send(B) == 250
    play.clock.now = blocked_until - 1
    assert play.send() == 553
    play.clock.now = blocked_until
    assert play.send() == 250
    books = play.provider.books[A]
    assert (books.blocks, books.blocked, books.throttled) == (1, 2, 4)


def block(play: Play) -> float:
    """Provoke a block; return how long it is."""
    play.burst(2)
    while not (until := play.provider.limits(A).blocked_until):
        play.clock.now += 6
        play.send()
    return until - play.clock.now


def test_each_block_is_longer_until_it_is_forgiven() -> None:
    rules = {"after": 2, "lasts": "1h", "factor": 3.0, "maximum": "8h", "forgiveness": "2d"}
    play = Play(rate="10/s burst 1", escalation=ESCALATION, block=rules)
    lengths = []
    for rest in (0, 0, 0, 3 * 86400):
        lengths.append(block(play) / 3600)
        play.clock.now = play.provider.limits(A).blocked_until + rest + 3601
    lengths.append(block(play) / 3600)

    assert lengths == pytest.approx([1, 3, 8, 8, 1])


def test_a_block_can_be_made_longer_by_knocking() -> None:
    rules = {"after": 1, "lasts": "1h", "maximum": "90m", "each_attempt": "10m"}
    play = Play(rate="10/s burst 1", escalation=ESCALATION, block=rules)
    block(play)
    begun = play.clock.now
    play.burst(2)
    assert play.provider.limits(A).blocked_until == begun + 80 * 60

    play.burst(20)
    assert play.provider.limits(A).blocked_until == begun + 90 * 60


def test_a_block_meets_connections_where_it_is_said_so() -> None:
    play = Play(
        blocked=[{"address": A, "at": "1h", "lasts": "2h"}],
        block={"at": "connect", "permanent": False},
        style="google",
    )
    assert play.provider.open(A) is None
    visit = play.provider.visit(A)
    play.clock.now += 3600

    assert code_of(play.provider.open(A)) == 421
    assert code_of(visit.mail(b"a@acme.test")) == 421
    assert visit.hangs_up
    assert play.provider.open(B) is None
    assert play.provider.limits(A).blocked_until == play.clock.now + 7200
    play.clock.now += 7200
    assert play.provider.open(A) is None
    assert play.provider.books[A].blocks == 0  # it did nothing to deserve it


# -- connections


def test_connections_are_counted_while_they_are_open() -> None:
    play = Play(connections=2, style="microsoft")
    assert [code_of(play.provider.open(A)) for _ in range(3)] == [250, 250, 421]
    assert play.provider.open(B) is None
    visit = play.provider.visit(A)
    visit.close()
    visit.close()

    assert play.provider.count_open(A) == 1
    assert play.provider.open(A) is None
    play.provider.close(A)
    play.provider.close(A)
    play.provider.close(A)
    assert play.provider.count_open(A) == 0
    assert play.provider.books[A].refused_connections == 1


def test_a_connection_has_so_many_messages() -> None:
    play = Play(messages_per_connection=2, style="yahoo")
    play.provider.open(A)
    visit = play.provider.visit(A)
    for _ in range(2):
        assert visit.mail(b"a@acme.test") is None
        assert visit.rcpt(b"b@big.test") is None
        assert visit.finish(100) is None
    refusal = visit.mail(b"a@acme.test")

    assert refusal is not None
    assert refusal.text == "Max message per connection reached, closing transmission channel"
    assert visit.hangs_up
    assert play.provider.books[A].over_connection == 1
    assert [play.send() for _ in range(5)] == [250] * 5  # without a connection there is no count


def test_a_message_has_so_many_recipients() -> None:
    play = Play(recipients_per_message=2)
    visit = play.provider.visit(A)
    visit.mail(b"a@acme.test")

    assert [code_of(visit.rcpt(b"r%d@big.test" % n)) for n in range(4)] == [250, 250, 452, 452]
    assert not visit.hangs_up
    visit.finish(100)
    assert play.provider.books[A].delivered == 2


def test_tls_can_be_required() -> None:
    play = Play(tls="required", style="google")

    refusal = play.provider.visit(A, tls=False).mail(b"a@acme.test")
    assert refusal is not None
    assert refusal.status == "4.7.29"
    assert play.provider.visit(A, tls=True).mail(b"a@acme.test") is None
    assert Play().provider.visit(A, tls=False).mail(b"a@acme.test") is None


def test_large_messages_are_refused() -> None:
    play = Play(max_message="1KiB")
    visit = play.provider.visit(A)
    for size, code in ((1024, 250), (1025, 552)):
        visit.mail(b"a@acme.test")
        visit.rcpt(b"b@big.test")
        assert code_of(visit.finish(size)) == code


# -- people


def test_the_same_people_are_always_unknown() -> None:
    play, other = Play(unknown=0.1), Play(unknown=0.1, seed=77)
    names = [b"r%d@big.test" % number for number in range(2000)]
    unknown = {name for name in names if play.send(to=name) == 550}

    assert len(unknown) == pytest.approx(200, abs=60)
    assert {name for name in names if other.send(B, to=name.upper()) == 550} == unknown
    assert play.provider.total().unknown == len(unknown)


def test_greylisting_wants_to_be_asked_again_but_not_at_once() -> None:
    play = Play(greylist={"delay": "5m", "wait": "1h", "memory": "1d"})
    to = b"b@big.test"
    assert play.send(to=to) in (450, 451)
    play.clock.now += 299
    assert play.send(to=to) in (450, 451)
    play.clock.now += 1
    assert play.send(to=to) == 250
    assert play.send(B, to=to) in (450, 451)  # another address has to show patience of its own
    assert play.send(to=to, sender=b"c@acme.test") in (450, 451)

    play.clock.now += 86399
    assert play.send(to=to) == 250
    play.clock.now += 86400
    assert play.send(to=to) in (450, 451)
    play.clock.now += 3600  # nobody came back within the time
    assert play.send(to=to) in (450, 451)


def test_who_came_back_often_is_trusted() -> None:
    play = Play(greylist={"delay": "1m", "trust_after": 3})
    names = [b"r%d@big.test" % number for number in range(3)]
    for name in names:
        play.send(to=name)
    play.clock.now += 60
    assert [play.send(to=name) for name in names] == [250] * 3

    assert play.send(to=b"new@big.test") == 250
    assert play.send(B, to=b"new@big.test") != 250


def test_some_of_it_is_spam() -> None:
    play = Play(spam=0.2)
    codes = Counter(play.burst(1000))

    assert codes[554] == play.provider.total().spam == pytest.approx(200, abs=50)
    refusal = Play().provider.send(A, b"a@acme.test", b"b@big.test", spam=True)
    assert code_of(refusal) == 554


def test_people_complain_later_and_more_about_some() -> None:
    play = Play(
        complaints={"share": 0.01, "delay": "1h", "senders": {"Spam.Test": 0.5, "good.test": 0}}
    )
    for sender in (b"a@acme.test", b"x@spam.test", b"y@GOOD.test"):
        for _ in range(1000):
            play.send(sender=sender)
    assert play.provider.take_complaints() == []
    play.clock.now += 86400

    complaints = play.provider.take_complaints()
    by_sender = Counter(complaint.sender for complaint in complaints)
    assert by_sender[b"x@spam.test"] == pytest.approx(500, abs=80)
    assert by_sender[b"a@acme.test"] == pytest.approx(10, abs=10)
    assert by_sender[b"y@GOOD.test"] == 0
    times = [complaint.at for complaint in complaints]
    assert times == sorted(times)
    assert sum(times) / len(times) - 5000 == pytest.approx(3600, rel=0.25)
    assert play.provider.take_complaints() == []
    assert play.provider.books[A].complaints == len(complaints)


def test_too_many_complaints_are_a_block_also_when_nobody_asks() -> None:
    play = Play(
        complaints={"share": 0.1, "delay": "10m"},
        block={"complaint_share": 0.03, "at_least": 10, "lasts": "6h"},
    )
    play.burst(500)
    assert not play.provider.limits(A).blocked_until
    play.clock.now += 7200

    # It began when the complaints came, not when somebody next looked.
    assert play.clock.now - 7200 + 6 * 3600 < play.provider.limits(A).blocked_until
    assert play.provider.limits(A).blocked_until < play.clock.now + 6 * 3600
    assert play.send() == 554
    assert play.send(B) == 250


def test_a_few_complaints_are_nothing() -> None:
    play = Play(
        complaints={"share": 0.1, "delay": "1s"}, block={"complaint_share": 0.03, "at_least": 10}
    )
    play.burst(40)
    play.clock.now += 3600

    assert 0 < play.provider.books[A].complaints < 10
    assert play.send() == 250


def test_complaints_of_long_ago_do_not_add_up() -> None:
    play = Play(
        complaints={"share": 1.0, "delay": 0}, block={"complaint_share": 0.03, "at_least": 10}
    )
    for _ in range(5):
        play.burst(6)
        play.clock.now += 4 * DAY
    assert not play.provider.limits(A).blocked_until
    play.burst(10)
    assert play.provider.limits(A).blocked_until


# -- allowances

ALLOWANCE = {"first": 100, "maximum": 1000, "growth": 2.0, "shrink": 0.5, "idle": "10d"}


def test_an_allowance_grows_with_good_days_up_to_a_maximum() -> None:
    play = Play(allowance=ALLOWANCE)
    taken = []
    for _ in range(6):
        taken.append(
            sum(code == 250 for code in play.burst(play.provider.limits(A).allowance_left))
        )
        assert play.provider.limits(A).allowance_left == 0
        play.clock.now += DAY

    assert taken == [100, 200, 400, 800, 1000, 1000]
    assert play.provider.limits(B).allowance_left == 100


def test_more_than_the_allowance_is_refused_until_the_next_day() -> None:
    play = Play(allowance=ALLOWANCE, style="google")

    assert Counter(play.burst(105)) == {250: 100, 421: 5}
    assert play.provider.books[A].over_allowance == 5
    play.clock.now += DAY
    assert play.send() == 250


def test_bad_days_shrink_it_and_quiet_days_leave_it() -> None:
    play = Play(allowance=ALLOWANCE)
    play.burst(100)
    play.clock.now += DAY
    assert play.provider.limits(A).allowance_left == 200
    play.burst(10)  # little mail, a day that says nothing
    play.clock.now += DAY
    assert play.provider.limits(A).allowance_left == 200
    play.burst(200)
    play.clock.now += DAY
    play.burst(500)  # 400 of them at most
    play.clock.now += DAY
    assert play.provider.limits(A).allowance_left == 200


def test_a_blocked_day_is_a_bad_one() -> None:
    play = Play(
        allowance=ALLOWANCE, blocked=[{"address": A, "at": "25h", "lasts": "1h"}], style="yahoo"
    )
    play.burst(100)
    play.clock.now += DAY
    play.burst(150)
    play.clock.now += 3601
    assert play.send() == 553
    play.clock.now += DAY
    assert play.provider.limits(A).allowance_left == 100


def test_warmth_is_lost() -> None:
    play = Play(allowance=ALLOWANCE | {"known": [B]})
    assert play.provider.limits(B).allowance_left == 1000
    play.burst(100)
    play.clock.now += 10 * DAY
    assert play.provider.limits(A).allowance_left == 200
    play.clock.now += DAY
    assert play.provider.limits(A).allowance_left == 100
    assert play.provider.limits(B).allowance_left == 100


def test_only_messages_that_were_taken_count_for_the_day() -> None:
    play = Play(allowance=ALLOWANCE)
    visit = play.provider.visit(A)
    for end in ("abandon", "mail", "spam", "close"):
        visit.mail(b"a@acme.test")
        if end == "spam":
            visit.rcpt(b"b@big.test")
            visit.finish(10, spam=True)
        elif end != "mail":
            getattr(visit, end)()
    assert play.provider.limits(A).allowance_left == 100

    visit = play.provider.visit(A)
    visit.mail(b"a@acme.test")
    play.clock.now += DAY
    play.send()
    visit.close()  # it began yesterday, and is none of today's
    assert play.provider.limits(A).allowance_left == 99


# -- all together


def test_limits_change_when_it_is_time() -> None:
    play = Play(
        rate="10/s burst 5",
        connections=4,
        changes=[
            {"at": "2h", "rate": "20/s burst 5", "connections": 0},
            {"at": "1h", "rate": "5/s burst 5"},
        ],
    )
    seen = []
    for _ in range(3):
        limits = play.provider.limits(A)
        seen.append((limits.rate, limits.connections))
        play.clock.now += 3600

    assert seen == [(10, 4), (5, 4), (20, None)]


def test_who_has_no_limits_says_so() -> None:
    limits = Play().provider.limits(A)

    assert math.isinf(limits.rate)
    assert (limits.burst, limits.connections, limits.allowance_left) == (0, None, None)
    assert limits.blocked_until == limits.penalised_until == 0


def test_replies_are_slow_to_who_annoys() -> None:
    play = Play(
        rate="1/s burst 1",
        latency="100ms",
        tarpit={"always": "1s", "penalty": "5s"},
        escalation=ESCALATION,
    )
    usual = [play.provider.draw_delay(A) for _ in range(500)]
    assert sum(usual) / 500 == pytest.approx(1.1, rel=0.05)
    play.burst(2)

    assert play.provider.draw_delay(A) > 6
    assert play.provider.draw_delay(B) < 6
    assert Play().provider.draw_delay(A) == 0


STEPS = st.lists(
    st.tuples(st.floats(0, 400), st.sampled_from([A, B]), st.integers(0, 30)), max_size=60
)
HARD = {
    "rate": "1/s burst 10",
    "unknown": 0.1,
    "spam": 0.05,
    "greylist": {"delay": "1m"},
    "escalation": ESCALATION,
    "block": {"after": 3, "lasts": "10m", "complaint_share": 0.1, "at_least": 2},
    "allowance": {"first": 50, "maximum": 500},
    "complaints": {"share": 0.2, "delay": "1m"},
    "latency": "1s",
}


def run(steps: list[tuple[float, str, int]], seed: int) -> tuple[list[object], object]:
    play = Play(seed=seed, **HARD)
    said: list[object] = []
    for wait, address, number in steps:
        play.clock.now += wait
        said.append(play.provider.send(address, b"a@acme.test", b"r%d@big.test" % number))
        said.append(play.provider.draw_delay(address))
        said += play.provider.take_complaints()
    return said, play.provider.books


@settings(deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1 << 32))
def test_the_same_seed_is_the_same_run(steps: list[tuple[float, str, int]], seed: int) -> None:
    assert run(steps, seed) == run(steps, seed)


@settings(deadline=None)
@given(steps=STEPS)
def test_every_attempt_is_counted_once_and_every_block_ends(
    steps: list[tuple[float, str, int]],
) -> None:
    play = Play(**HARD)
    for wait, address, number in steps:
        play.clock.now += wait
        play.send(address, to=b"r%d@big.test" % number)
    total = play.provider.total()
    assert len(steps) == total.mails + total.throttled + total.over_allowance + total.blocked
    assert total.mails == total.accepted + total.spam + total.unknown + total.greylisted

    play.clock.now += 30 * DAY
    for address in (A, B):
        limits = play.provider.limits(address)
        assert limits.blocked_until == limits.penalised_until == 0
        assert play.send(address) in (250, 450, 451, 550, 554)
