"""Leaving through a SOCKS5 proxy (RFC 1928), with user and password if it wants them (RFC 1929).

The messages are ``socksio``'s; reading them off the wire is done here, because nothing may be read
too far: after the proxy's last octet come the host's, and those belong to SMTP.

A SOCKS client cannot say which address the proxy shall leave from. A proxy with several addresses
tells its clients apart by the port they come to, or by their user name: one such port, or user,
for each source. The source's ``address`` is what the proxy leaves from: it decides the family, is
what records say, and is compared with what the proxy reports (``_check_bound``).
"""

import ipaddress
import math
from dataclasses import dataclass, field

from socksio import (
    ProtocolError,
    SOCKS5AType,
    SOCKS5AuthMethod,
    SOCKS5AuthMethodsRequest,
    SOCKS5Command,
    SOCKS5CommandRequest,
    SOCKS5Reply,
    SOCKS5ReplyCode,
    SOCKS5UsernamePasswordRequest,
)
from socksio.socks5 import SOCKS5UsernamePasswordReply

from relay.errors import HostUnreachable, PeerClosed, SourceUnusable
from relay.net.proxy import PATIENCE, Proxy, require_family
from relay.net.stream import Stream

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_VERSION = b"\x05"
_TYPES = {4: SOCKS5AType.IPV4_ADDRESS, 6: SOCKS5AType.IPV6_ADDRESS}
_SIZES: dict[bytes, int] = {SOCKS5AType.IPV4_ADDRESS: 4, SOCKS5AType.IPV6_ADDRESS: 16}

# RFC 1928 §6. The proxy tried, and the host (or the way there) is the trouble:
_HOST_TROUBLE = {
    SOCKS5ReplyCode.NETWORK_UNREACHABLE: "network unreachable",
    SOCKS5ReplyCode.HOST_UNREACHABLE: "host unreachable",
    SOCKS5ReplyCode.CONNECTION_REFUSED: "connection refused",
    SOCKS5ReplyCode.TTL_EXPIRED: "no answer on the way (TTL expired)",
}
# The proxy could not or would not try; a code that the RFC does not know counts as such, too.
_PROXY_TROUBLE = {
    SOCKS5ReplyCode.GENERAL_SERVER_FAILURE: "general failure (is the address on its machine?)",
    SOCKS5ReplyCode.CONNECTION_NOT_ALLOWED_BY_RULESET: "not allowed by its rules",
    SOCKS5ReplyCode.COMMAND_NOT_SUPPORTED: "it cannot CONNECT",
    SOCKS5ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED: "it does not know this kind of address",
}


@dataclass(frozen=True, slots=True)
class SocksEgress:
    """One source behind a SOCKS5 proxy. ``user`` is "" where the proxy wants none."""

    source: str
    proxy: Proxy
    user: str = ""
    password: str = field(default="", repr=False)

    async def connect(self, address: str, port: int) -> Stream:
        """Connect to a host. Raises SourceUnusable (the proxy), HostUnreachable.

        The deadline is the caller's, apart from the PATIENCE with what the proxy does by itself.
        While it connects nobody can know which of the two is slow.
        """
        require_family(self.source, address, port)
        stream = await self._open()
        try:
            await self._request(stream, address, port)
        except BaseException:
            stream.close()
            raise
        return stream

    async def check(self) -> None:
        """See whether the proxy lets us in; no host is asked. Raises SourceUnusable."""
        (await self._open()).close()

    async def _open(self) -> Stream:
        """Get to where the proxy takes a request."""
        with self.proxy.blame(PATIENCE):
            stream = Stream(await self.proxy.open())
            try:
                await self._introduce(stream)
            except BaseException:
                stream.close()
                raise
        return stream

    # -- RFC 1928 §3, RFC 1929 ----------------------------------------------------------------

    async def _introduce(self, stream: Stream) -> None:
        # Never both methods: with a user name, "no authentication" would be agreed on by a proxy
        # that then does not know which of its addresses is meant.
        method = SOCKS5AuthMethod.NO_AUTH_REQUIRED
        if self.user:
            method = SOCKS5AuthMethod.USERNAME_PASSWORD
        await stream.send(SOCKS5AuthMethodsRequest([method]).dumps())
        octets = await _read(stream, 2)
        if octets[:1] != _VERSION:  # the library does not look
            raise self._talks_nonsense(octets)
        if octets[1:] != method.value:
            ours = "with user and password" if self.user else "without a password"
            raise SourceUnusable(f"the proxy {self.proxy} lets nobody in {ours}")
        if self.user:
            await self._authenticate(stream)

    async def _authenticate(self, stream: Stream) -> None:
        request = SOCKS5UsernamePasswordRequest(self.user.encode(), self.password.encode())
        await stream.send(request.dumps())
        if not SOCKS5UsernamePasswordReply.loads(await _read(stream, 2)).success:
            text = f"the proxy {self.proxy} refuses user {self.user!r} or its password"
            raise SourceUnusable(text)

    # -- RFC 1928 §4 to §6 --------------------------------------------------------------------

    async def _request(self, stream: Stream, address: str, port: int) -> None:
        ip = ipaddress.ip_address(address)
        request = SOCKS5CommandRequest(SOCKS5Command.CONNECT, _TYPES[ip.version], ip.packed, port)
        with self.proxy.blame(math.inf):  # how long a host may take is the caller's to say
            await stream.send(request.dumps())
            head = await _read(stream, 4)  # VER, REP, RSV, ATYP
        # A refusal is complete with its code: some proxies close without the address after it.
        self._check_code(head, address, port)
        with self.proxy.blame(PATIENCE):
            octets = head + await _read_address(stream, head[3:])
        try:
            reply = SOCKS5Reply.loads(octets)
        except ProtocolError:
            raise self._talks_nonsense(octets) from None
        self._check_bound(reply)

    def _check_code(self, head: bytes, address: str, port: int) -> None:
        """Raise what a reply's code says."""
        if head[:1] != _VERSION:
            raise self._talks_nonsense(head)
        try:
            code = SOCKS5ReplyCode(head[1:2])
        except ValueError:
            raise self._talks_nonsense(head) from None
        if code is SOCKS5ReplyCode.SUCCEEDED:
            return
        why = _HOST_TROUBLE.get(code) or _PROXY_TROUBLE[code]
        text = f"the proxy {self.proxy} cannot connect to {address} port {port}: {why}"
        if code in _HOST_TROUBLE or _asks_for_it(code, address):
            raise HostUnreachable(text)
        raise SourceUnusable(text)

    def _check_bound(self, reply: SOCKS5Reply) -> None:
        """Refuse a connection that the proxy says comes from another address than ours.

        Silence would be worse: the mail would leave from an address that SPF, PTR and warm-up know
        nothing of, and the other address' reputation would be charged to this source. Many proxies
        do not report (unspecified, a name); and behind NAT one knows its private address only,
        which proves nothing against a public one of ours. A source of 0.0.0.0 or :: takes any.
        """
        bound = _find_bound(reply)
        ours = ipaddress.ip_address(self.source)
        if bound is None or ours.is_unspecified or bound == ours:
            return
        if ours.is_global and not bound.is_global:
            return
        raise SourceUnusable(
            f"the proxy {self.proxy} connects from {bound}, not from {ours}: "
            "change the proxy, or the source's address"
        )

    def _talks_nonsense(self, octets: bytes) -> SourceUnusable:
        text = f"the proxy {self.proxy} does not speak SOCKS5: it says {octets[:16]!r}"
        return SourceUnusable(text)


async def _read(stream: Stream, size: int) -> bytes:
    """Return the next ``size`` octets, and leave what follows. Raises PeerClosed."""
    octets = b""
    while len(octets) < size:
        more = await stream.receive(size - len(octets))
        if not more:
            raise PeerClosed("connection closed")
        octets += more
    return octets


async def _read_address(stream: Stream, kind: bytes) -> bytes:
    """Return BND.ADDR and BND.PORT as they came; b"" for a kind that has no known length."""
    if kind == SOCKS5AType.DOMAIN_NAME:
        length = await _read(stream, 1)
        return length + await _read(stream, length[0] + 2)
    return await _read(stream, _SIZES[kind] + 2) if kind in _SIZES else b""


def _find_bound(reply: SOCKS5Reply) -> Address | None:
    """Return the address that the proxy says it uses; None when it does not say."""
    if reply.atype is SOCKS5AType.DOMAIN_NAME:
        return None
    address: Address = ipaddress.ip_address(reply.addr)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address  # a dual-stack socket's way to say IPv4
    return None if address.is_unspecified else address


def _asks_for_it(code: SOCKS5ReplyCode, address: str) -> bool:
    """Say whether a refusal that looks like the proxy's trouble is the address' own.

    Anybody can have an MX record point to 127.0.0.1 or to 255.255.255.255. A proxy that is not
    allowed to go there, or that its kernel does not let, is in order: its source must not rest.
    """
    ip = ipaddress.ip_address(address)
    if code is SOCKS5ReplyCode.CONNECTION_NOT_ALLOWED_BY_RULESET:
        return not ip.is_global or ip.is_multicast
    nowhere = ip.is_unspecified or ip.is_multicast or ip.is_link_local
    nowhere = nowhere or (ip.is_reserved and not ip.is_loopback)
    return code is SOCKS5ReplyCode.GENERAL_SERVER_FAILURE and nowhere
