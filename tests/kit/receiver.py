"""A receiving host with an opinion: what it answers depends on who asks.

    async with open_receiver() as receiver:
        receiver.judge = block("127.0.0.11", BLOCKED)
        ...
        assert receiver.count_taken("127.0.0.12") == 10

It speaks plain SMTP, one command at a time, and notes each attempt with its time: a message that it
took or refused, or a connection that it would not have.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from workers.hosts import Host

BLOCKED = (
    "550 5.7.1 Service unavailable; Client host [127.0.0.11] blocked using zen.spamhaus.org; "
    "https://www.spamhaus.org/query/ip/127.0.0.11"
)
_ADDRESS = re.compile(rb"<([^<>]*)>")
_MOST_LINE = 64 * 1024

# Client address, step ("CONNECT", "MAIL", "RCPT" or ".") and sender; returns the reply, "" for yes.
Judge = Callable[[str, str, bytes], str]


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt, as the receiver saw it."""

    time: float  # trio's
    client: str
    sender: bytes
    reply: str  # "" when it was taken


def say_yes(client: str, step: str, sender: bytes) -> str:
    """Take everything."""
    return ""


def block(client: str, reply: str, step: str = "RCPT") -> Judge:
    """Refuse one client at one step."""

    def judge(who: str, where: str, sender: bytes) -> str:
        return reply if (who, where) == (client, step) else ""

    return judge


def block_all(reply: str, step: str = "RCPT") -> Judge:
    """Refuse everybody at one step."""
    return lambda who, where, sender: reply if where == step else ""


class Receiver:
    """One host; ``judge`` may change at any time."""

    def __init__(self, judge: Judge = say_yes) -> None:
        self.judge = judge
        self.port = 0
        self.tries: list[Try] = []
        self._changed = trio.Condition()

    def make_host(self) -> Host:
        return Host("mx.test", "127.0.0.1", self.port)

    def find(self, client: str = "", *, taken: bool | None = None, since: float = 0.0) -> list[Try]:
        """Return the attempts of a client, or of all."""
        return [
            one
            for one in self.tries
            if (not client or one.client == client)
            and (taken is None or taken is not bool(one.reply))
            and one.time >= since
        ]

    def count_taken(self, client: str = "", *, since: float = 0.0) -> int:
        return len(self.find(client, taken=True, since=since))

    def count_by_client(self) -> Counter[str]:
        """Count what was taken."""
        return Counter(one.client for one in self.tries if not one.reply)

    async def wait_until(self, condition: Callable[[], bool], *, seconds: float = 20) -> None:
        """Wait until a condition holds; it is looked at after each attempt."""
        with trio.fail_after(seconds):
            async with self._changed:
                while not condition():
                    await self._changed.wait()

    async def run(
        self, task_status: trio.TaskStatus["Receiver"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        (listener,) = await trio.open_tcp_listeners(self.port, host="127.0.0.1", backlog=1000)
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery, listener:
            task_status.started(self)
            while True:
                nursery.start_soon(self._attend, await listener.accept())

    async def _attend(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await _Session(self, stream).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the client has gone

    async def note(self, client: str, sender: bytes, reply: str) -> None:
        """An attempt has ended."""
        self.tries.append(Try(trio.current_time(), client, sender, reply))
        async with self._changed:
            self._changed.notify_all()


class _Session:
    """One connection."""

    def __init__(self, receiver: Receiver, stream: trio.SocketStream) -> None:
        self.receiver = receiver
        self.stream = stream
        self.client: str = stream.socket.getpeername()[0]
        self.buffer = bytearray()
        self.sender = b""
        self.people = 0  # recipients that were taken

    async def run(self) -> None:
        if reply := self._judge("CONNECT"):
            await self.receiver.note(self.client, b"", reply)
            await self._say(reply)
            return
        await self._say("220 mx.test")
        while (line := await self._read_line()) is not None:
            if not await self._do(line[:4].decode("latin-1").upper(), line):
                return

    async def _do(self, verb: str, line: bytes) -> bool:
        """Answer a command; False when that ends the connection."""
        reply = "250 ok"
        if verb == "QUIT":
            reply = "221 bye"
        elif verb == "MAIL":
            self.sender, self.people = _find_address(line), 0
            reply = await self._decide("MAIL")
        elif verb == "RCPT":
            reply = await self._decide("RCPT")
            self.people += reply[0] == "2"
        elif verb == "DATA" and not self.people:
            reply = "554 5.5.1 no valid recipients"
        elif verb == "DATA":
            await self._say("354 go")
            await self._read_content()
            reply = await self._decide(".")
            if reply[0] == "2":
                await self.receiver.note(self.client, self.sender, "")
        await self._say(reply)
        # RFC 5321 §3.8: after a 421 it closes.
        return verb != "QUIT" and not reply.startswith("421")

    async def _decide(self, step: str) -> str:
        reply = self._judge(step)
        if reply:
            await self.receiver.note(self.client, self.sender, reply)
        return reply or "250 2.0.0 ok"

    def _judge(self, step: str) -> str:
        return self.receiver.judge(self.client, step, self.sender)

    async def _say(self, reply: str) -> None:
        await self.stream.send_all(reply.encode() + b"\r\n")

    async def _read_line(self) -> bytes | None:
        while (end := self.buffer.find(b"\r\n")) < 0:
            octets = await self.stream.receive_some(65536)
            if not octets or len(self.buffer) > _MOST_LINE:
                return None
            self.buffer += octets
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    async def _read_content(self) -> None:
        while (line := await self._read_line()) != b".":
            if line is None:
                raise trio.BrokenResourceError


def _find_address(line: bytes) -> bytes:
    found = _ADDRESS.search(line)
    return found[1] if found else b""


@asynccontextmanager
async def open_receiver(judge: Judge = say_yes) -> AsyncIterator[Receiver]:
    """Run a receiver for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        receiver = Receiver(judge)
        await nursery.start(receiver.run)
        yield receiver
        nursery.cancel_scope.cancel()
