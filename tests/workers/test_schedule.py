"""The waits between attempts, and expiry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.schedule import LEAST_HINT, MOST_HINT, TRUSTED_HINTS, is_expired, next_wait

RETRY = (60.0, 300.0, 900.0)
chances = st.floats(0, 1)
hints = st.floats(0, 1e9)


@pytest.mark.parametrize(
    ("attempts", "wait"), [(1, 60), (2, 300), (3, 900), (4, 900), (1000, 900), (0, 60)]
)
def test_waits_follow_the_list_and_the_last_repeats(attempts: int, wait: float) -> None:
    assert next_wait(RETRY, attempts, 0.5) == pytest.approx(wait)


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 90), (0.5, 100), (1.0, 110)])
def test_wait_is_spread_by_a_tenth_either_way(chance: float, wait: float) -> None:
    assert next_wait([100.0], 1, chance) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("hint", "chance", "wait"),
    [
        (300, 0.0, 300),
        (300, 1.0, 330),
        (5, 0.0, 5),
        (0, 0.0, 1),
        (0.2, 1.0, 1.1),
        (86_400, 0.5, 14_400),
        (14_400, 1.0, 14_400),
    ],
)
def test_hint_takes_the_place_of_the_schedule(hint: float, chance: float, wait: float) -> None:
    assert next_wait(RETRY, 1, chance, hint) == pytest.approx(wait)


@given(st.integers(1, 50), chances, hints)
def test_hint_is_kept_within_bounds(attempts: int, chance: float, hint: float) -> None:
    wait = next_wait(RETRY, attempts, chance, hint)

    assert LEAST_HINT <= wait <= MOST_HINT
    assert wait >= min(hint, MOST_HINT)  # never sooner than the host has asked for


@given(st.integers(TRUSTED_HINTS + 1, 50), chances, hints)
def test_host_that_repeats_itself_does_not_shorten_the_schedule(
    attempts: int, chance: float, hint: float
) -> None:
    assert next_wait(RETRY, attempts, chance, hint) >= next_wait(RETRY, attempts, chance)


@pytest.mark.parametrize(("now", "expired"), [(1000, False), (1099, False), (1100, True)])
def test_message_expires_when_its_time_is_over(now: float, expired: bool) -> None:
    assert is_expired(1000, now, 100) is expired
