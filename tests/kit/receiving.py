"""A receiving session without a network, and a driver that says yes unless told otherwise."""

from collections.abc import Iterable, Mapping

from relay.smtp.server import (
    Aborted,
    Closed,
    Content,
    Data,
    EndOfMessage,
    Event,
    Mail,
    Rcpt,
    ServerSession,
    ServerSettings,
    StartTls,
)

# What the driver answers to an event instead of yes: code, status, text.
Refusals = Mapping[type[Event], tuple[int, str, str]]


class Exchange:
    """One session. ``say`` what a client says; the replies come back, the rest is kept here."""

    def __init__(self, *, refusals: Refusals | None = None, **settings: object) -> None:
        self.session = ServerSession(ServerSettings("mx.test", **settings))  # type: ignore[arg-type]
        self.refusals = dict(refusals or {})
        self.events: list[Event] = []  # contents joined, see ``messages``
        self.messages: list[bytes] = []
        self.closed = ""  # why, once it is
        self.most_buffered = 0
        self._content = b""
        self.session.greet()
        self.greeting = self.session.data_to_send()

    def say(self, octets: bytes) -> bytes:
        """Let these octets arrive at once; return what is written before more are read."""
        if self.closed:
            return b""
        self.session.receive(octets)
        while (event := self.session.next_event()) is not None:
            self._take(event)
        self.most_buffered = max(self.most_buffered, len(self.session._buffer))
        return self.session.data_to_send()

    def say_in(self, portions: Iterable[bytes]) -> bytes:
        """Let octets arrive in portions; return everything written."""
        return b"".join([self.say(portion) for portion in portions])

    def open_transaction(self, *, sender: bytes = b"a@x.test", parameters: bytes = b"") -> None:
        """EHLO, MAIL, RCPT."""
        replies = self.say(
            b"EHLO me.test\r\nMAIL FROM:<" + sender + b">" + parameters + b"\r\n"
            b"RCPT TO:<b@y.test>\r\n"
        )
        assert codes(replies)[-2:] == [250, 250], replies

    def _take(self, event: Event) -> None:
        if isinstance(event, Content):
            self._content += event.octets
            return
        self.events.append(event)
        if isinstance(event, Closed):
            self.closed = event.reason
        elif isinstance(event, Aborted):
            self._content = b""
        elif isinstance(event, StartTls):
            refusal = self.refusals.get(StartTls)
            if refusal is not None:
                self.session.refuse(*refusal)
            else:
                self.session.accept()
                self.session.tls_started()
        else:
            self._decide(event)

    def _decide(self, event: Event) -> None:
        assert isinstance(event, Mail | Rcpt | Data | EndOfMessage)
        refusal = self.refusals.get(type(event))
        if isinstance(event, EndOfMessage):
            if refusal is None:
                self.messages.append(self._content)
            self._content = b""
        if refusal is not None:
            self.session.refuse(*refusal)
        else:
            self.session.accept("ID" if isinstance(event, EndOfMessage) else "")


def codes(replies: bytes) -> list[int]:
    """Return the code of each reply; a reply of several lines counts once."""
    assert not replies or replies.endswith(b"\r\n"), replies
    return [int(line[:3]) for line in replies.splitlines() if line[3:4] == b" "]


def cut_in_two(octets: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Yield every way to cut octets into two."""
    for place in range(len(octets) + 1):
        yield octets[:place], octets[place:]


def cut_at(octets: bytes, lengths: Iterable[int]) -> list[bytes]:
    """Cut octets into portions of these lengths, and the rest."""
    portions = []
    for length in lengths:
        portions.append(octets[:length])
        octets = octets[length:]
    return [*portions, octets]
