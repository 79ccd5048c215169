"""Behaviours alone: they are functions with a memory."""

import trio

from workers.emulation.behaviour import (
    Behaviour,
    make_flaky,
    make_greylisting,
    make_moody,
    make_picky,
    make_slow,
)


async def test_the_plain_one_takes_everything(autojump_clock: trio.testing.MockClock) -> None:
    behaviour = Behaviour()

    await behaviour.finish()

    assert behaviour.greet() is None
    assert behaviour.judge(b"a@acme.test", b"b@good.test") is None
    assert not behaviour.hang_up_in_content()
    assert not behaviour.hang_up_after_dot()
    assert trio.current_time() == 0


async def test_slow_takes_its_time(autojump_clock: trio.testing.MockClock) -> None:
    await make_slow(12.5).finish()

    assert trio.current_time() == 12.5


def test_greylisting_knows_pairs_not_addresses() -> None:
    judge = make_greylisting().judge

    assert judge(b"a@acme.test", b"x@grey.test").code == 451
    assert judge(b"b@acme.test", b"x@grey.test").code == 451
    assert judge(b"a@acme.test", b"y@grey.test").code == 451
    assert judge(b"a@acme.test", b"x@grey.test") is None


def test_picky_refuses_strangers() -> None:
    judge = make_picky(b"nobody").judge

    assert judge(b"", b"nobody9@picky.test").code == 550
    assert judge(b"", b"anna@picky.test") is None


def test_moody_counts_connections() -> None:
    greet = make_moody(every=3).greet

    assert [greet() is None for _ in range(7)] == [True, True, False, True, True, False, True]


def test_flaky_counts_its_two_ways_apart() -> None:
    behaviour = make_flaky(every=2)

    assert [behaviour.hang_up_in_content() for _ in range(4)] == [False, True, False, True]
    assert [behaviour.hang_up_after_dot() for _ in range(4)] == [False, False, False, True]
    assert behaviour.summary == "hangs up in every second message, or after it"
