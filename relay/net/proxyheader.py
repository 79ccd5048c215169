"""PROXY protocol, versions 1 and 2, as it comes in: a balancer says whose connection it passes on.

https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt; sections are cited from there.
``relay/net/haproxy.py`` is the other side. A header is believed only because of who sends it: the
caller asks for one where the connection comes from a balancer of ours, and nowhere else.
"""

import ipaddress
import re
import socket
import struct
from dataclasses import dataclass

import trio

from relay.errors import PeerClosed
from relay.net.listen import unmap

# §2.1: "the longest line is 107 characters, CRLF included".
_LINE = 107
_LINE_START = b"PROXY "
# §2.2: signature; version and command; family and transport; length of what follows.
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")
# What follows is at most 216 octets of addresses and the balancer's notes (TLVs), in which we have
# no interest. §2.2 asks that 536 fit; the protocol itself has room for 64 KiB.
_BLOCK = 2048
MOST = _FIXED.size + _BLOCK  # octets of the longest header

_LOCAL, _PROXY = 0x20, 0x21
# Family and transport: length of an address, octets of both addresses and ports. No datagrams: what
# we read is a stream, and who says otherwise of it is mistaken.
_ADDRESSES = {0x11: (4, 12), 0x21: (16, 36)}
_UNSPEC, _UNIX = 0x00, 0x31
_UNIX_BLOCK = 216
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Header:
    """``client``: an address, None when the balancer speaks for itself. ``size``: in octets."""

    client: str | None
    size: int


def read_header(buffer: bytes) -> Header | None:
    """Read the header that a connection begins with; None when more octets are needed.

    What stands behind it is not looked at. Raises ValueError as soon as it can be no header: at
    ``MOST`` octets at the latest.
    """
    if buffer[:1] == _LINE_START[:1]:
        return _read_line(buffer)
    if not _SIGNATURE.startswith(buffer[: len(_SIGNATURE)]):
        raise ValueError("not the beginning of a PROXY protocol header")
    if len(buffer) < _FIXED.size:
        return None
    _, command, family, length = _FIXED.unpack_from(buffer)
    if command not in (_LOCAL, _PROXY):
        raise ValueError(f"version and command {command:#04x}")
    if length > _BLOCK:
        raise ValueError(f"{length} octets of addresses and notes")
    size = _FIXED.size + length
    if len(buffer) < size:
        return None
    # §2.2: of LOCAL "the receiver must accept this connection as valid and must use the real
    # connection endpoints and discard the protocol block including the family".
    if command == _LOCAL:
        return Header(None, size)
    return Header(_read_block(family, buffer[_FIXED.size : size]), size)


def _read_block(family: int, block: bytes) -> str | None:
    """Return the client of a header of version 2. Raises ValueError."""
    if family == _UNSPEC or (family == _UNIX and len(block) >= _UNIX_BLOCK):
        return None
    length, least = _ADDRESSES.get(family, (0, 0))
    if not length or len(block) < least:
        raise ValueError(f"family and transport {family:#04x} with {len(block)} octets")
    return unmap(str(ipaddress.ip_address(block[:length])))


def _read_line(buffer: bytes) -> Header | None:
    """Read a header of version 1: a line."""
    line, end, _ = buffer[:_LINE].partition(b"\r\n")
    if not _LINE_START.startswith(line[: len(_LINE_START)]):
        raise ValueError("not the beginning of a PROXY protocol header")
    if len(line) == _LINE or b"\n" in line or b"\r" in (line if end else line[:-1]):
        raise ValueError("a PROXY line that does not end in CRLF")
    if not end:
        return None
    size = len(line) + len(end)
    fields = line.split(b" ")
    # §2.1: "the receiver must ignore anything presented before the CRLF" after UNKNOWN.
    if len(fields) >= 2 and fields[1] == b"UNKNOWN":
        return Header(None, size)
    return Header(_read_fields(fields[1:]), size)


def _read_fields(fields: list[bytes]) -> str:
    """Return the client of a line: protocol, two addresses, two ports. Raises ValueError."""
    if len(fields) != 5:
        raise ValueError(f"a PROXY line of {len(fields)} fields")
    protocol, *addresses, client_port, our_port = fields
    # With a zone (``%eth0``) Python would read it, too.
    if b"%" in fields[1] + fields[2]:
        raise ValueError("a PROXY line with an address that is none")
    ours, theirs = (ipaddress.ip_address(address.decode("ascii")) for address in addresses)
    if protocol != b"TCP%d" % ours.version or ours.version != theirs.version:
        raise ValueError("a PROXY line with addresses of another family than it says")
    for port in (client_port, our_port):
        if not _PORT.fullmatch(port) or int(port) > 65535:
            raise ValueError("a PROXY line with a port that is none")
    return unmap(str(ours))


async def receive_header(sock: socket.socket) -> Header:
    """Read the header from a connection, and nothing behind it: that is the session's.

    Raises ValueError when it is none, PeerClosed when the connection ends before. The deadline is
    the caller's.
    """
    buffer = b""
    while True:
        try:
            await trio.lowlevel.wait_readable(sock)
            ahead = sock.recv(MOST - len(buffer), socket.MSG_PEEK)
            header = read_header(buffer + ahead)
            # Octets of a header that is not complete are all its own. Left where they are they
            # would make the next wait none at all.
            taken = len(ahead) if header is None else header.size - len(buffer)
            buffer += sock.recv(taken)
        except BlockingIOError:
            continue  # woken for nothing
        except OSError as error:
            raise PeerClosed(f"connection lost: {error.strerror}") from error
        if header is not None:
            return header
        if not ahead:
            raise PeerClosed(f"closed after {len(buffer)} octets of a PROXY protocol header")
