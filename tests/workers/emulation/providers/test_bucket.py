"""Never more than the limit, over any time; never less than it, for who asks often enough."""

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.units import parse_rates
from workers.emulation.providers.bucket import Buckets, find_burst

RATES = st.sampled_from(["1/s", "10/s burst 3", "90/m", "7/m burst 40", "50/h", ["5/s", "100/h"]])
WAITS = st.lists(st.floats(0, 30) | st.just(0.0), max_size=200)


@settings(deadline=None)
@given(written=RATES, waits=WAITS)
def test_no_window_holds_more_than_rate_and_burst(
    written: str | list[str], waits: list[float]
) -> None:
    rates, buckets = parse_rates(written), Buckets()
    taken = [now for now in accumulate(waits) if buckets.take(rates, now)]

    for rate in rates.windows:
        for first in range(len(taken)):
            for last in range(first, len(taken)):
                most = (taken[last] - taken[first]) * rate.count / rate.seconds + find_burst(rate)
                assert last - first + 1 <= most + 1e-6


@pytest.mark.parametrize("written", ["10/s burst 3", "7/m burst 4", "3600/h"])
def test_who_asks_all_the_time_gets_all_of_it(written: str) -> None:
    rates, buckets = parse_rates(written), Buckets()
    rate = rates.windows[0]

    taken = sum(buckets.take(rates, tick / 50) for tick in range(50 * 600))

    assert taken == pytest.approx(600 * rate.count / rate.seconds + find_burst(rate), abs=1)


def test_what_one_bucket_refuses_is_not_taken_from_the_other() -> None:
    rates, buckets = parse_rates(["1/s burst 1", "3/h"]), Buckets()

    assert [buckets.take(rates, 0.0) for _ in range(9)] == [True, *[False] * 8]
    assert [buckets.take(rates, now) for now in (1.0, 2.0, 3.0)] == [True, True, False]


def test_a_new_rate_holds_at_once() -> None:
    buckets = Buckets()
    fast, slow = parse_rates("100/s burst 100"), parse_rates("1/s burst 2")
    assert buckets.take(fast, 0.0)

    assert [buckets.take(slow, 0.0) for _ in range(3)] == [True, True, False]
