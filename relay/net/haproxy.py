"""Leaving through a proxy that is told, in a PROXY protocol header, from which address to where.

HAProxy does it with ``bind ... accept-proxy`` and ``source 0.0.0.0 usesrc clientip``: it takes the
"client's" address from the header, binds it, and connects to the "original" destination. One
listener serves any number of sources. There is no password: let in our own hosts only.

The protocol has no answer. A proxy that cannot bind the address, and one that cannot reach the
host, do the same: they close. All that tells the two from a host is that the host never greeted.
"""

import ipaddress
import socket
import struct
from dataclasses import dataclass

import trio

from relay.errors import HostUnreachable
from relay.net.proxy import PATIENCE, Proxy, require_family
from relay.net.stream import Stream

# https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt §2.2: signature; version 2, command
# PROXY; family and STREAM; length of what follows: two addresses, two ports.
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXY = 0x21
_TCP = {4: 0x11, 6: 0x21}

# Waiting for the host's first octet finds out whether there is a connection at all. With the
# PATIENCE to reach the proxy it stays within the 30 s that the pool gives to connecting; a host
# that greets later than that may: the stream is handed on as it is.
_GREETING = 15.0


@dataclass(frozen=True, slots=True)
class HaproxyEgress:
    """One source behind a proxy that reads PROXY protocol headers, version 2."""

    source: str
    proxy: Proxy

    async def connect(self, address: str, port: int) -> Stream:
        """Connect to a host, of a protocol in which the host speaks first.

        Raises SourceUnusable when the proxy cannot be reached; HostUnreachable when it, or the
        host, closes without a word. The deadline is the caller's.
        """
        require_family(self.source, address, port)
        header = make_header(self.source, address, port)
        sock = await self.proxy.open()
        stream = Stream(sock)
        try:
            with self.proxy.blame(PATIENCE):
                await stream.send(header)
            with trio.move_on_after(_GREETING):
                await self._wait_for_host(sock, f"{address} port {port}")
        except BaseException:
            stream.close()
            raise
        return stream

    async def check(self) -> None:
        """See whether the proxy listens; whether it has our address it never says.

        Raises SourceUnusable.
        """
        (await self.proxy.open()).close()

    async def _wait_for_host(self, sock: socket.socket, host: str) -> None:
        """Return when something has come; it stays unread. Raises HostUnreachable."""
        await trio.lowlevel.wait_readable(sock)
        try:
            if sock.recv(1, socket.MSG_PEEK):
                return
            how = "closed"
        except BlockingIOError:
            return  # woken for nothing: then the greeting's reader will see
        except OSError as error:
            how = error.strerror or str(error)
        raise HostUnreachable(
            f"no word from {host} through the proxy {self.proxy} ({how}): the host does not "
            f"answer, or the proxy cannot send from {self.source}"
        )


def make_header(source: str, address: str, port: int) -> bytes:
    """Return the header for a connection from ``source``, any port, to a host of its family."""
    ours, theirs = ipaddress.ip_address(source), ipaddress.ip_address(address)
    addresses = ours.packed + theirs.packed + struct.pack("!HH", 0, port)
    family = _TCP[ours.version]
    return struct.pack("!12sBBH", _SIGNATURE, _PROXY, family, len(addresses)) + addresses
