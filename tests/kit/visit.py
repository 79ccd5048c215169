"""Visits to the ingress: a real session on one end of a socket pair, a client on the other.

A socket pair needs no ports and no waiting: what one end wrote, the other can read at once. So
the virtual clock (``autojump_clock``) moves only when both sides really wait.
"""

import contextlib
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from relay.config import Config, read
from relay.events import EventLog, decode_event
from relay.ingress.desk import Desk, furnish
from relay.ingress.precedence import Guest
from relay.ingress.session import Session
from relay.model import Delivery, Envelope, read_home
from relay.net.certificates import Certificates
from relay.net.resolver import Resolver
from relay.net.stream import Stream
from relay.smtp.events import ServerSettings
from relay.store.queue import Store

ADDRESS = "192.0.2.1"
TENANTS = [
    {"name": "acme", "domains": ["acme.example", "acme.test"], "networks": ["192.0.2.0/24"]},
    {"name": "other", "domains": ["other.example"], "networks": ["198.51.100.0/24"]},
]


def make_config(base: Path, *, tables: dict[str, Any] | None = None, **ingress: object) -> Config:
    """Return a configuration with two tenants; keywords go into ``[ingress]``."""
    document: dict[str, object] = {
        "ingress": {"hostname": "gw.example.net", **ingress},
        "tenant": TENANTS,
        **(tables or {}),
    }
    return read(document, base=base, environment={})


class OpenDoor:
    """Lets everybody in, unless told otherwise."""

    stopping = False
    trouble: tuple[int, str, str] | None = None
    patience = 300.0
    handshakes = True
    memory = 1 << 30  # octets that are left

    def find_trouble(self) -> tuple[int, str, str] | None:
        return self.trouble

    def find_patience(self, session: Guest) -> float:
        return self.patience

    def may_shake_hands(self, client: str) -> bool:
        return self.handshakes

    def reserve(self, octets: int) -> bool:
        if octets > self.memory:
            return False
        self.memory -= octets
        return True

    def release(self, octets: int) -> None:
        self.memory += octets


def make_desk(
    config: Config,
    store: Store,
    *,
    tls: Certificates | None = None,
    resolver: Resolver | None = None,
) -> Desk:
    """Return what sessions share, with an open door. Without ``resolver`` there is no DNS."""
    door = OpenDoor()
    door.patience = config.ingress.command_timeout
    events = EventLog(config.log.events)
    desk = furnish(config, store.link, events, door, tls=tls, resolver=resolver).desk
    if tls is None:
        return desk
    settings = ServerSettings(desk.settings.hostname, starttls=True, requiretls=True)
    return dataclasses.replace(desk, settings=settings)


def read_events(desk: Desk) -> list[dict[str, object]]:
    """Return what stands in the event log."""
    desk.acceptance.events.flush()
    return [decode_event(line) for line in Path(desk.config.log.events).read_bytes().splitlines()]


class Client:
    """A client of the session: octets out, whole replies in."""

    def __init__(self, stream: trio.abc.Stream, session: Session) -> None:
        self.stream = stream
        self.session = session
        self._input = b""

    async def send(self, octets: bytes) -> None:
        await self.stream.send_all(octets)

    async def read_line(self) -> bytes:
        """Return the next line, or what there is when the connection ends."""
        while b"\n" not in self._input:
            octets = b""
            with contextlib.suppress(trio.BrokenResourceError):  # a reset is an end, too
                octets = bytes(await self.stream.receive_some())
            if not octets:
                rest, self._input = self._input, b""
                return rest
            self._input += octets
        line, _, self._input = self._input.partition(b"\n")
        return line + b"\n"

    async def read_reply(self) -> bytes:
        """Return the next reply, all its lines."""
        reply = line = await self.read_line()
        while line[3:4] == b"-":
            line = await self.read_line()
            reply += line
        return reply

    async def say(self, line: bytes) -> bytes:
        """Send a command; return its reply."""
        await self.send(line + b"\r\n")
        return await self.read_reply()

    async def read_end(self) -> bytes:
        """Return everything up to the end of the connection."""
        rest = b""
        while line := await self.read_line():
            rest += line
        return rest

    async def open_transaction(self, *, recipient: bytes = b"b@y.test") -> None:
        """EHLO, MAIL, RCPT."""
        for line in (b"EHLO me.test", b"MAIL FROM:<a@acme.example>", b"RCPT TO:<%b>" % recipient):
            reply = await self.say(line)
            assert reply[:3] == b"250", reply

    async def send_data(self, content: bytes) -> bytes:
        """Send content by DATA, stuffed; return the last reply."""
        reply = await self.say(b"DATA")
        assert reply[:3] == b"354", reply
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        await self.send(stuffed)
        return await self.say(b".")

    async def send_chunks(self, content: bytes, *, size: int) -> bytes:
        """Send content by BDAT in chunks of this size; return the last reply."""
        chunks = [content[start : start + size] for start in range(0, len(content), size)]
        for chunk in chunks:
            await self.send(b"BDAT %d\r\n%b" % (len(chunk), chunk))
            reply = await self.read_reply()
            assert reply[:3] == b"250", reply
        return await self.say(b"BDAT 0 LAST")

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """Shake hands, after STARTTLS was answered."""
        assert not self._input
        assert isinstance(self.stream, trio.abc.Stream)
        tls = trio.SSLStream(self.stream, context, server_hostname=hostname, https_compatible=True)
        await tls.do_handshake()
        self.stream = tls


@contextlib.asynccontextmanager
async def visit(
    desk: Desk, *, address: str = ADDRESS, window: int | None = None, greeted: bool = True
) -> AsyncIterator[Client]:
    """Connect a client. At the end the session must end, too.

    ``greeted``: the greeting has been read. ``window``: size of the session's send buffer, for clients that do not read.
    """
    ours, theirs = socket.socketpair()
    if window is not None:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window)
    session = Session(Stream(theirs), address, desk)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    client = Client(stream, session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        try:
            if greeted:
                greeting = await client.read_reply()
                assert greeting[:3] == b"220", greeting
            yield client
        finally:
            stream.socket.close()


def read_id(reply: bytes) -> str:
    """Return the message id of a 250."""
    assert reply.startswith(b"250 2.0.0 "), reply
    message_id = reply[10:].strip().decode()
    assert len(message_id) == 24
    return message_id


async def read_parts(store: Store, message_id: str) -> list[bytes]:
    """Return the stored parts of a message."""
    delivery = Delivery(
        id=f"{message_id}.0", tenant="", pool="", domain="",
        envelope=Envelope(b"", ()), size=0, chunks=0, accepted=0, home=read_home(message_id),
        alone=True,
    )  # fmt: skip
    parts: list[bytes] = []
    while (part := await store.read_part(delivery, len(parts))) is not None:
        parts.append(part)
    return parts


def split_trace(stored: bytes) -> tuple[bytes, bytes]:
    """Return our Received line, unfolded, and the rest."""
    assert stored.startswith(b"Received: from ")
    # Not by its folding: a message may begin with a blank, and looks like more of our line then.
    end = stored.index(b" -0000\r\n") + 6
    return stored[:end].replace(b"\r\n\t", b" "), stored[end + 2 :]
