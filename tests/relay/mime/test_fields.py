"""The two readings of a head say the same, whatever stands in it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime.fields import fields, find_fields, unfold

_PIECES = [
    *(b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\0", b"\xff", b"x", b"From"),
    *(b"A: b\r\n", b"B :\r\n c\r\n", b"\r\n d"),
]


@settings(deadline=None)
@given(head=st.lists(st.sampled_from(_PIECES), max_size=14).map(b"".join))
def test_the_short_way_finds_what_the_long_one_does(head: bytes) -> None:
    found = [(field.name, unfold(field.value)) for field in find_fields(head) if field.name]

    assert list(fields(head)) == found


def test_names_and_unfolded_values() -> None:
    head = b"From : a\r\nSubject:\r\n x\r\n\ty\r\nno field\r\nX:\r\n\r\nA: behind\r\n"

    assert list(fields(head)) == [(b"From", b" a"), (b"Subject", b" x\ty"), (b"X", b"")]
