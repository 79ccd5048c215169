"""PROXY protocol headers as they come in, in whole, in pieces, and as nonsense."""

import socket
import struct
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import PeerClosed
from relay.net.haproxy import make_header
from relay.net.proxyheader import MOST, Header, read_header, receive_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 1234, 25)
SIX = bytes.fromhex("20010db8000000000000000000000001" + "00" * 15 + "01") + FOUR[-4:]
MAPPED = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 9]) + SIX[16:]
NOTE = b"\x04\x00\x03abc"  # a TLV


def make(command: int, family: int, block: bytes) -> bytes:
    return struct.pack("!12sBBH", SIGNATURE, command, family, len(block)) + block


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 25\r\n", "192.0.2.1"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP6 2001:db8::1 ::1 0 25\r\n", "2001:db8::1"),
    (b"PROXY TCP6 ::ffff:192.0.2.9 ::ffff:192.0.2.1 1234 25\r\n", "192.0.2.9"),
    (b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2), ":".join(["ffff"] * 8)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2), None),
    (make(0x21, 0x11, FOUR), "192.0.2.1"),
    (make(0x21, 0x11, FOUR + NOTE), "192.0.2.1"),
    (make(0x21, 0x11, FOUR + bytes(2048 - 12)), "192.0.2.1"),
    (make(0x21, 0x21, SIX), "2001:db8::1"),
    (make(0x21, 0x21, SIX + NOTE), "2001:db8::1"),
    (make(0x21, 0x21, MAPPED), "192.0.2.9"),
    (make(0x21, 0x00, b""), None),
    (make(0x21, 0x00, NOTE), None),
    (make(0x21, 0x31, bytes(216)), None),
    # LOCAL: a balancer looks whether we are there; the rest says nothing.
    (make(0x20, 0x00, b""), None),
    (make(0x20, 0x11, FOUR), None),
    (make(0x20, 0xFF, NOTE), None),
]  # fmt: skip

BAD = [
    b"EHLO me.test\r\n",
    b"\r\n\r\n\x01",
    b"PROXY\r\n",
    b"PROXZ",
    b"PRO\r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.2 1234 25\r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.2 1234 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1234\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 25 6\r\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.2 1234 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 65536\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 01234 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n",
    b"PROXY TCP4 192.0.2.01 198.51.100.2 1234 25\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.2 1234 25\r\n",
    b"PROXY TCP4 mail.test 198.51.100.2 1234 25\r\n",
    b"PROXY TCP4 192.0.2.\xb2 198.51.100.2 1234 25\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 1234 25\r\n",
    b"PROXY TCP4 192.0.2.1 ::1 1234 25\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1234 25\r\n",
    b"PROXY UNKNOWN" + b"N" * 94,  # a line that does not end
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 25\nEHLO me.test\r\n",
    b"PROXY UNKNOWN \nEHLO me.test\r\n",
    b"PROXY UNKNOWN \rEHLO me.test\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",  # 108 octets
    make(0x11, 0x11, FOUR),  # version 1
    make(0x22, 0x11, FOUR),
    make(0x21, 0x11, FOUR[:-1]),
    make(0x21, 0x21, SIX[:-1]),
    make(0x21, 0x31, bytes(215)),
    make(0x21, 0x12, FOUR),  # a datagram
    make(0x21, 0x22, SIX),
    make(0x21, 0x41, SIX),
    make(0x21, 0x11, FOUR + bytes(2049 - 12)),
]


@pytest.mark.parametrize(("octets", "client"), GOOD)
def test_a_header_says_who_the_client_is(octets: bytes, client: str | None) -> None:
    assert read_header(octets) == Header(client, len(octets))
    assert read_header(octets + b"EHLO me.test\r\n" * 1000) == Header(client, len(octets))
    for end in range(len(octets)):
        assert read_header(octets[:end]) is None


@pytest.mark.parametrize("octets", BAD)
def test_nonsense_is_no_header(octets: bytes) -> None:
    assert judge(octets) == "nonsense"


def test_our_own_headers_are_read() -> None:
    assert read_header(make_header("192.0.2.7", "198.51.100.2", 25)) == Header("192.0.2.7", 28)
    assert read_header(make_header("2001:db8::7", "::1", 25)) == Header("2001:db8::7", 52)


def cut(octets: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Yield what is there after each piece has come."""
    for end in sorted({end % (len(octets) + 1) for end in cuts} | {len(octets)}):
        yield octets[:end]


def judge(octets: bytes) -> Header | str | None:
    try:
        return read_header(octets)
    except ValueError:
        return "nonsense"


headers = st.sampled_from([octets for octets, _ in GOOD] + BAD)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A header, an octet or two of it changed, something behind it."""
    octets = bytearray(draw(headers))
    for _ in range(draw(st.integers(0, 2))):
        octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    return bytes(octets) + draw(st.binary(max_size=20))


@given(st.one_of(st.binary(max_size=3000), damaged()), st.lists(st.integers(0, 3000)))
@example(b"", [])
def test_whatever_comes_and_however_it_is_cut(octets: bytes, cuts: list[int]) -> None:
    found: Header | str | None = None
    for known in cut(octets, cuts):
        verdict = judge(known)
        # Once it is clear it stays so: more octets change nothing.
        assert found in (None, verdict)
        found = verdict
        if isinstance(found, Header):
            assert 0 < found.size <= min(len(known), MOST)
            assert found.client is None or socket.inet_pton(
                socket.AF_INET6 if ":" in found.client else socket.AF_INET, found.client
            )
    assert judge(octets) == found
    assert found is not None or len(octets) < MOST


# -- from a connection


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize(("octets", "client"), GOOD)
async def test_what_stands_behind_a_header_is_left(
    octets: bytes, client: str | None, pair: Pair
) -> None:
    ours, theirs = pair
    theirs.send(octets + b"EHLO me.test\r\n")

    assert (await receive_header(ours)).client == client

    assert ours.recv(1000) == b"EHLO me.test\r\n"


@pytest.mark.parametrize("octets", [GOOD[0][0], GOOD[8][0]])
async def test_a_header_in_pieces_is_waited_for(
    octets: bytes, pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    # The clock moves only while everybody waits: it would not if half a header kept us awake.
    ours, theirs = pair

    async def send() -> None:
        for octet in octets[:-1]:
            theirs.send(bytes([octet]))
            await trio.sleep(1)
        theirs.send(octets[-1:] + b"EHLO")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert (await receive_header(ours)).client == "192.0.2.1"

    assert trio.current_time() == len(octets) - 1
    assert ours.recv(1000) == b"EHLO"


async def test_nonsense_from_a_connection(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"EHLO me.test\r\n")

    with pytest.raises(ValueError, match="not the beginning"):
        await receive_header(ours)


@pytest.mark.parametrize("octets", [b"", b"PROXY TCP4 192.0.2.1", GOOD[8][0][:20]])
async def test_a_connection_that_ends_too_early(octets: bytes, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(octets)
    theirs.close()

    with pytest.raises(PeerClosed, match=f"closed after {len(octets)} octets"):
        await receive_header(ours)


async def test_a_connection_that_is_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            # Closing with this is a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

            with pytest.raises(PeerClosed, match="connection lost"):
                await receive_header(ours)
