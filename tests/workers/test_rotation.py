"""The rotation over a pool's sources: shares, order, resting."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.rotation import Rotation


def test_shares_are_exact_over_a_hundred_picks() -> None:
    rotation = Rotation({"a": 5, "b": 2, "c": 3})

    picks = Counter(rotation.next() for _ in range(100))

    assert picks == {"a": 50, "b": 20, "c": 30}


def test_picks_of_a_heavy_source_are_spread() -> None:
    rotation = Rotation({"a": 5, "b": 1, "c": 1})

    assert [rotation.next() for _ in range(7)] == list("aabacaa")


def test_source_of_weight_zero_is_never_used() -> None:
    rotation = Rotation({"a": 0, "b": 1})

    assert {rotation.next() for _ in range(10)} == {"b"}
    assert rotation.next(without={"b"}) is None


def test_nobody_is_left_when_all_rest() -> None:
    assert Rotation({"a": 1, "b": 1}).next(without={"a", "b"}) is None


def test_rested_source_does_not_catch_up() -> None:
    rotation = Rotation({"a": 1, "b": 1})
    for _ in range(1000):
        assert rotation.next(without={"b"}) == "a"

    picks = Counter(rotation.next() for _ in range(10))

    assert picks == {"a": 5, "b": 5}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 50), min_size=1))
def test_every_full_round_is_exact(weights: dict[str, int]) -> None:
    rotation = Rotation(weights)
    total = sum(weights.values())

    for _ in range(2):
        picks = Counter(rotation.next() for _ in range(total))
        assert picks == {name: weight for name, weight in weights.items() if weight}
