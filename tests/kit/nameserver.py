"""A small DNS server on loopback, UDP and TCP, for tests: a zone as a dict, and trouble on demand.

    zone = {
        "example.test": {"MX": ["10 mx1.example.test."], "TXT": ['"v=spf1 -all"']},
        "mx1.example.test": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
        "www.example.test": {"CNAME": ["mx1.example.test."]},   # followed, as a resolver would
        "*.wild.test": {"A": ["192.0.2.9"]},                    # any name below, at any depth
        "broken.test": SERVFAIL,                                # or REFUSED, SILENT
    }
    async with open_nameserver(zone) as server:
        config = Dns(nameservers=(server.endpoint,), timeout=Seconds(2))
        ...
        assert server.queries == [("example.test", "MX")]

or, in a nursery of the caller's: ``server = await nursery.start(Nameserver(zone).run)``; it runs
until that nursery is cancelled. ``server.address`` and ``server.port`` say where.

Names are written in lower case without the final dot, records as in a zone file (targets with
the final dot; the root is "."). A name that is not in the zone does not exist (NXDOMAIN, unless
names below it do); a type that is not listed for a name gives an empty answer. The zone may be changed while
the server runs, ``server.trouble`` overrides all of it ("the whole DNS is down"), and
``server.gate`` (a trio.Event) holds every answer back until it is set. Answers that do not fit
a UDP packet are truncated, and had over TCP. It answers as a caching resolver does, with RA set,
and with AD when ``authentic`` is true.
"""

import enum
import functools
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

from relay.config import Endpoint


class Trouble(enum.Enum):
    """What a name can do instead of answering."""

    SERVFAIL = enum.auto()
    REFUSED = enum.auto()
    SILENT = enum.auto()  # no reply at all: the client times out


SERVFAIL, REFUSED, SILENT = Trouble
_RCODES = {SERVFAIL: dns.rcode.SERVFAIL, REFUSED: dns.rcode.REFUSED}
_SOA = "ns.invalid. hostmaster.invalid. 1 7200 900 1209600 {ttl}"

Zone = Mapping[str, Mapping[str, list[str]] | Trouble]


class Nameserver:
    """One server. ``queries`` lists (name, type) of every question that arrived, in order."""

    def __init__(
        self,
        zone: Zone,
        *,
        ttl: int = 300,
        address: str = "127.0.0.1",
        port: int = 0,
        authentic: bool = False,
    ) -> None:
        self.zone = zone
        self.ttl = ttl  # of positive and negative answers
        self.address = address
        self.port = port  # 0: a free one, known once ``run`` has started
        self.authentic = authentic
        self.queries: list[tuple[str, str]] = []
        self.trouble: Trouble | None = None
        self.gate: trio.Event | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.address, self.port)

    async def run(
        self, task_status: trio.TaskStatus["Nameserver"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; reports itself when both sockets are bound."""
        datagrams, listener = await self._bind()
        serve_tcp = functools.partial(trio.serve_listeners, self._serve_tcp, [listener])
        with datagrams:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_tcp)
                task_status.started(self)
                while True:
                    wire, peer = await datagrams.recvfrom(65535)
                    nursery.start_soon(self._answer_datagram, datagrams, wire, peer)

    async def _bind(self) -> tuple[trio.socket.SocketType, trio.SocketListener]:
        """Bind one port for both protocols; a free UDP port may be taken for TCP: try some."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        for _ in range(20):
            datagrams = trio.socket.socket(family, socket.SOCK_DGRAM)
            await datagrams.bind((self.address, self.port))
            port = datagrams.getsockname()[1]
            try:
                (listener,) = await trio.open_tcp_listeners(port, host=self.address)
            except OSError:
                datagrams.close()
                if self.port:
                    raise
                continue
            self.port = port
            return datagrams, listener
        raise OSError("no port is free for both UDP and TCP")

    async def _answer_datagram(
        self, datagrams: trio.socket.SocketType, wire: bytes, peer: tuple[object, ...]
    ) -> None:
        if (reply := await self._answer(wire)) is not None:
            room = max(512, reply.request_payload or 512)
            await datagrams.sendto(_fit(reply, room), peer)

    async def _serve_tcp(self, stream: trio.SocketStream) -> None:
        # RFC 1035 §4.2.2: a length of two octets before every message.
        async with stream:
            try:
                while wire := await _read_message(stream):
                    if (reply := await self._answer(wire)) is not None:
                        out = reply.to_wire(max_size=65535)
                        await stream.send_all(len(out).to_bytes(2, "big") + out)
            except trio.BrokenResourceError:
                pass

    async def _answer(self, wire: bytes) -> dns.message.Message | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append((name, kind))
        if self.gate is not None:
            await self.gate.wait()
        reply = dns.message.make_response(query, recursion_available=True)
        if self.authentic:
            reply.flags |= dns.flags.AD
        trouble = self.trouble or self._fill(reply, name, kind)
        if trouble is SILENT:
            return None
        if trouble is not None:
            reply.set_rcode(_RCODES[trouble])
            reply.answer.clear()
        return reply

    def _fill(self, reply: dns.message.Message, name: str, kind: str) -> Trouble | None:
        """Put the records into the reply, following aliases; returns the name's trouble."""
        for _ in range(12):
            records = self._find(name)
            if isinstance(records, Trouble):
                return records
            if records is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
                break
            if found := records.get(kind):
                reply.answer.append(self._rrset(name, kind, found))
                return None
            if not (alias := records.get("CNAME")):
                break
            reply.answer.append(self._rrset(name, "CNAME", alias))
            name = alias[0].rstrip(".")
        zone = name.rpartition(".")[2]
        reply.authority.append(self._rrset(zone, "SOA", [_SOA.format(ttl=self.ttl)]))
        return None

    def _find(self, name: str) -> Mapping[str, list[str]] | Trouble | None:
        if name in self.zone:
            return self.zone[name]
        below = "." + name
        if any(other.endswith(below) and not other.startswith("*") for other in self.zone):
            return {}  # RFC 8020: an empty name above others exists
        while "." in name:
            name = name.partition(".")[2]
            if f"*.{name}" in self.zone:
                return self.zone[f"*.{name}"]
        return None

    def _rrset(self, name: str, kind: str, records: list[str]) -> dns.rrset.RRset:
        return dns.rrset.from_text_list(name.rstrip(".") + ".", self.ttl, "IN", kind, records)


def _fit(reply: dns.message.Message, room: int) -> bytes:
    """Return the wire form, or only the question with TC set when the answer is too long."""
    wire = reply.to_wire(max_size=65535)
    if len(wire) <= room:
        return wire
    reply.answer.clear()
    reply.flags |= dns.flags.TC
    return reply.to_wire()


async def _read_message(stream: trio.SocketStream) -> bytes:
    """Return the next message, or b"" at the end."""
    received = b""
    while len(received) < 2 or len(received) < 2 + int.from_bytes(received[:2], "big"):
        if not (data := await stream.receive_some()):
            return b""
        received += data
    return received[2:]


@asynccontextmanager
async def open_nameserver(
    zone: Zone, *, ttl: int = 300, address: str = "127.0.0.1", authentic: bool = False
) -> AsyncIterator[Nameserver]:
    """Run a server for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        server = Nameserver(zone, ttl=ttl, address=address, authentic=authentic)
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()
