"""The sending role of SMTP: what to say next, and what the answers mean.

Theory of operation
===================
Bytes in (``receive``, ``receive_eof``), events out (``next_event``), bytes out
(``data_to_send``, ``content``). Nothing here waits or reads a clock; that is the *driver's*
part. Its duty: after each ``next_event`` write what ``data_to_send`` returns, before it waits
for more. When ``next_event`` returns None, more bytes are needed; ``awaiting`` names the command
whose answer is due, the driver knows how long that may take (RFC 5321 §4.5.3.2), and when its
patience ends it calls ``abandon``.

    OPENING ──────► READY ◄──────► TRANSACTION        (begin ... Finished)
       ▲             │ ▲
       └─ TLS ◄─ ASKED ┘ refused     anything ──421, end, nonsense──► CLOSED

Between transactions one command is under way at a time: its name is ``_due``, and ``_TABLE``
says which severities its answer can have. The message itself is a machine of its own, with
pipelining: ``transaction``.

Invariants
* A transaction ends in exactly one place: one ``Finished`` with a result for each recipient in
  order, or one ``abandon`` that returns them.
* A result that the peer has given is never overwritten by what happens afterwards.
* Everything unexpected is a temporary result.
"""

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from relay.smtp.extensions import (
    Capabilities,
    Envelope,
    LocalProtocolError,
    check_word,
    read_capabilities,
)
from relay.smtp.reply import RemoteProtocolError, Reply, ReplyParser
from relay.smtp.transaction import Finished, Phase, RecipientResult, SendContent, Transaction

__all__ = [
    "ClientSession",
    "Closed",
    "Event",
    "Finished",
    "LocalProtocolError",
    "Ready",
    "RecipientResult",
    "Refused",
    "RemoteProtocolError",
    "Reply",
    "SendContent",
    "State",
    "TlsGo",
]


class State(enum.Enum):
    """What the driver may do now."""

    OPENING = "opening"  # greeting, EHLO or HELO is awaited (RFC 5321 §3.1, §3.2)
    READY = "ready"  # begin, start_tls, reset, quit (§4.1.4)
    ASKED = "asked"  # the answer to STARTTLS, RSET or QUIT is awaited
    TLS = "tls"  # the handshake, then tls_started (RFC 3207 §4)
    TRANSACTION = "transaction"  # content, when SendContent asks for it
    REFUSED = "refused"  # quit (RFC 5321 §3.1: also after a 554 greeting)
    CLOSED = "closed"  # nothing any more


@dataclass(frozen=True, slots=True)
class Ready:
    """The session can take a transaction, or ``start_tls``."""


@dataclass(frozen=True, slots=True)
class TlsGo:
    """The peer waits for the TLS handshake; ``tls_started`` when it is done."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer does not want us (CONNECT, EHLO, HELO), or no TLS (STARTTLS)."""

    command: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over. ``reply``: the 421, or the answer to QUIT; None when it just ended."""

    reply: Reply | None


Event = Ready | TlsGo | SendContent | Finished | Refused | Closed


class ClientSession:
    """One connection to a server, from greeting to end. See the top of this file.

    ``ehlo``: the name to say in EHLO. Raises LocalProtocolError when it cannot be one.
    """

    def __init__(self, ehlo: bytes) -> None:
        if not ehlo:
            raise LocalProtocolError("the name for EHLO is empty")
        self._name = check_word(ehlo)
        self.state = State.OPENING
        self.capabilities = Capabilities()
        self._parser = ReplyParser()
        self._due = "CONNECT"
        self._events: deque[Event] = deque()
        self._out = b""
        self._eof = False
        self._tls = False
        self._error: RemoteProtocolError | None = None
        self._closed = Closed(None)
        self._mails = 0
        self._domains: set[bytes] = set()  # of recipients; kept only for RCPTDOMAINMAX
        self._transaction: Transaction | None = None  # the open one, or the last one

    # -- What the driver asks

    @property
    def can_begin(self) -> bool:
        """True when ``begin`` may be called; False for good once MAILMAX is reached."""
        most = self.capabilities.mail_max  # RFC 9422 §4: MAIL commands in one session
        return self.state is State.READY and (most is None or self._mails < most)

    @property
    def takes_content(self) -> bool:
        """True when ``content`` may be called now; else wait for an event first."""
        transaction = self._open_transaction
        return transaction is not None and transaction.takes_content

    @property
    def content_sent(self) -> bool:
        """True from handing out the end of the content until its answer was read.

        When the connection dies in between, it stays True: the outcome is unknown (RFC 1047).
        """
        return self._transaction is not None and self._transaction.content_sent

    @property
    def awaiting(self) -> str:
        """The command whose answer is due next: CONNECT, EHLO, MAIL, ".", ...; "" when none is."""
        transaction = self._open_transaction
        return self._due if transaction is None else transaction.awaiting

    @property
    def _open_transaction(self) -> Transaction | None:
        return self._transaction if self.state is State.TRANSACTION else None

    # -- Bytes and events

    def receive(self, data: bytes) -> None:
        """Take what the peer sent. Raises RemoteProtocolError when now is not its turn at all."""
        if self.state is State.TLS:
            raise self._fail(RemoteProtocolError("clear text between STARTTLS and the handshake"))
        if self.state is not State.CLOSED:
            self._parser.feed(data)

    def receive_eof(self) -> None:
        """Note that the peer will send nothing more."""
        self._eof = True

    def data_to_send(self) -> bytes:
        """Return what must be written now, once."""
        data, self._out = self._out, b""
        return data

    def next_event(self) -> Event | None:
        """Return what happened next, or None when more bytes are needed to say.

        After the end it is Closed, each time. Raises RemoteProtocolError, from then on always:
        the connection is to be dropped, and the open transaction's results come from ``abandon``.
        """
        while not self._events:
            if self._error is not None:
                raise self._error
            if self.state is State.CLOSED:
                return self._closed
            try:
                reply = self._parser.next_reply()
                if reply is None and not self._eof:
                    return None
                self._handle(reply)
            except RemoteProtocolError as error:
                raise self._fail(error) from None
        return self._events.popleft()

    def _handle(self, reply: Reply | None) -> None:
        if reply is None:
            self._lose(Reply(421, (b"4.4.2 the peer closed the connection",)), local=True)
        elif reply.code == 421:  # RFC 5321 §3.8: to any command, and also to none
            self._closed = Closed(reply)
            self._lose(reply, local=False)
        elif (transaction := self._open_transaction) is not None:
            event = transaction.handle(reply)
            self._out += transaction.data_to_send()
            if event is not None:
                self._events.append(event)
            if transaction.phase is Phase.DONE:
                self.state = State.READY
        else:
            self._take_answer(reply)

    def _take_answer(self, reply: Reply) -> None:
        command, self._due = self._due, ""
        if not command:
            raise RemoteProtocolError(f"a reply that nobody asked for: {reply.code} {reply.text}")
        severities, act = _TABLE[command]
        if reply.severity not in severities:
            raise RemoteProtocolError(f"no answer to {command}: {reply.code} {reply.text}")
        act(self, reply)

    def _lose(self, reply: Reply, *, local: bool) -> None:
        """End the session because the peer did."""
        if (transaction := self._open_transaction) is not None:
            self._events.append(transaction.give_up(reply, local=local))
        elif not local and self._due in ("CONNECT", "EHLO", "HELO", "STARTTLS"):
            self._events.append(Refused(self._due, reply))
        self._close()

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._error = error
        self._close()
        return error

    def _close(self) -> None:
        self.state = State.CLOSED
        self._out = b""

    def abandon(self, reason: str) -> tuple[RecipientResult, ...]:
        """Give up: the connection failed, or took too long. Return the open transaction's results.

        Recipients that had their answer keep it, all others get a temporary one made of
        ``reason``. Empty when no transaction was open. The session is closed.
        """
        results: tuple[RecipientResult, ...] = ()
        transaction = self._transaction
        if transaction is not None and transaction.phase is not Phase.DONE:
            # RFC 3463 §3.5, §3.6: bad connection; or undefined protocol status, after nonsense.
            status = "4.4.2" if self._error is None else "4.5.0"
            reply = Reply(451, (f"{status} {reason}".encode("utf-8", "replace"),))
            results = transaction.give_up(reply, local=True).results
        self._close()
        return results

    # -- Opening, TLS, end

    def _send(self, command: str, line: bytes, state: State) -> None:
        self._due = command
        self._out += line
        self.state = state

    def _say_hello(self) -> None:
        self._send("EHLO", b"EHLO " + self._name + b"\r\n", State.OPENING)

    def _become_ready(self, capabilities: Capabilities) -> None:
        # RFC 3207 §4.2 forbids the one offer under TLS, RFC 8689 §2 the other in clear; whoever
        # makes it all the same is not heard.
        if self._tls:
            capabilities = replace(capabilities, starttls=False)
        elif capabilities.requiretls:
            capabilities = replace(capabilities, requiretls=False)
        self.capabilities = capabilities
        self.state = State.READY
        self._events.append(Ready())

    def _refuse(self, command: str, reply: Reply) -> None:
        self.state = State.REFUSED
        self._events.append(Refused(command, reply))

    def _on_greeting(self, reply: Reply) -> None:
        if reply.severity == 2:
            self._say_hello()
        else:
            self._refuse("CONNECT", reply)

    def _on_ehlo(self, reply: Reply) -> None:
        if reply.severity == 2:
            self._become_ready(read_capabilities(reply))
        elif reply.severity == 5:  # RFC 5321 §3.2, §4.1.4: a server that does not know EHLO
            self._send("HELO", b"HELO " + self._name + b"\r\n", State.OPENING)
        else:
            self._refuse("EHLO", reply)

    def _on_helo(self, reply: Reply) -> None:
        if reply.severity == 2:
            self._become_ready(Capabilities())
        else:
            self._refuse("HELO", reply)

    def start_tls(self) -> None:
        """Ask for TLS: TlsGo follows, or Refused, after which the session is READY as before.

        Raises LocalProtocolError when it is not the time, or the peer did not offer it.
        """
        if self.state is not State.READY or not self.capabilities.starttls:
            raise LocalProtocolError("STARTTLS is not possible now")
        self._send("STARTTLS", b"STARTTLS\r\n", State.ASKED)

    def _on_starttls(self, reply: Reply) -> None:
        if reply.severity != 2:
            self.state = State.READY
            self._events.append(Refused("STARTTLS", reply))
            return
        # RFC 3207 §5: what follows the 220 in clear text was put there by somebody who wants it
        # read as if it had come under TLS. No honest server speaks before the handshake.
        if not self._parser.is_empty:
            raise RemoteProtocolError("clear text behind the answer to STARTTLS")
        self.state = State.TLS
        self._events.append(TlsGo())

    def tls_started(self) -> None:
        """Go on under TLS: forget what was offered before, EHLO again (RFC 3207 §4.2)."""
        if self.state is not State.TLS:
            raise LocalProtocolError("the peer has not agreed to TLS")
        self._tls = True
        self.capabilities = Capabilities()
        self._say_hello()

    def reset(self) -> None:
        """Send RSET, to see whether an idle session is still alive: Ready follows, or Closed."""
        if self.state is not State.READY:
            raise LocalProtocolError("RSET is not possible now")
        self._send("RSET", b"RSET\r\n", State.ASKED)

    def _on_rset(self, _: Reply) -> None:
        self._transaction = None  # and with it its wish for a RSET
        self.state = State.READY
        self._events.append(Ready())

    def quit(self) -> None:
        """Say goodbye: Closed follows. Does nothing when the session is closed.

        Raises LocalProtocolError while an answer is awaited, and in content, where QUIT would be
        content.
        """
        if self.state is State.CLOSED:
            return
        if self.state not in (State.READY, State.REFUSED):
            raise LocalProtocolError("QUIT is not possible now")
        self._send("QUIT", b"QUIT\r\n", State.ASKED)

    def _on_quit(self, reply: Reply) -> None:
        self._closed = Closed(reply)
        self._close()

    # -- A transaction

    def begin(self, envelope: Envelope, size: int, *, final_newline: bool = True) -> None:
        """Start sending a message; SendContent or Finished follows.

        ``size``: octets of the content. ``final_newline``: whether it ends in CRLF; if not, BDAT
        is used where offered, because DATA would add one. Otherwise DATA is: it is the path that
        every server has tested, and pipelined it needs no more round trips.

        Raises LocalProtocolError when ``can_begin`` is False, there are no recipients, or an
        address or a parameter must not be sent; nothing has happened then.
        """
        if not self.can_begin:
            raise LocalProtocolError("no transaction is possible now")
        transaction = Transaction(
            envelope, size, self.capabilities, self._domains, final_newline=final_newline
        )
        before = self._transaction
        finished = transaction.start(reset=before is not None and before.needs_reset)
        if finished is not None:  # nobody was left to ask the peer about
            self._events.append(finished)
            return
        self._mails += 1
        self._transaction = transaction
        self._out += transaction.data_to_send()
        self.state = State.TRANSACTION

    def content(self, data: bytes, last: bool) -> bytes:
        """Return what to write for this piece of the content. After the ``last``: Finished.

        Pieces may begin and end anywhere. With DATA, all of them may follow one SendContent.
        With BDAT each piece is a chunk that is answered: look at ``takes_content`` between two,
        and when it is False go on at the next SendContent.

        Raises LocalProtocolError when ``takes_content`` is False.
        """
        transaction = self._open_transaction
        if transaction is None:
            raise LocalProtocolError("no transaction is open")
        return transaction.content(data, last=last)


# Command -> the severities that its answer can have (RFC 5321 §4.3.2; by §4.2.1 the first digit is
# what counts), and what is done with it.
_TABLE: dict[str, tuple[tuple[int, ...], Callable[[ClientSession, Reply], None]]] = {
    "CONNECT": ((2, 4, 5), ClientSession._on_greeting),
    "EHLO": ((2, 4, 5), ClientSession._on_ehlo),
    "HELO": ((2, 4, 5), ClientSession._on_helo),
    "STARTTLS": ((2, 4, 5), ClientSession._on_starttls),
    "RSET": ((2,), ClientSession._on_rset),
    "QUIT": ((2, 4, 5), ClientSession._on_quit),
}
