"""A sending session and a scripted server, talking to each other without any network.

``Peer`` is a small SMTP server whose answer to each step can be replaced; ``talk`` is the driver
that the sending role expects around it. Everything ends up in lists that a test can compare.
"""

from dataclasses import dataclass, field

from relay.model import Envelope, Recipient
from relay.smtp.client import (
    ClientSession,
    Closed,
    Event,
    Finished,
    Ready,
    RecipientResult,
    RemoteProtocolError,
    SendContent,
    State,
    TlsGo,
)

EOF = b"<EOF>"  # as an answer: the server closes

GOOD = {
    "CONNECT": b"220 mx.test\r\n",
    "HELO": b"250 mx.test\r\n",
    "STARTTLS": b"220 go\r\n",
    "DATA": b"354 go\r\n",
    "QUIT": b"221 bye\r\n",
}


def make_envelope(*recipients: bytes, sender: bytes = b"a@x.test") -> Envelope:
    addresses = recipients or (b"b@y.test", b"c@y.test")
    return Envelope(sender, tuple(Recipient(address) for address in addresses))


class Peer:
    """A server that offers what it is told to, and answers ``answers[step]`` where there is one.

    Steps are the verbs; with a number from 1 up (RCPT2) for a particular one; "." for the end of
    the content. An answer stays owed when it is b"".
    """

    def __init__(self, *offers: bytes, answers: dict[str, bytes] | None = None) -> None:
        self.answers = GOOD | (answers or {})
        self.offers = offers
        self.commands: list[bytes] = []
        self.messages: list[bytes] = []
        self.closed = False
        self._counts: dict[str, int] = {}
        self._input = b""
        self._data = False
        self._chunks = b""

    def answer(self, step: str) -> bytes:
        self._counts[step] = number = self._counts.get(step, 0) + 1
        default = b"250 ok\r\n"
        if step == "EHLO":
            lines = (b"mx.test", *self.offers)
            default = b"".join(b"250-%b\r\n" % line for line in lines[:-1])
            default += b"250 %b\r\n" % lines[-1]
        answer = self.answers.get(f"{step}{number}", self.answers.get(step, default))
        if answer.endswith(EOF) or answer.startswith(b"421") or step == "QUIT":
            self.closed = True
        self._data = step == "DATA" and answer.startswith(b"3")
        return answer.removesuffix(EOF)

    def take(self, data: bytes) -> bytes:
        """Return the answers to these bytes."""
        self._input += data
        out = b""
        while not self.closed and (step := self._next_step()):
            out += self.answer(step)
        return out

    def _next_step(self) -> str:
        if self._data:
            if (end := (b"\r\n" + self._input).find(b"\r\n.\r\n")) < 0:
                return ""
            self.messages.append(self._input[:end])
            self._input = self._input[end + 3 :]
            return "."
        line, found, rest = self._input.partition(b"\r\n")
        if not found:
            return ""
        verb, *words = line.split(b" ")
        if verb == b"BDAT":
            length = int(words[0])
            if len(rest) < length:
                return ""
            self._chunks += rest[:length]
            rest = rest[length:]
            if words[1:] == [b"LAST"]:
                self.messages.append(self._chunks)
                self._chunks = b""
        self.commands.append(line)
        self._input = rest
        return verb.decode()


@dataclass
class Talk:
    """What happened in a dialogue."""

    session: ClientSession
    events: list[Event] = field(default_factory=list)
    results: tuple[RecipientResult, ...] | None = None
    error: str = ""
    groups: list[bytes] = field(default_factory=list)  # what was written between two reads

    @property
    def short(self) -> list[tuple[str, int, bool, bool]]:
        """The results, without texts."""
        return [(r.command, r.reply.code, r.local, r.temporary) for r in self.results or ()]


def talk(
    peer: Peer,
    envelopes: tuple[Envelope, ...] = (),
    *,
    content: tuple[bytes, ...] = (b"Subject: x\r\n", b"\r\nhello\r\n"),
    split: bool = False,
    tls: bool = False,
    final_newline: bool = True,
) -> Talk:
    """Drive a session through these transactions, then QUIT; stop where it stops."""
    driver = _Driver(list(envelopes or (make_envelope(),)), content, tls, final_newline)
    incoming = peer.answer("CONNECT")
    for _ in range(10_000):
        for portion in _cut(incoming, split=split):
            driver.take(portion)
        if peer.closed:
            driver.end()
        written, driver.written = driver.written, b""
        if written:
            driver.talk.groups.append(written)
        incoming = peer.take(written)
        if not incoming and not peer.closed:
            break
        if driver.is_over:
            break
    return driver.talk


def _cut(data: bytes, *, split: bool) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))] if split else [data]


class _Driver:
    def __init__(
        self, envelopes: list[Envelope], content: tuple[bytes, ...], tls: bool, final_newline: bool
    ) -> None:
        self.session = ClientSession(b"me.test")
        self.talk = Talk(self.session)
        self.written = b""
        self.is_over = False
        self._envelopes = envelopes
        self._content = content
        self._pieces: list[bytes] = []
        self._tls = tls
        self._final_newline = final_newline

    def take(self, data: bytes) -> None:
        if data:
            self._guard(lambda: self.session.receive(data))

    def end(self) -> None:
        self.session.receive_eof()
        self._guard(lambda: None)

    def _guard(self, act) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        if self.is_over:
            return
        try:
            act()
            while not self.is_over and (event := self.session.next_event()) is not None:
                self.talk.events.append(event)
                self._react(event)
                self.written += self.session.data_to_send()
        except RemoteProtocolError as error:
            self.talk.error = str(error)
            self.is_over = True
            if results := self.session.abandon("nonsense"):
                self.talk.results = results
        self.written += self.session.data_to_send()

    def _react(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.talk.results = event.results
        elif isinstance(event, SendContent):
            self._pieces = self._pieces or list(self._content)
            while self._pieces and self.session.takes_content:
                piece = self._pieces.pop(0)
                self.written += self.session.content(piece, not self._pieces)
        elif isinstance(event, TlsGo):
            self.session.tls_started()
        self.is_over = isinstance(event, Closed)
        if self.session.state is State.REFUSED:
            self.session.quit()
        elif self.session.state is State.READY and not isinstance(event, SendContent):
            self._go_on(event)

    def _go_on(self, event: Event) -> None:
        if isinstance(event, Ready) and self._tls and self.session.capabilities.starttls:
            self.session.start_tls()
        elif self._envelopes and self.session.can_begin:
            self.session.begin(
                self._envelopes.pop(0),
                sum(map(len, self._content)),
                final_newline=self._final_newline,
            )
        else:
            self.session.quit()
