"""Connecting from one source address, with honest blame.

``trio.open_tcp_stream(local_address=...)`` reports a failed bind without its errno, wrapped in
"all attempts to connect failed": *our address is gone* and *their host is down* look alike. The
queue must tell them apart, so the two steps are two errors here.

Keepalive
=========
Each wait of a session has a deadline of its own already (workers/peer.py; RFC 5321 §4.5.3.2), so nothing
hangs for ever, and keepalive is not there to end waits sooner. After a final dot it must not: a way that
is broken for a few minutes mends, the 250 comes, and whoever had given up by then would send a duplicate.
RFC 1122 §4.2.3.6 warns of just that. It is there for what is certain:

* A NAT or a firewall on the way forgets connections on which nothing moves, many after four to six
  minutes; a host may take ten for its answer to the dot. A probe a minute keeps them in mind, or else
  the 250 would be lost on the way.
* A host that has started anew, or a NAT that has forgotten after all, answers a probe with a reset. That
  ends the session within a minute instead of ten, and frees its connection at the site.

Silence alone counts only after longer than any wait of ours, so the deadlines decide. For the same reason
there is no TCP_USER_TIMEOUT: it would end waits for an acknowledgement, which have their deadlines, too,
and replace that count. Behind a proxy this is the way to the proxy; the rest of it is the proxy's matter.
"""

import contextlib
import ipaddress
import os
import socket

import trio

from relay.errors import HostUnreachable, SourceUnusable
from relay.net.stream import Stream

# Linux: the port is chosen at connect(), for the whole four-tuple, not at bind(). Without it a
# source runs out of ephemeral ports at about 28,000 connections to everybody together.
_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)

# Seconds of silence before the first probe, and between probes; and how many without an answer end the
# connection. All together 660 s: longer than the 600 s that an answer to the final dot may take.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 10}


async def connect(address: str, port: int, *, source: str) -> Stream:
    """Connect from ``source`` (a local address; unspecified leaves it to the kernel).

    Raises SourceUnusable when the address cannot be bound, HostUnreachable when the other side
    cannot be reached. The deadline is the caller's.
    """
    return Stream(await connect_socket(address, port, source=source))


async def connect_socket(address: str, port: int, *, source: str) -> socket.socket:
    """Connect as ``connect`` does; the socket is the caller's to close. Raises the same."""
    sock = bind_source(source)
    try:
        await _connect(sock, address, port)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_source(source: str) -> socket.socket:
    """Return a non-blocking socket bound to a source address. Raises SourceUnusable."""
    ours = ipaddress.ip_address(source)
    family = socket.AF_INET if ours.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(sock)
        if not ours.is_unspecified:
            if family == socket.AF_INET:
                with contextlib.suppress(OSError):  # not Linux: the port is taken at bind
                    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
    except OSError as error:
        sock.close()
        raise SourceUnusable(
            f"cannot send from {source}: {error.strerror} (is the address on this machine?)"
        ) from error
    return sock


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        # Not everywhere under these names; then it is the system's own times, two hours mostly.
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def _connect(sock: socket.socket, address: str, port: int) -> None:
    try:
        with contextlib.suppress(BlockingIOError):
            return sock.connect((address, port))  # loopback on some systems: connected at once
        await trio.lowlevel.wait_writable(sock)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
    except OSError as error:
        text = f"cannot connect to {address} port {port}: {error.strerror}"
        raise HostUnreachable(text) from error
