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

from relay.errors import TlsFailed
from relay.model import Envelope
from relay.smtp.reply import Reply
from relay.smtp.transaction import RecipientResult
from workers.emulation.corpus import Corpus
from workers.emulation.inbox import Copy
from workers.replay.line import Line, NotTaken, Target

_MESSAGES_PER_CONNECTION = 40
_PATIENCE = 120.0  # seconds for one message; RFC 5321 §4.5.3.2 allows more, a demo does not
_TRIES = 60  # for one message, a pause apart: the gateway may be full, or starting again
_PAUSE = 1.0
_EHLO = b"mail.acme.test"


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
        target = Target(
            "127.0.0.1", self.port, self.hostname, "127.0.0.1", _EHLO, "verify", self.context
        )
        line = Line(target, _MESSAGES_PER_CONNECTION, patience=_PATIENCE)
        try:
            for number in numbers:
                if self.rate:
                    await trio.sleep_until(self._began + number / self.rate)
                sample = self.corpus.make(number)
                await self._insist(line, number, sample.envelope, sample.content)
            await line.hang_up()
        finally:
            line.drop()

    async def _insist(self, line: Line, number: int, envelope: Envelope, content: bytes) -> None:
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
        self, line: Line, envelope: Envelope, content: bytes
    ) -> tuple[RecipientResult, ...]:
        try:
            answer = await line.send(envelope, content)
        except NotTaken as error:
            # A gateway with a wrong certificate will not get a right one.
            if isinstance(error.__cause__, TlsFailed):
                raise TlsFailed(str(error)) from error
            return _make_later(envelope, str(error))
        if answer.unknown:
            self.unanswered |= {(envelope.sender, r.address) for r in envelope.recipients}
        return answer.results

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


def _make_later(envelope: Envelope, reason: str) -> tuple[RecipientResult, ...]:
    """Say "later" to every recipient of a message that never got as far as MAIL."""
    reply = Reply(451, (b"4.4.2 " + reason.encode(),))
    result = RecipientResult(reply, "CONNECT", local=True, temporary=True)
    return (result,) * len(envelope.recipients)
