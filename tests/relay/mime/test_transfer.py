"""Transfer encodings, as tolerant as readers, and no more of them than was asked for."""

import base64
import quopri
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime import decode, read_message
from tests.kit.mime import make_part


def undo(body: bytes, encoding: str, limit: int = 1 << 20) -> bytes:
    octets = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body
    return decode(octets, read_message(octets), limit)


@pytest.mark.parametrize(
    ("body", "encoding", "expected"),
    [
        (b"a=\r\nb", "7bit", b"a=\r\nb"),
        (b"a=41", "x-unknown", b"a=41"),
        (b"QUJD\r\nREVG\r\n", "base64", b"ABCDEF"),
        (b"QUJD!!R\r\n EVG", "base64", b"ABCDEF"),
        (b"QUI=\r\n", "base64", b"AB"),
        (b"QUI", "base64", b"AB"),
        (b"QUJDR", "base64", b"ABC"),
        (b"QUI=QUI=", "base64", b"AB"),
        (b"a=3Db", "quoted-printable", b"a=b"),
        (b"a=3db=c3=A4", "quoted-printable", b"a=b\xc3\xa4"),
        (b"a=\r\nb=  \r\nc", "quoted-printable", b"abc"),
        (b"a \t \r\nb  ", "quoted-printable", b"a\r\nb"),
        (b"a=20 \r\nb=0D=0Ac", "quoted-printable", b"a \r\nb\r\nc"),
        (b"a=ZZb=", "quoted-printable", b"a=ZZb"),
        (b"\xe4_", "quoted-printable", b"\xe4_"),
    ],
)
def test_decoding(body: bytes, encoding: str, expected: bytes) -> None:
    assert undo(body, encoding) == expected


@settings(deadline=None)
@given(st.binary(max_size=6000), st.integers(0, 3000))
def test_the_beginning_is_the_beginning_of_the_whole(content: bytes, limit: int) -> None:
    quoted = quopri.encodestring(content.translate(None, b"\r")).replace(b"\n", b"\r\n")
    quoted = quoted.replace(b"\0", b"=00")
    whole = undo(quoted, "quoted-printable")
    assert undo(quoted, "quoted-printable", limit) == whole[:limit]
    encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
    assert undo(encoded, "base64") == content
    assert undo(encoded, "base64", limit) == content[:limit]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"=", b"=4", b"=41", b" ", b"=\r\n", b"a", b"\r\n"])),
    st.integers(0, 9),
)
def test_what_is_not_well_formed_has_a_beginning_too(pieces: list[bytes], limit: int) -> None:
    body = b"".join(pieces) * 40
    octets = (
        make_part("text/plain", b"", "")[:-2]
        + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )

    part = read_message(octets + body)
    assert decode(octets + body, part, limit) == decode(octets + body, part, 1 << 20)[:limit]


@pytest.mark.parametrize("tail", [b"=41" * 3, b" \t   \r\nyy", b"=\r\n=\r\nyyyyy", b"yyyyyyy"])
def test_the_beginning_does_not_depend_on_where_it_was_cut(tail: bytes) -> None:
    for shift in range(12):
        # As long as the first window, and nearly nothing in it.
        body = b"=\r\n" * 341 + b"x" * shift + tail + b"z" * 5000
        whole = undo(body, "quoted-printable")
        for limit in range(20):
            assert undo(body, "quoted-printable", limit) == whole[:limit]


def test_the_beginning_of_much_is_cheap() -> None:
    encoded = base64.b64encode(bytes(30 << 20))
    started = time.perf_counter()
    for _ in range(100):
        octets = encoded
        undo(octets[:5000], "base64", 512)
    small = time.perf_counter() - started
    octets = b"Content-Transfer-Encoding: base64\r\n\r\n" + encoded
    part = read_message(octets)
    started = time.perf_counter()
    for _ in range(100):
        assert decode(octets, part, 512) == bytes(512)

    assert time.perf_counter() - started < 20 * small + 0.1
