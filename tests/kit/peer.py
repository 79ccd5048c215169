"""Scripted receiving hosts: SMTP servers on loopback that go wrong where a script says so.

    async with open_host('''
        RCPT1   450 4.2.0 come back later
        DATA    eof
    ''') as host:
        path = host.make_path()
        ...
        assert host.commands == [...]

A script has a line for each thing that is not as it should be: a step, and what happens there.

Steps are CONNECT EHLO HELO STARTTLS HANDSHAKE MAIL RCPT DATA BDAT RSET QUIT, CONTENT (in the
middle of it) and "." (after the final dot, or the last chunk). A number behind the step means
that occurrence of it only, counted over all sessions of the host, from 1.

    CODE TEXT    this reply; "|" divides its lines
    eof          close
    reset        close with RST
    silence      say nothing, for ever
    drip         a reply that never ends: an octet a minute
    raw TEXT     these characters and CRLF, whatever they mean; "|" divides lines
    wait         wait for ``host.gate``, then go on as if nothing had been (HANDSHAKE, too)

It has no code in common with the gateway: bytes are read and written here as RFC 5321 has them.
"""

import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Self

import trio
from trio.testing import wait_all_tasks_blocked

from relay.config.schema import Source, TlsLevel
from relay.model import Claim, Delivery, Envelope, Recipient, make_message_id
from relay.net.egress import Egress
from relay.net.stream import Stream
from relay.store.keys import find_shard
from workers.hosts import Host
from workers.opening import Opener
from workers.peer import Peer
from workers.route import Path
from workers.tls.guard import OPPORTUNISTIC, Guard
from workers.tls.pkix import Authorities

GOOD = {
    "CONNECT": "220 mx.test",
    "HELO": "250 mx.test",
    "STARTTLS": "220 go",
    "DATA": "354 go",
    "QUIT": "221 bye",
}
OFFERS = ("PIPELINING", "8BITMIME", "SIZE 100000000")
SMALL = b"Subject: x\r\n\r\nhello\r\n"
_LINE = re.compile(r"((?:\.|[A-Z]+)[0-9]*)\s+(.+)")


@dataclass(frozen=True)
class Received:
    """A message that a host has read to its end."""

    sender: bytes
    recipients: tuple[bytes, ...]  # accepted ones
    content: bytes
    client: str  # address
    session: int  # number, from 1
    tls: str  # version, "" in clear


class _Over(Exception):
    """The session has ended here."""


class ScriptedHost:
    """One host; see the top of this file. ``split``: replies leave octet by octet."""

    def __init__(
        self,
        script: str = "",
        *,
        offers: tuple[str, ...] = OFFERS,
        tls: ssl.SSLContext | None = None,
        name: str = "mx.test",
        split: bool = False,
        address: str = "127.0.0.1",
    ) -> None:
        self.script = read_script(script)
        self.offers = offers
        self.tls = tls
        self.name = name
        self.split = split
        self.address = address
        self.port = 0
        self.mark = ""  # fingerprint of its certificate, for who likes to note it here
        self.gate = trio.Event()
        self.commands: list[str] = []
        self.open = 0  # sessions now
        self.most = 0  # ... at the same time, at most
        self.times: list[float] = []  # trio time of each message
        self.messages: list[Received] = []
        self.clients: list[str] = []  # address of each session's client
        self.ends: list[str] = []  # how sessions ended: "quit", "eof", "us"
        self.counts: Counter[str] = Counter()
        self.discard = False  # read content, but do not keep it
        self.begun = 0  # contents that something goes wrong in, once their first octets are here
        self.window = 0  # octets that its kernel takes before it reads them; 0: as many as it likes
        self._changed = trio.Condition()

    @property
    def sessions(self) -> int:
        return len(self.clients)

    def make_host(self, name: str = "") -> Host:
        return Host(name or self.name, self.address, self.port)

    def make_path(self, tls: TlsLevel = "opportunistic", *, messages: int = 100) -> Path:
        return make_path(self.make_host(), tls=tls, messages=messages)

    async def wait_for(self, count: int, *, seconds: float = 10) -> None:
        """Wait until ``count`` messages are here."""
        await self.wait_until(lambda: len(self.messages) >= count, seconds=seconds)

    async def wait_until(self, condition, *, seconds: float = 10) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Wait until a condition holds; it is looked at whenever something happens here."""
        with trio.fail_after(seconds):
            async with self._changed:
                while not condition():
                    await self._changed.wait()

    async def run(
        self, task_status: trio.TaskStatus["ScriptedHost"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        (listener,) = await trio.open_tcp_listeners(self.port, host=self.address, backlog=1000)
        self.port = listener.socket.getsockname()[1]
        if self.window:  # its connections inherit it
            listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.window)
        async with trio.open_nursery() as nursery, listener:
            task_status.started(self)
            while True:
                stream = await listener.accept()
                nursery.start_soon(_Session(self, stream).run)

    async def tell(self) -> None:
        """Something has happened."""
        async with self._changed:
            self._changed.notify_all()

    def find_action(self, step: str) -> str:
        self.counts[step] += 1
        return self.script.get(f"{step}{self.counts[step]}") or self.script.get(step, "")


class _Session:
    """One connection to a host."""

    def __init__(self, host: ScriptedHost, stream: trio.SocketStream) -> None:
        self.host = host
        self.socket = stream.socket
        self.stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        self.buffer = bytearray()
        self.protocol = ""
        self.client = ""
        self.number = 0
        self.sender = b""
        self.recipients: list[bytes] = []
        self.chunks = bytearray()

    async def run(self) -> None:
        host = self.host
        try:
            self.client = self.socket.getpeername()[0]
            host.clients.append(self.client)
            host.open += 1
            host.most = max(host.most, host.open)
            self.number = host.sessions
            await host.tell()
            await self._converse()
        except (_Over, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError):
            host.ends.append("eof")
        else:
            host.ends.append("quit")
        finally:
            self.socket.close()
            host.open -= 1
        await host.tell()

    async def _converse(self) -> None:
        await self._answer("CONNECT")
        while True:
            line = await self._read_line()
            self.host.commands.append(line.decode("latin-1"))
            await self.host.tell()
            verb = line[:4].decode("latin-1").upper()
            verb = "STARTTLS" if line.upper() == b"STARTTLS" else verb
            await self._do(verb, line)
            await self.host.tell()
            if verb == "QUIT":
                return

    async def _do(self, verb: str, line: bytes) -> None:
        if verb == "BDAT":
            await self._take_chunk(line)
            return
        reply = await self._answer(verb)
        good = reply[:1] in ("2", "3")
        if verb == "MAIL" and good:
            self.sender, self.recipients = _find_address(line), []
        elif verb == "RCPT" and good:
            self.recipients.append(_find_address(line))
        elif verb == "DATA" and good:
            await self._take_content()
        elif verb == "STARTTLS" and good:
            await self._shake_hands()
        elif verb in ("RSET", "EHLO"):
            self.sender, self.recipients = b"", []
            self.chunks.clear()

    # -- answers

    async def _answer(self, step: str) -> str:
        """Answer a step as the script says; return the reply."""
        return await self._act(self.host.find_action(step), step)

    async def _act(self, action: str, step: str) -> str:
        word, _, text = action.partition(" ")
        if word == "wait":
            await self.host.gate.wait()
        elif word == "silence":
            await trio.sleep_forever()
        elif word == "eof":
            raise _Over
        elif word == "reset":
            # RFC 9293 §3.6: with linger at zero, closing aborts the connection.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise _Over
        elif word == "drip":
            while True:
                await trio.sleep(60)
                await self.stream.send_all(b"2")
        elif word == "raw":
            await self._send(text.replace("|", "\r\n").encode("latin-1") + b"\r\n")
            return text
        elif word:
            return await self._reply(action)
        return await self._reply(GOOD.get(step) or self._make_ehlo(step))

    def _make_ehlo(self, step: str) -> str:
        if step != "EHLO":
            return "250 ok"
        offers = [*self.host.offers]
        if self.host.tls is not None and not self.protocol:
            offers.append("STARTTLS")
        return "250 " + "|".join(["mx.test", *offers])

    async def _reply(self, reply: str) -> str:
        code, text = reply[:3], reply[4:].split("|")
        lines = [f"{code}-{line}\r\n" for line in text[:-1]] + [f"{code} {text[-1]}\r\n"]
        await self._send("".join(lines).encode("utf-8"))
        if code == "421":  # RFC 5321 §3.8: and closes
            raise _Over
        return reply

    async def _send(self, octets: bytes) -> None:
        if not self.host.split:
            await self.stream.send_all(octets)
            return
        for place in range(len(octets)):
            await self.stream.send_all(octets[place : place + 1])
            await wait_all_tasks_blocked()  # the other side gets to read it

    # -- content

    async def _take_content(self) -> None:
        if action := self.host.find_action("CONTENT"):
            await self._fill()
            self.host.begun += 1
            await self.host.tell()
            await self._act(action, "CONTENT")
        if self.host.discard:
            await self._discard()
        # The end of the line DATA counts: a message without a line is a dot alone.
        self.buffer[:0] = b"\r\n"
        place = 0
        while (end := self.buffer.find(b"\r\n.\r\n", place)) < 0:
            place = max(0, len(self.buffer) - 4)
            await self._fill()
        content = bytes(self.buffer[2 : end + 2])
        del self.buffer[: end + 5]
        if content.startswith(b"."):
            content = content[1:]
        await self._finish(content.replace(b"\r\n..", b"\r\n."))

    async def _discard(self) -> None:
        """Read up to the end of the content, and forget all but that."""
        while not (b"\r\n" + self.buffer).endswith(b"\r\n.\r\n"):
            del self.buffer[:-4]
            await self._fill()
        del self.buffer[:-3]

    async def _take_chunk(self, line: bytes) -> None:
        words = line.split()
        while len(self.buffer) < int(words[1]):
            await self._fill()
        self.chunks += self.buffer[: int(words[1])]
        del self.buffer[: int(words[1])]
        if words[2:] == [b"LAST"]:
            await self._finish(bytes(self.chunks))
            self.chunks.clear()
        else:
            await self._answer("BDAT")

    async def _finish(self, content: bytes) -> None:
        """The end of a message. It counts as received even if the answer is lost."""
        message = Received(
            self.sender, tuple(self.recipients), content, self.client, self.number, self.protocol
        )
        action = self.host.find_action(".")
        if action[:1] not in ("4", "5"):
            self.host.messages.append(message)
            self.host.times.append(trio.current_time())
            await self.host.tell()
        await self._act(action, ".")

    # -- bytes

    async def _fill(self) -> None:
        octets = await self.stream.receive_some(65536)
        if not octets:
            raise _Over
        self.buffer += octets

    async def _read_line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            await self._fill()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    async def _shake_hands(self) -> None:
        action = self.host.find_action("HANDSHAKE")
        await self.host.tell()
        if action == "wait":
            await self.host.gate.wait()
        elif action:
            await self._fill()  # the first message of the handshake
            await self._act(action, "HANDSHAKE")
            await trio.sleep_forever()
        assert self.host.tls is not None
        assert isinstance(self.stream, trio.SocketStream)
        stream = trio.SSLStream(self.stream, self.host.tls, server_side=True, https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            # A server says why (RFC 8446 §6.2); trio leaves the alert where nobody reads it.
            await self.stream.send_all(stream._outgoing.read())
            raise
        self.stream = stream
        self.protocol = str(stream.version())


def _find_address(line: bytes) -> bytes:
    return line[line.index(b"<") + 1 : line.rindex(b">")]


def read_script(script: str) -> dict[str, str]:
    """Read a script into step -> action. Raises ValueError."""
    actions = {}
    for line in filter(None, map(str.strip, script.splitlines())):
        if not (found := _LINE.fullmatch(line)):
            raise ValueError(f"not a line of a script: {line!r}")
        actions[found[1]] = found[2]
    return actions


@asynccontextmanager
async def open_host(
    script: str = "",
    *,
    offers: tuple[str, ...] = OFFERS,
    tls: ssl.SSLContext | None = None,
    name: str = "mx.test",
    split: bool = False,
    address: str = "127.0.0.1",
    port: int = 0,
    window: int = 0,
) -> AsyncIterator[ScriptedHost]:
    """Run a host for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        host = ScriptedHost(script, offers=offers, tls=tls, name=name, split=split, address=address)
        host.port, host.window = port, window
        await nursery.start(host.run)
        yield host
        nursery.cancel_scope.cancel()


def make_path(
    *hosts: Host,
    tls: TlsLevel = "opportunistic",
    messages: int = 100,
) -> Path:
    guards: dict[TlsLevel, Guard] = {"none": Guard("none", "none"), "opportunistic": OPPORTUNISTIC}
    guard = guards.get(tls) or Guard("site", tls)
    guarded = tuple(replace(host, guard=guard) for host in hosts)
    return Path("site", f"site/{hosts[0].name}/{tls}", guarded, messages, group=hosts[0].name)


async def open_peer(
    path: Path, egress: Egress, ehlo: str = "a.out.test", *, ca_file: str = ""
) -> Peer:
    """Open a session as a worker would that remembers nothing and counts nothing."""
    source = Source(name="a", address="127.0.0.11", ehlo=ehlo)
    return await Opener(Authorities.load(ca_file)).open(path, source, egress)


def find_refusing_host(name: str = "refusing.test") -> Host:
    """Return a host where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Host(name, "127.0.0.1", probe.getsockname()[1])


class DeadHost:
    """A host that drops what it is sent: its backlog is full, and stays so."""

    def __init__(self, name: str = "dead.test") -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.host = Host(name, *self._listener.getsockname())
        self._waiting = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((self.host.address, self.host.port))
            self._waiting.append(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in [*self._waiting, self._listener]:
            one.close()


# -- messages


def make_delivery(
    *recipients: bytes | Recipient,
    content: bytes = SMALL,
    sender: bytes = b"alice@acme.example",
    accepted: float = 0.0,
    chunks: int = 1,
    domain: str = "",
    alone: bool = True,
    pool: str = "default",
    tenant: str = "acme",
    tls: str = "",
    **more: object,
) -> Delivery:
    """Return a delivery to these recipients, all of one domain."""
    people = tuple(
        one if isinstance(one, Recipient) else Recipient(one)
        for one in recipients or (b"bob@y.test",)
    )
    domain = domain or people[0].address.rpartition(b"@")[2].decode()
    home = find_shard(domain)
    message_id = make_message_id(home)
    return Delivery(
        id=f"{message_id}.0",
        tenant=tenant,
        pool=pool,
        domain=domain,
        envelope=Envelope(sender, people, tls=tls),
        size=len(content),
        chunks=chunks,
        accepted=accepted,
        home=home,
        alone=alone,
        newline=content.endswith(b"\r\n"),
        **more,  # type: ignore[arg-type]
    )


def make_claim(delivery: Delivery | None = None, body: bytes | None = SMALL) -> Claim:
    """Return a claim as a worker would have it, without a store behind it."""
    delivery = delivery or make_delivery()
    return Claim(delivery, find_shard(delivery.domain), "token", 0, body, b"")


class Shelf:
    """Stands where the store does for a session with a peer: parts, and a note of attempts."""

    def __init__(self, *parts: bytes, ours: bool = True) -> None:
        self.parts = list(parts)
        self.attempts: list[bytes] = []
        self.ours = ours
        self.broken: Exception | None = None

    def record_attempt(self, _: Claim, event: bytes) -> "_Note":
        self.attempts.append(event)
        return _Note(int(self.ours))

    async def read_part(self, _: Delivery, part: int) -> bytes | None:
        await trio.lowlevel.checkpoint()
        if self.broken is not None:
            raise self.broken
        return self.parts[part] if part < len(self.parts) else None


@dataclass(frozen=True)
class _Note:
    """A reply that is there already."""

    reply: int

    async def wait(self) -> int:
        return self.reply


def connect_pair() -> tuple[Stream, trio.SocketStream]:
    """Return both ends of a connection: ours, and the peer's."""
    ours, theirs = socket.socketpair()
    return Stream(ours), trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
