"""Handing messages to a gateway, one at a time or many, and knowing what became of each."""

import smtplib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.kit.load import Load

SENDER = "sender@acme.example"


def make_letter(mark: str, body: bytes = b"hello\r\n", *, head: bytes = b"") -> bytes:
    """Return a message with a mark, and with lines that begin with dots."""
    return (
        b"X-Mark: %b\r\n%bFrom: <sender@acme.example>\r\nSubject: letter\r\n"
        b"\r\n.\r\n..dots\r\n%b" % (mark.encode(), head, body)
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway said to a message, by the command that decided."""

    code: int
    text: str

    @property
    def id(self) -> str:
        """The id of a message that was accepted: ``250 2.0.0 <id>``."""
        assert self.code == 250, self
        return self.text.split()[1]


@contextmanager
def connect(port: int) -> Iterator[smtplib.SMTP]:
    """Open a session."""
    with smtplib.SMTP("127.0.0.1", port, "client.test", timeout=30) as session:
        session.ehlo()
        yield session


def send(session: smtplib.SMTP, octets: bytes, *people: str, sender: str = SENDER) -> Answer:
    """Send a message over an open session."""
    return _begin(session, people, sender) or _finish(session, octets)


def _begin(session: smtplib.SMTP, people: Sequence[str], sender: str) -> Answer | None:
    """Hand in the envelope; return the answer that refused it."""
    replies = [session.mail(sender)]
    if replies[-1][0] == 250:
        replies += [session.rcpt(one) for one in people]
    refused = next((reply for reply in replies if reply[0] // 100 != 2), None)
    if refused is None:
        return None
    session.rset()
    return _read(refused)


def _finish(session: smtplib.SMTP, octets: bytes) -> Answer:
    try:
        return _read(session.data(octets))
    except smtplib.SMTPDataError as error:
        return _read((error.smtp_code, error.smtp_error))


def _read(reply: tuple[int, bytes | str]) -> Answer:
    text = reply[1]
    return Answer(reply[0], text.decode() if isinstance(text, bytes) else text)


def post(port: int, octets: bytes, *people: str, sender: str = SENDER) -> Answer:
    """Send a message over a session of its own."""
    with connect(port) as session:
        return send(session, octets, *people, sender=sender)


def insist(
    port: int, octets: bytes, *people: str, sender: str = SENDER, seconds: float = 20
) -> tuple[Answer, Counter[int]]:
    """Send a message until it is accepted; return that answer, and how often there were others."""
    deadline = time.monotonic() + seconds
    others: Counter[int] = Counter()
    while (answer := post(port, octets, *people, sender=sender)).code != 250:
        others[answer.code] += 1
        assert time.monotonic() < deadline, (answer, others)
        time.sleep(0.1)
    return answer, others


@dataclass(frozen=True, slots=True)
class Promise:
    """A message that got its 250. ``moment``: when, seconds since 1970."""

    id: str
    people: tuple[str, ...]
    octets: bytes
    moment: float


class Traffic(Load):
    """As Load, with messages that are made for it; none is sent twice.

    ``promised``: by mark, what got 250; ``unknown``: marks of what was sent, and got no answer;
    ``answers``: how often each other code came.
    """

    def __init__(
        self,
        port: int,
        domains: Sequence[str],
        *,
        make: Callable[[str], bytes] = make_letter,
        sender: str = SENDER,
        threads: int = 4,
        pause: float = 0.01,
    ) -> None:
        super().__init__(port, domains, threads=threads, pause=pause)
        self.promised: dict[str, Promise] = {}
        self.answers: Counter[int] = Counter()
        self._make = make
        self._sender = sender

    def _send_one(self, session: smtplib.SMTP, mark: str, count: int) -> None:
        start = count % len(self._domains)
        domains = (list(self._domains) * 2)[start : start + (2 if count % 5 == 0 else 1)]
        people = tuple(f"r@{domain}" for domain in domains)
        octets = self._make(mark)
        answer = _begin(session, people, self._sender)
        if answer is None:
            self.unknown.add(mark)
            answer = _finish(session, octets)
        if answer.code == 250:
            self.promised[mark] = Promise(answer.id, people, octets, time.time())
        else:
            self.answers[answer.code] += 1
        # Last: what is looked at from another thread is in one of the two.
        self.unknown.discard(mark)

    def wait(self, more: int, *, seconds: float = 20) -> None:
        """Wait until so many more have got their 250."""
        enough, deadline = len(self.promised) + more, time.monotonic() + seconds
        while len(self.promised) < enough:
            assert time.monotonic() < deadline, (len(self.promised), enough, self.answers)
            time.sleep(0.02)
