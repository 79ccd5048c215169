"""Counting in the process: what is told apart, what is not, and that it adds up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.counters import HISTOGRAMS, LABELS, OTHER, SITES, SUM, TENANTS, Counters, fold


def test_what_is_counted_is_taken_once() -> None:
    counters = Counters()
    counters.add("attempts", ("google", "a", "delivered"))
    counters.add("attempts", ("google", "a", "delivered"), 2)
    counters.add("events_dropped")

    assert counters.take() == {
        ("attempts", ("google", "a", "delivered")): 3,
        ("events_dropped", ()): 1,
    }
    assert counters.take() == {}


def test_what_could_not_be_handed_in_comes_with_the_next_take() -> None:
    counters = Counters()
    counters.add("message_bytes", ("in",), 1000)
    taken = counters.take()
    counters.add("message_bytes", ("in",), 1)

    counters.give_back(taken)

    assert counters.take() == {("message_bytes", ("in",)): 1001}


@pytest.mark.parametrize(
    ("name", "rest", "most"),
    [("attempts", ("a", "delivered"), SITES), ("messages", ("accepted",), TENANTS)],
)
def test_strangers_do_not_make_it_grow(name: str, rest: tuple[str, ...], most: int) -> None:
    counters = Counters()
    for number in range(most + 50):
        counters.add(name, (f"x{number}", *rest))

    first = counters.take()
    assert len(first) == most + 1
    assert first[name, (OTHER, *rest)] == 50

    counters.add(name, ("x0", *rest))
    counters.add(name, (f"x{most}", *rest))

    assert counters.take() == {(name, ("x0", *rest)): 1, (name, (OTHER, *rest)): 1}


def test_kinds_are_bounded_also_where_labels_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.counters._MOST", 10)
    counters = Counters()
    for number in range(100):
        counters.add("replies", ("google", f"label{number}"))

    taken = counters.take()

    assert len(taken) == 11
    assert taken["replies", (OTHER, OTHER)] == 90


def test_labels_cannot_break_the_fields_that_they_stand_in() -> None:
    counters = Counters()
    counters.add("replies", ("a|b\nc", "x" * 500))

    assert counters.take() == {("replies", ("a_b_c", "x" * 120)): 1}


def test_a_histogram_has_a_number_for_each_bucket() -> None:
    counters = Counters()
    for seconds in (0.0, 0.01, 0.011, 1e9):
        counters.observe("attempt_seconds", seconds)

    assert counters.take() == {
        ("attempt_seconds", ("0.01",)): 2,
        ("attempt_seconds", ("0.025",)): 1,
        ("attempt_seconds", ("+Inf",)): 1,
        ("attempt_seconds", (SUM,)): 1_000_000_000_021_000,
    }


@given(st.lists(st.floats(0, 1e6)))
def test_no_observation_is_lost(waits: list[float]) -> None:
    counters = Counters()
    for seconds in waits:
        counters.observe("delivery_seconds", seconds)

    taken = counters.take()

    assert sum(count for (_, labels), count in taken.items() if labels != (SUM,)) == len(waits)


def test_bounds_rise_and_are_written_apart() -> None:
    for bounds in HISTOGRAMS.values():
        assert list(bounds) == sorted(set(bounds))
        assert len({f"{bound:g}" for bound in bounds}) == len(bounds)


def test_what_is_folded_has_few_kinds() -> None:
    for name, labels in LABELS.items():
        kind = (name, tuple(f"v{number}" for number, _ in enumerate(labels)))
        assert fold(fold(kind)) == fold(kind)
    assert fold(("attempts", ("google", "a", "bounced"))) == ("attempts", (OTHER, OTHER, "bounced"))
    assert fold(("accept_seconds", ("0.5",))) == ("accept_seconds", ("0.5",))
