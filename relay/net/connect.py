"""Connecting from one source address, with honest blame.

``trio.open_tcp_stream(local_address=...)`` reports a failed bind without its errno, wrapped in
"all attempts to connect failed": *our address is gone* and *their host is down* look alike. The
queue must tell them apart, so the two steps are two errors here.
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
