"""The waits between attempts, and expiry."""

import pytest

from workers.schedule import is_expired, next_wait

RETRY = (60.0, 300.0, 900.0)


@pytest.mark.parametrize(
    ("attempts", "wait"), [(1, 60), (2, 300), (3, 900), (4, 900), (1000, 900), (0, 60)]
)
def test_waits_follow_the_list_and_the_last_repeats(attempts: int, wait: float) -> None:
    assert next_wait(RETRY, attempts, 0.5) == pytest.approx(wait)


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 90), (0.5, 100), (1.0, 110)])
def test_wait_is_spread_by_a_tenth_either_way(chance: float, wait: float) -> None:
    assert next_wait([100.0], 1, chance) == pytest.approx(wait)


@pytest.mark.parametrize(("now", "expired"), [(1000, False), (1099, False), (1100, True)])
def test_message_expires_when_its_time_is_over(now: float, expired: bool) -> None:
    assert is_expired(1000, now, 100) is expired
