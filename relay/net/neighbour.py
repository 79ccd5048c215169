"""A program of ours beside the gateway, on a TCP port or on a Unix socket.

``parse_neighbour`` reads the address of one: "127.0.0.1:3310", "clamd:3310", or
"unix:/run/clamav/clamd.ctl".
"""

import ipaddress
import socket
from dataclasses import dataclass

import trio

from relay.config.units import parse_endpoint
from relay.errors import HostUnreachable
from relay.net.connect import connect
from relay.net.stream import Stream

_UNIX = "unix:"
_MAX_PATH = 107  # octets: sun_path of unix(7), less its NUL
# How we get there is the kernel's choice.
_ANYWHERE = {4: "0.0.0.0", 6: "::"}  # noqa: S104
_AGAIN = 0.05  # seconds


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Where it listens: ``path``, or ``host`` (a name or an address) and ``port``."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host} port {self.port}"

    async def connect(self) -> Stream:
        """Connect. Raises HostUnreachable; the deadline is the caller's."""
        if self.path:
            return Stream(await _connect_local(self.path))
        trouble: HostUnreachable | None = None
        for address in await self._find_addresses():
            source = _ANYWHERE[ipaddress.ip_address(address).version]
            try:
                return await connect(address, self.port, source=source)
            except HostUnreachable as error:
                trouble = error
        raise trouble or HostUnreachable(f"{self.host} has no address")

    async def _find_addresses(self) -> list[str]:
        """Look the host up as the system does: /etc/hosts, the cluster's name service."""
        try:
            found = await trio.socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # the latter: no name can be like that
            why = getattr(error, "strerror", None) or error
            raise HostUnreachable(f"{self.host} cannot be found: {why}") from error
        return [str(entry[4][0]) for entry in found]


def parse_neighbour(value: str) -> Neighbour:
    """Read where a program listens. Raises ValueError."""
    if value.startswith(_UNIX):
        path = value.removeprefix(_UNIX)
        if path.startswith("/") and "\0" not in path and len(path.encode()) <= _MAX_PATH:
            return Neighbour(path=path)
    else:
        try:
            endpoint = parse_endpoint(value)
        except ValueError:
            endpoint = None
        if endpoint is not None and endpoint.port:
            return Neighbour(endpoint.host, endpoint.port)
    raise ValueError(
        f'expected "HOST:PORT" or "unix:/PATH" (at most {_MAX_PATH} octets), got {value!r}'
    )


async def _connect_local(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                # unix(7): EAGAIN, the backlog is full. Nothing has begun that one could wait for,
                # as there would be with TCP; only asking again tells.
                await trio.sleep(_AGAIN)
            else:
                return sock
    except OSError as error:
        sock.close()
        raise HostUnreachable(f"cannot connect to {path}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
