"""Replies from lines: as they came over the wire, put into one, or with parts missing."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.replies.transcript import MAX_LINES, Said, read_replies

CASES = [
    (["550 5.1.1 no such user"], [Said(550, "5.1.1", "no such user")]),
    (["  421 x  \n"], [Said(421, "", "x")]),
    (["550"], [Said(550, "", "")]),
    (["5.7.1 denied"], [Said(0, "5.7.1", "denied")]),
    (["denied"], [Said(0, "", "denied")]),
    (["550 #5.1.0 Address rejected."], [Said(550, "5.1.0", "Address rejected.")]),
    (["", "  \n", "550 x"], [Said(550, "", "x")]),
    (["550-a", "550-5.1.1 b", "550 5.1.1 c"], [Said(550, "5.1.1", "a b c")]),
    ([r"550-a\n550 5.1.1 b", "421 c"], [Said(550, "5.1.1", "a b"), Said(421, "", "c")]),
    ([r"550-a\n550-b", "550 c"], [Said(550, "", "a b"), Said(550, "", "c")]),
    ([r"550 a\nb"], [Said(550, "", "a b")]),
    (["550-a", "421 b"], [Said(550, "", "a"), Said(421, "", "b")]),
    (["550-a", "b"], [Said(550, "", "a"), Said(0, "", "b")]),
    (["550-a"], [Said(550, "", "a")]),
    # Put into one line with blanks between.
    (["550-5.7.1 a 550-5.7.1 b 550 5.7.1 c", "550 d"], [Said(550, "5.7.1", "a b c"), Said(550, "", "d")]),
    (["192.0.2.1 is blocked"], [Said(0, "", "192.0.2.1 is blocked")]),
    (["5500 x"], [Said(0, "", "5500 x")]),
    ([], []),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "replies"), CASES)
def test_lines_make_replies(lines: list[str], replies: list[Said]) -> None:
    assert list(read_replies(lines)) == replies


def test_a_reply_is_there_as_soon_as_its_last_line() -> None:
    def lines() -> Iterator[str]:
        yield "550-a"
        yield "550 b"
        raise AssertionError("read on")

    assert next(read_replies(lines())) == Said(550, "", "a b")


def test_a_reply_without_end_is_cut() -> None:
    assert len(list(read_replies(["550-x"] * (MAX_LINES + 1)))) == 2


@given(st.lists(st.text(max_size=40)))
def test_any_lines_make_no_more_replies_than_they_are(lines: list[str]) -> None:
    assert len(list(read_replies(lines))) <= len(lines)
