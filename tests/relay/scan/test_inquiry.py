from hypothesis import given
from hypothesis import strategies as st

from relay.scan.inquiry import show


def test_what_strangers_wrote_is_shown_in_printable_ascii() -> None:
    assert show("Win.Test-1 é\r\n\x1b[31m", 100) == "Win.Test-1 ????[31m"


def test_what_is_long_is_cut_and_shows_it() -> None:
    assert show("x" * 20, 20) == "x" * 20
    assert show("x" * 21, 20) == "x" * 17 + "..."


@given(text=st.text(), limit=st.integers(3, 50))
def test_it_is_bounded(text: str, limit: int) -> None:
    shown = show(text, limit)

    assert len(shown) <= limit
    assert shown.isprintable()
    assert shown.isascii()
