"""The sender's side: sessions that bring a corpus to the gateway, as Gmail would.

STARTTLS with the certificate verified against the gateway's name, PIPELINING, several messages a
connection, and another try for whatever is answered 4xx.
"""

import hashlib
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import trio

from relay.errors import NetworkError, PeerClosed, PeerSilent, TlsFailed
from relay.model import Envelope
from relay.net.connect import connect
from relay.net.stream import Stream
from relay.smtp.client import ClientSession, Closed, Event, Finished, Ready, SendContent, TlsGo
from relay.smtp.reply import RemoteProtocolError, Reply
from relay.smtp.transaction import RecipientResult
from workers.emulation.corpus import Corpus
from workers.emulation.inbox import Copy
from workers.exchange import next_event

_MESSAGES_PER_CONNECTION = 40
_PATIENCE = 120  # seconds for one answer; RFC 5321 §4.5.3.2 allows more, a demo does not
_TRIES = 60  # for one message, a pause apart: the gateway may be full, or starting again
_PAUSE = 1.0
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that the gateway has taken responsibility for."""

    number: int
    id: str  # as in the 250
    sender: bytes
    recipients: tuple[bytes, ...]
    digest: bytes  # SHA-256 of its content


@dataclass
class Sender:
    """Brings a corpus to one gateway, over several sessions at a time."""

    corpus: Corpus
    port: int
    hostname: str  # that the gateway's certificate must have
    context: ssl.SSLContext
    sessions: int = 10
    rate: float = 0.0  # messages a second, at most; 0: as fast as they are taken
    sent: list[Sent] = field(default_factory=list)
    accepted: int = 0  # recipients
    refused: Counter[str] = field(default_factory=Counter)  # messages, by what was said
    unanswered: set[Copy] = field(default_factory=set)  # the connection broke before the answer
    _began: float = field(default=0.0, init=False)

    async def run(self) -> None:
        """Send everything; returns when each message has its answer."""
        numbers = iter(range(len(self.corpus)))
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(self.sessions):
                nursery.start_soon(self._work, numbers)

    async def _work(self, numbers: Iterator[int]) -> None:
        line = _Line(self)
        try:
            for number in numbers:
                if self.rate:
                    await trio.sleep_until(self._began + number / self.rate)
                sample = self.corpus.make(number)
                await self._insist(line, number, sample.envelope, sample.content)
            await line.hang_up()
        finally:
            line.drop()

    async def _insist(self, line: "_Line", number: int, envelope: Envelope, content: bytes) -> None:
        """Send one message until every recipient has an answer that is not "later"."""
        answer = ""  # the last one that was not yes
        for _ in range(_TRIES):
            results = await self._try(line, envelope, content)
            pairs = list(zip(envelope.recipients, results, strict=True))
            taken = tuple(r.address for r, result in pairs if result.accepted)
            if taken:
                self._note(number, envelope.sender, taken, content, results)
            refusals = [result.reply for result in results if not result.accepted]
            answer = f"{refusals[0].code} {refusals[0].text}" if refusals else ""
            later = tuple(r for r, result in pairs if result.temporary)
            if not later:
                break
            envelope = msgspec.structs.replace(envelope, recipients=later)
            await trio.sleep(0 if taken else _PAUSE)
        if answer:
            self.refused[answer] += 1

    async def _try(
        self, line: "_Line", envelope: Envelope, content: bytes
    ) -> tuple[RecipientResult, ...]:
        results, is_known = await line.send(envelope, content)
        if not is_known:
            self.unanswered |= {(envelope.sender, r.address) for r in envelope.recipients}
        return results

    def _note(
        self,
        number: int,
        sender: bytes,
        taken: tuple[bytes, ...],
        content: bytes,
        results: tuple[RecipientResult, ...],
    ) -> None:
        final = next(result.reply for result in results if result.accepted)
        digest = hashlib.sha256(content).digest()
        # "2.0.0 <id>": the gateway's promise names the message.
        self.sent.append(Sent(number, final.text.rpartition(" ")[2], sender, taken, digest))
        self.accepted += len(taken)


class _Line:
    """One sender's connection to the gateway; made again whenever it is needed and not there."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._stream: Stream | None = None
        self._session = ClientSession(b"mail.acme.test")
        self._messages = 0

    async def send(
        self, envelope: Envelope, content: bytes
    ) -> tuple[tuple[RecipientResult, ...], bool]:
        """Send a message; return its results, and whether they are known for certain.

        Raises TlsFailed: a gateway with a wrong certificate will not get a right one.
        """
        try:
            if self._messages >= _MESSAGES_PER_CONNECTION or not self._session.can_begin:
                await self.hang_up()
            if self._stream is None:
                await self._open()
            self._messages += 1
            self._session.begin(envelope, len(content))
            results = await self._transact(content)
            return results, not self._session.content_sent
        except TlsFailed:
            raise
        except (NetworkError, RemoteProtocolError) as error:
            is_known = not self._session.content_sent
            results = self._session.abandon(str(error))
            self.drop()
            return results or _make_later(envelope, str(error)), is_known

    async def _transact(self, content: bytes) -> tuple[RecipientResult, ...]:
        while True:
            event = await self._next()
            if isinstance(event, Finished):
                return event.results
            if isinstance(event, SendContent):
                await self._send_content(content)
            elif isinstance(event, Closed):
                raise PeerClosed("the gateway closed the connection")

    async def _send_content(self, content: bytes) -> None:
        assert self._stream is not None
        for start in range(0, len(content), _PIECE):
            piece = content[start : start + _PIECE]
            last = start + _PIECE >= len(content)
            await self._stream.send(self._session.content(piece, last))

    async def _open(self) -> None:
        self._session = ClientSession(b"mail.acme.test")
        self._messages = 0
        self._stream = await connect("127.0.0.1", self._sender.port, source="127.0.0.1")
        await self._expect(Ready)
        if not self._session.capabilities.starttls:
            raise TlsFailed("the gateway does not offer STARTTLS")
        self._session.start_tls()
        await self._expect(TlsGo)
        await self._stream.start_tls(self._sender.context, server_hostname=self._sender.hostname)
        self._session.tls_started()
        await self._expect(Ready)

    async def _expect(self, kind: type[Event]) -> None:
        event = await self._next()
        if not isinstance(event, kind):
            raise PeerClosed(f"the gateway does not take mail now: {event}")

    async def _next(self) -> Event:
        assert self._stream is not None
        with trio.move_on_after(_PATIENCE):
            return await next_event(self._session, self._stream)
        raise PeerSilent(f"no answer to {self._session.awaiting} in {_PATIENCE} s")

    async def hang_up(self) -> None:
        """Say QUIT, and close."""
        if self._stream is None:
            return
        try:
            self._session.quit()
            await self._expect(Closed)
        except (NetworkError, RemoteProtocolError):
            pass  # it is over either way
        finally:
            self.drop()

    def drop(self) -> None:
        """Close without a word."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _make_later(envelope: Envelope, reason: str) -> tuple[RecipientResult, ...]:
    """Say "later" to every recipient of a message that never got as far as MAIL."""
    reply = Reply(451, (b"4.4.2 " + reason.encode(),))
    result = RecipientResult(reply, "CONNECT", local=True, temporary=True)
    return (result,) * len(envelope.recipients)
