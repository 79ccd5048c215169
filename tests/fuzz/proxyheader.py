"""PROXY protocol headers: one, none yet, or ValueError; and what follows changes nothing."""

import ipaddress
import struct

from relay.net.proxyheader import MOST, Header, read_header

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
SEEDS = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\r\nEHLO me\r\n",
    b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 65535 0\r\n",
    b"PROXY UNKNOWN ffff:f... whatever\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 65536\r\n",
    b"PROXY " + b"x" * 101,
    _SIGNATURE + struct.pack("!BBH4s4sHH", 0x21, 0x11, 12, b"\xc0\0\2\1", b"\xc0\0\2\2", 1, 25),
    _SIGNATURE + struct.pack("!BBH16s16sHH", 0x21, 0x21, 36, bytes(16), bytes(16), 1, 25),
    _SIGNATURE + struct.pack("!BBH", 0x20, 0, 3) + b"abcEHLO",
    _SIGNATURE + struct.pack("!BBH216s", 0x21, 0x31, 216, b"/path"),
    _SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 2049),
]
_LONGEST = 300  # octets whose every beginning is looked at


def _read(octets: bytes) -> Header | str | None:
    try:
        return read_header(octets)
    except ValueError:
        return "none"


def check(octets: bytes) -> None:
    """What is read of a beginning stays so, however much there is behind it."""
    found = _read(octets)
    match found:
        case Header(client, size):
            assert 0 < size <= min(len(octets), MOST)
            assert client is None or ipaddress.ip_address(client)
            assert _read(octets[:size]) == found
            assert _read(octets[: size - 1]) is None, "it was complete before its last octet"
        case None:
            assert len(octets) < MOST
    for end in range(min(len(octets), _LONGEST)):
        assert _read(octets[:end]) in (None, found)
    if found is not None:
        assert _read(octets + b"\r\n\0x") == found
