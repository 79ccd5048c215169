from hypothesis import given
from hypothesis import strategies as st

from relay.scan.breaker import FIRST_PAUSE, LONGEST_PAUSE, Attempt, Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def begin(breaker: Breaker) -> Attempt:
    attempt = breaker.begin()
    assert attempt is not None
    return attempt


def open_breaker(clock: Clock, failures: int = 3) -> Breaker:
    breaker = Breaker(failures=failures, clock=clock)
    told = [breaker.fail(begin(breaker)) for _ in range(failures)]
    assert told == [False] * (failures - 1) + [True]
    return breaker


def test_failures_in_a_row_open_it_for_a_while() -> None:
    clock = Clock()
    breaker = open_breaker(clock)

    assert breaker.is_open
    clock.now = FIRST_PAUSE - 0.01
    assert breaker.begin() is None
    clock.now = FIRST_PAUSE
    assert breaker.begin() is not None


def test_an_answer_between_two_failures_ends_the_row() -> None:
    breaker = Breaker(failures=2, clock=Clock())
    for _ in range(5):
        assert not breaker.fail(begin(breaker))
        assert not breaker.succeed()

    assert not breaker.is_open


def test_half_open_lets_one_through_at_a_time() -> None:
    clock = Clock()
    breaker = open_breaker(clock)
    clock.now = 10
    begin(breaker)

    assert breaker.begin() is None
    assert not breaker.is_passable

    assert breaker.succeed()  # closed again
    assert breaker.begin()
    assert breaker.begin()


def test_what_was_given_up_leaves_the_turn_to_another() -> None:
    clock = Clock()
    breaker = open_breaker(clock)
    clock.now = 10
    breaker.abandon(begin(breaker))

    assert breaker.begin() is not None


def test_each_failed_trial_doubles_the_pause_up_to_a_minute() -> None:
    clock = Clock()
    breaker = open_breaker(clock)
    pauses = []
    for _ in range(8):
        start = clock.now
        while (attempt := breaker.begin()) is None:
            clock.now += 0.5
        pauses.append(clock.now - start)
        assert not breaker.fail(attempt)  # it was open already: nothing new to tell

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_after_an_answer_the_pause_is_short_again() -> None:
    clock = Clock()
    breaker = open_breaker(clock)
    clock.now = 10
    breaker.fail(begin(breaker))
    clock.now = 20
    begin(breaker)
    breaker.succeed()
    for _ in range(3):
        breaker.fail(begin(breaker))

    clock.now += FIRST_PAUSE
    assert breaker.begin() is not None


def test_late_failures_do_not_lengthen_the_pause() -> None:
    clock = Clock()
    breaker = Breaker(failures=3, clock=clock)
    attempts = [begin(breaker) for _ in range(8)]
    told = [breaker.fail(attempt) for attempt in attempts]

    assert told == [False, False, True, False, False, False, False, False]
    clock.now = FIRST_PAUSE
    assert breaker.begin() is not None


def test_a_late_failure_does_not_take_the_trials_place() -> None:
    clock = Clock()
    breaker = Breaker(failures=2, clock=clock)
    late = begin(breaker)
    for _ in range(2):
        breaker.fail(begin(breaker))
    clock.now = 1
    begin(breaker)
    breaker.fail(late)
    breaker.abandon(late)

    assert breaker.begin() is None


def test_a_late_answer_closes_it() -> None:
    clock = Clock()
    breaker = Breaker(failures=2, clock=clock)
    begin(breaker)
    for _ in range(2):
        breaker.fail(begin(breaker))

    assert breaker.succeed()
    assert not breaker.is_open


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "succeed", "fail", "abandon"]),
        st.integers(0, 9),
        st.floats(0, 70),
    ),
    max_size=80,
)


@given(steps=STEPS)
def test_whatever_happens(steps: list[tuple[str, int, float]]) -> None:
    clock = Clock()
    breaker = Breaker(failures=3, clock=clock)
    running: list[tuple[Attempt, bool]] = []  # and whether it is a trial
    for step, number, seconds in steps:
        clock.now += seconds
        if step == "begin":
            was_open = breaker.is_open
            if attempt := breaker.begin():
                running.append((attempt, was_open))
        elif running:
            attempt, _ = running.pop(number % len(running))
            was_open = breaker.is_open
            if step == "succeed":
                assert breaker.succeed() is was_open
                assert not breaker.is_open
                running = [(one, False) for one, _ in running]
            elif step == "fail":
                assert breaker.fail(attempt) is (not was_open and breaker.is_open)
            else:
                breaker.abandon(attempt)
                assert breaker.is_open is was_open
        if breaker.is_open:
            assert sum(trial for _, trial in running) <= 1

    # It never shuts for good.
    for attempt, _ in running:
        breaker.abandon(attempt)
    clock.now += LONGEST_PAUSE
    assert breaker.begin() is not None
