"""Who is told apart: the most active; and no counter that is shown ever falls."""

from hypothesis import given
from hypothesis import strategies as st

from workers.admin.top import Top

NAMES = "abcdef"


def look(top: Top, counted: dict[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    top.choose("attempts", counted, 0)
    return dict(top.show("attempts", counted, 0))


def test_few_are_all_named_with_all_that_was_counted() -> None:
    counted = {("a", "delivered"): 5, ("b", "delivered"): 1, ("b", "bounced"): 2}

    assert look(Top(2), counted) == counted


def test_the_least_active_are_other_from_when_we_look() -> None:
    top = Top(1)
    look(top, {("a",): 100, ("b",): 10, ("c",): 10})

    shown = look(top, {("a",): 101, ("b",): 13, ("c",): 11})

    assert shown == {("a",): 101, ("other",): 4}


def test_who_becomes_active_gets_a_name() -> None:
    top = Top(1)
    look(top, {("a",): 100, ("b",): 10})
    for number in range(1, 50):
        look(top, {("a",): 100, ("b",): 10 + 100 * number})

    assert top.names == ["b"]


def test_two_that_are_equal_do_not_change_places() -> None:
    top = Top(1)
    look(top, {("a",): 10, ("b",): 10})
    seen = set()
    for number in range(1, 50):
        look(top, {("a",): 10 + 3 * (number // 2), ("b",): 10 + 3 * ((number + 1) // 2)})
        seen.add(tuple(top.names))

    assert len(seen) == 1


def test_a_store_that_was_emptied_begins_anew() -> None:
    top = Top(1)
    look(top, {("a",): 100, ("b",): 10})

    assert look(top, {("a",): 3, ("b",): 2}) == {("a",): 3, ("other",): 2}


@given(st.lists(st.lists(st.integers(0, 50), min_size=6, max_size=6), max_size=30))
def test_nothing_falls_and_nothing_is_lost(steps: list[list[int]]) -> None:
    top, totals = Top(2), dict.fromkeys(NAMES, 0)
    last: dict[tuple[str, ...], int] = {}
    grown = 0
    look(top, {(name,): 0 for name in NAMES})
    for step in steps:
        for name, more in zip(NAMES, step, strict=True):
            totals[name] += more
        named = set(top.names)
        shown = look(top, {(name,): total for name, total in totals.items()})
        for labels, value in shown.items():
            assert value >= last.get(labels, 0), labels
        # Whoever is named all along, and the others together, show what has come.
        if set(top.names) == named:
            growth = sum(value - last.get(labels, 0) for labels, value in shown.items())
            assert growth == sum(step) or not last
        last |= shown
        grown += sum(step)
    assert len(top.names) <= 2


def test_what_is_remembered_is_bounded() -> None:
    top = Top(2)
    for start in range(0, 10_000, 100):
        look(top, {(f"n{number}",): 1 for number in range(start, start + 100)})

    assert len(top._activity) <= 40
