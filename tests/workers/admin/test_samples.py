"""Differences of what was counted, in even steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.admin.samples import (
    STEPS,
    Grid,
    Reading,
    Sample,
    add,
    draw_flow,
    draw_last,
    make_reading,
    plan,
    subtract,
)

GRID = Grid(base=10, step=10, start=1000, count=3)


def test_reading_is_made_of_ledger_and_counters() -> None:
    ledger = {"accepted": 9, "delivered": 5, "bounced": 1, "queued": 3, "unknown": 0}
    counted = {
        "attempts": {("google", "a", "deferred"): 4, ("x", "b", "deferred"): 1, ("x", "b", "bounced"): 7},
        "messages": {("acme", "refused"): 2, ("", "refused"): 1, ("acme", "accepted"): 8},
        "tls_sessions": {
            ("in", "opportunistic", "TLSv1.3"): 3, ("in", "none", ""): 1,
            ("out", "verified", "TLSv1.3"): 5, ("out", "verified", "TLSv1.2"): 2,
            ("out", "opportunistic", "TLSv1.2"): 1, ("out", "none", ""): 6,
        },
    }  # fmt: skip

    reading = make_reading(5.0, ledger, counted)

    assert reading == Reading(
        5.0,
        {
            "accepted": 9, "delivered": 5, "bounced": 1, "deferred": 5, "refused": 3,
            "in TLSv1.3": 3, "in clear": 1, "out verified": 7, "out opportunistic": 1,
            "out clear": 6,
        },
        3,
    )  # fmt: skip


def test_difference_is_put_where_most_of_it_was() -> None:
    before, after = (
        Reading(1000.3, {"accepted": 5}, 1),
        Reading(1010.2, {"accepted": 9, "new": 2}, 7),
    )

    sample = subtract(before, after, 10)

    assert sample == Sample(1000, pytest.approx(9.9), {"accepted": 4, "new": 2}, 7)


def test_what_went_back_begins_anew() -> None:
    sample = subtract(Reading(0, {"accepted": 500}, 1), Reading(10, {"accepted": 3}, 7), 10)

    assert sample is not None
    assert sample.counts == {"accepted": 3}


@pytest.mark.parametrize("seconds", [0.0, -5.0, 61.0])
def test_what_is_too_far_apart_says_nothing(seconds: float) -> None:
    assert subtract(Reading(100, {}, 0), Reading(100 + seconds, {}, 0), 10) is None


def test_samples_add_up_to_longer_ones() -> None:
    both = add(Sample(1020, 10, {"a": 1, "b": 2}, 5), Sample(1070, 9, {"b": 3, "c": 4}, 6), 60)

    assert both == Sample(1020, 19, {"a": 1, "b": 5, "c": 4}, 6)
    assert add(None, both, 60) == both


def test_flow_is_told_in_rates_with_its_gaps() -> None:
    samples = [
        Sample(1000, 10.0, {"accepted": 20, "in TLSv1.3": 3, "out clear": 0}, 4),
        Sample(1020, 8.0, {"accepted": 4, "refused": 2, "in TLSv1.3": 1}, 5),
        Sample(1030, 10.0, {"accepted": 99}, 5),
        Sample(990, 10.0, {"accepted": 99}, 5),
    ]

    told = draw_flow(samples, GRID)

    assert (told["step"], told["start"]) == (10, 1000)
    assert told["series"]["accepted"] == [2.0, None, 0.5]
    assert told["series"]["refused"] == [0.0, None, 0.25]
    assert told["queued"] == [4, None, 5]
    assert told["tls"] == {"in": {"TLSv1.3": 4}, "out": {}}


def test_of_values_the_last_of_a_step_is_told() -> None:
    points = [(1001.0, (0.5, None)), (1009.0, (0.6, 2.0)), (1025.0, (0.7, 3.0)), (1030.0, (9, 9))]

    assert draw_last(points, GRID, 2) == [[0.6, None, 0.7], [2.0, None, 3.0]]


@pytest.mark.parametrize(
    ("window", "least", "base", "step"),
    [
        (900, 0, 10, 10), (3600, 0, 10, 10), (6 * 3600, 0, 60, 60), (86400, 0, 60, 180),
        (7 * 86400, 0, 600, 1800), (900, 60, 60, 60),
    ],
)  # fmt: skip
def test_steps_are_as_fine_as_is_kept_and_can_be_seen(
    window: float, least: int, base: int, step: int
) -> None:
    grid = plan(window, 1_790_000_005.0, least=least)

    assert (grid.base, grid.step) == (base, step)
    assert grid.count * grid.step >= window
    assert grid.start % base == 0
    assert grid.place(grid.start + grid.count * step - 1) == grid.count - 1
    assert grid.place(grid.start + grid.count * step) is None
    assert grid.start + grid.count * grid.step <= 1_790_000_005


@pytest.mark.parametrize("window", [0, -1, 59, float("inf"), float("nan"), 1e12])
def test_no_window_is_endless(window: float) -> None:
    with pytest.raises(ValueError, match="window"):
        plan(window, 0.0)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=200), st.sampled_from(sorted(STEPS)))
def test_nothing_is_lost_in_longer_steps(counts: list[int], step: int) -> None:
    kept: dict[int, Sample] = {}
    for number, count in enumerate(counts):
        one = Sample(1_790_000_000 + number * 10, 10, {"accepted": count}, number)
        place = one.time // step * step
        kept[place] = add(kept.get(place), one, step)

    assert sum(sample.counts["accepted"] for sample in kept.values()) == sum(counts)
    assert sum(sample.seconds for sample in kept.values()) == 10 * len(counts)
