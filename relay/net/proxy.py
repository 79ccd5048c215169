"""A proxy on another host, and reaching it.

Until a proxy has taken a request, whatever goes wrong is the trouble of the source behind it: the
receiving host has not been asked anything. So everything here ends in SourceUnusable.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from relay.errors import HostUnreachable, PeerClosed, SourceUnusable
from relay.net.connect import connect_socket

# For what a proxy does by itself: accept a connection, check a password. Longer than two lost
# SYNs (1 + 2 s), and well within the 30 s that the pool gives to connecting, so that a proxy that
# hangs is never taken for a host that does.
PATIENCE = 10.0
# How we get to the proxy is the kernel's choice.
_ANYWHERE = {4: "0.0.0.0", 6: "::"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy listens; ``host`` is a name or an address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"

    async def open(self) -> socket.socket:
        """Return a socket connected to the proxy. Raises SourceUnusable; takes PATIENCE at most."""
        with self.blame(PATIENCE):
            trouble = "no address"
            for address in await self._find_addresses():
                family = ipaddress.ip_address(address).version
                try:
                    return await connect_socket(address, self.port, source=_ANYWHERE[family])
                except HostUnreachable as error:
                    trouble = str(error)
        raise SourceUnusable(f"the proxy {self} cannot be reached: {trouble}")

    @contextlib.contextmanager
    def blame(self, seconds: float) -> Iterator[None]:
        """Make a connection that ends, or ``seconds`` that run out, the proxy's fault.

        Raises SourceUnusable then. Deadlines around it stay their owner's.
        """
        try:
            with trio.fail_after(seconds):
                yield
        except PeerClosed as error:
            raise SourceUnusable(f"the proxy {self} hung up: {error}") from error
        except trio.TooSlowError as error:
            text = f"the proxy {self} did not answer within {seconds:.0f} s"
            raise SourceUnusable(text) from error

    async def _find_addresses(self) -> list[str]:
        """Look the host up as the system does: /etc/hosts, the cluster's name service."""
        try:
            found = await trio.socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # the latter: no name can be like that
            why = getattr(error, "strerror", None) or error
            text = f"the proxy {self} cannot be found: {why}"
            raise SourceUnusable(text) from error
        return [str(entry[4][0]) for entry in found]


def require_family(source: str, address: str, port: int) -> None:
    """Raise HostUnreachable for a host of another family than the source's.

    A proxy with both might well connect, from an address that is not the source's.
    """
    if ipaddress.ip_address(source).version != ipaddress.ip_address(address).version:
        text = f"cannot connect to {address} port {port} from {source}: another family"
        raise HostUnreachable(text)
