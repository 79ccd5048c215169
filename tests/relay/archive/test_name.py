import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.archive.name import Place, find_place, find_time, read_name
from relay.model import make_message_id


@given(st.integers(0, 250_000_000_000_000), st.integers(0, 15))
def test_the_time_of_an_id(milliseconds: int, shard: int) -> None:
    found = find_time(make_message_id(shard, now=milliseconds / 1000))

    assert abs(found * 1000 - milliseconds) < 1.1  # the id's time is a float cut to milliseconds


def test_a_day_is_one_of_utc() -> None:
    last = make_message_id(0, now=1_785_542_399.999)  # 2026-07-31T23:59:59.999Z
    first = make_message_id(0, now=1_785_542_400.0)

    assert find_place("acme", last).name == f"acme/2026-07-31/{last}.mail"
    assert find_place("acme", first).day == "2026-08-01"


@pytest.mark.parametrize(
    "text", ["", "x", "../../../../../etc/passw", "I" * 24, "Z" * 24, "0" * 25, "0" * 23 + "\n"]
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="not a message id"):
        find_place("acme", text)


def test_names_are_read_back() -> None:
    place = find_place("acme", make_message_id(1))

    assert read_name("acme", place.day, f"{place.message_id}.mail") == place
    assert read_name("acme", place.day, place.message_id) is None
    assert read_name("acme", place.day, "README.mail") is None
    assert isinstance(place, Place)
