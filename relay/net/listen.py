"""Listening sockets and the accept loop.

Several processes may share a port (SO_REUSEPORT); the kernel spreads connections over them. It
is set only when that is wanted: otherwise a second gateway by mistake would silently take half
of the mail of the first.
"""

import contextlib
import errno
import functools
import ipaddress
import resource
import socket
import sys
from collections.abc import Callable

import trio

from relay.errors import StartError

# accept() can fail because we, or the machine, are out of something; the connection stays in
# the backlog. Wait until others have closed; 100 ms is what trio and gevent settled on.
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_PAUSE = 0.1
# So many are taken before others have a turn: a burst must not keep those waiting who are here, and
# who was told to make room must be able to leave.
_BATCH = 16


def open_listener(
    host: str, port: int, *, shared: bool = False, setting: str = "ingress.listen"
) -> socket.socket:
    """Bind and listen. ``shared``: with SO_REUSEPORT. Raises StartError, which names ``setting``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # [::] must not take IPv4 as well: 0.0.0.0 may stand beside it in the configuration.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        hint = {
            errno.EADDRINUSE: f"another program has it: stop that, or change {setting}",
            errno.EACCES: "ports below 1024 need a privilege (root, or CAP_NET_BIND_SERVICE)",
            errno.EADDRNOTAVAIL: "the address is not on this machine",
        }.get(error.errno or 0, f"change {setting}")
        raise StartError(f"cannot listen on {shown}: {error.strerror}; {hint}") from error
    return sock


async def accept_loop(listener: socket.socket, take: Callable[[socket.socket, str], None]) -> None:
    """Accept connections for ever; ``take(socket, address)`` must not block.

    The address is as ``unmap`` shows it.
    """
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(_BATCH):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    await trio.sleep(_PAUSE)
                break  # otherwise: gone before we got to it
            take(sock, unmap(str(address[0])))


@functools.lru_cache(maxsize=4096)
def unmap(address: str) -> str:
    """``::ffff:192.0.2.1`` is ``192.0.2.1``; a zone (``%eth0``) says nothing about the sender."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def allow_files() -> int:
    """Let this process open as many files as it may; return how many that are.

    The soft limit, often 1024, is a default from the times of ``select``; the hard one is what the
    administrator allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Where "unlimited" is more than the kernel knows: as it was.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
