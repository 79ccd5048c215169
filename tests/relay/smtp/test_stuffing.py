"""Content on the wire: what is sent comes back, wherever the pieces were cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.stuffing import DotStuffer


def write(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    wire = [stuffer.write(piece, last=False) for piece in pieces[:-1]]
    return b"".join([*wire, stuffer.write(pieces[-1], last=True)])


def read(wire: bytes) -> bytes:
    """Take content off the wire as RFC 5321 §4.5.2 tells the receiver, in the simplest way."""
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    assert lines[end + 1 :] == [b""], "the message ended before its end"
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:end])


@pytest.mark.parametrize(
    ("pieces", "wire"),
    [
        ([b""], b".\r\n"),
        ([b"a\r\n"], b"a\r\n.\r\n"),
        ([b"a"], b"a\r\n.\r\n"),
        ([b"."], b"..\r\n.\r\n"),
        ([b".\r\n"], b"..\r\n.\r\n"),
        ([b"a\r\n.\r\nb\r\n"], b"a\r\n..\r\nb\r\n.\r\n"),
        ([b"a\r\n", b".b\r\n"], b"a\r\n..b\r\n.\r\n"),
        ([b"a\r", b"\n.b\r\n"], b"a\r\n..b\r\n.\r\n"),
        ([b"a\r", b"\n", b".", b"b\r", b"\n"], b"a\r\n..b\r\n.\r\n"),
        ([b"a\r\n", b"", b".b\r\n", b""], b"a\r\n..b\r\n.\r\n"),
        ([b"a.", b".b\r\n"], b"a..b\r\n.\r\n"),
        ([b"a\n", b".b\n.c\r\n"], b"a\n.b\n.c\r\n.\r\n"),  # a bare LF begins no line
        ([b"a\r"], b"a\r\r\n.\r\n"),
    ],
)
def test_dots_are_doubled_and_the_end_is_marked(pieces: list[bytes], wire: bytes) -> None:
    assert write(pieces) == wire


CONTENT = st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r", b"\n", b"\r\n."])).map(b"".join)


@given(st.lists(CONTENT, min_size=1, max_size=6))
def test_what_is_written_is_read_back(pieces: list[bytes]) -> None:
    content = b"".join(pieces)

    wire = write(pieces)

    assert wire == write([content])
    complete = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert read(wire) == complete
