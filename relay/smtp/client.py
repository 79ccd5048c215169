"""The sending role of SMTP: what to say next, and what the answers mean for each recipient.

Theory of operation
===================
A dialogue looks like a ladder of states, and the obvious machine has one for each command. With
PIPELINING (RFC 2920) that machine fails: MAIL, ten RCPT and DATA are under way at once, and the
session is in twelve states. What holds in every case is that answers come in the order of the
commands. So the heart of this session is a queue of the answers that are *owed* to us: a command
that is sent appends to it, a reply takes the oldest entry off, and ``_TABLE`` says which
severities that entry can have and what is done with it. A severity that is not in the table is
the protocol error; so is a reply while nothing is owed. Without PIPELINING the same machine runs
with a window of one.

``State`` is the small rest: what the *driver* may do now.

    OPENING ──► READY ──begin──► ENVELOPE ──► CONTENT ──last piece──► ANSWER ──► READY
       ▲          │                  └── every recipient refused ───────────────►  ▲
       └── TLS ◄──┘ start_tls                          anything ──421, end, nonsense──► CLOSED

The driver's duty: hand in what arrives (``receive``, ``receive_eof``), and after each
``next_event`` write what ``data_to_send`` returns before it waits for more. When ``next_event``
returns None, more bytes are needed. There is no clock here: ``awaiting`` names the command whose
answer is due, the driver knows how long that may take (RFC 5321 §4.5.3.2), and when its patience
ends it calls ``abandon``.

Invariants
* A transaction ends in exactly one place: one ``Finished`` with a result for each recipient in
  order, or one ``abandon`` that returns them.
* A result that the peer has given is never overwritten by what happens afterwards.
* Permanent results come from a peer's 5xx, or from a limit that the peer itself has stated.
  Everything unexpected is temporary.
* ``content_sent`` is True while nobody knows whether the message was accepted.
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
from relay.smtp.stuffing import DotStuffer
from relay.smtp.transaction import RecipientResult, Transaction, find_obstacle, make_result

# Commands whose answers we have not read. A server that blocks on writing its answers while we
# block on writing commands is a deadlock (RFC 2920 §3.1 leaves it to the client to avoid it): a
# hundred RCPT are some 10 KiB, a hundred answers likewise; socket buffers hold both.
WINDOW = 100
# Chunks in flight, for the same reason; and a refused message wastes no more than these.
CHUNK_WINDOW = 8


class State(enum.Enum):
    """What the driver may do now."""

    OPENING = "opening"  # greeting, EHLO or HELO is awaited (RFC 5321 §3.1, §3.2)
    READY = "ready"  # begin, start_tls, reset, quit (§4.1.4)
    ASKED = "asked"  # STARTTLS or RSET is awaited
    TLS = "tls"  # the handshake is the driver's (RFC 3207 §4)
    ENVELOPE = "envelope"  # MAIL, RCPT, DATA are awaited (RFC 5321 §3.3)
    CONTENT = "content"  # content, and nothing else
    ANSWER = "answer"  # the final answer is awaited
    REFUSED = "refused"  # quit (§3.1: after a 554 greeting, too)
    CLOSED = "closed"  # nothing any more


class Owed(enum.IntEnum):
    """The answers that can be owed to us; the number is the row in ``_TABLE``."""

    GREETING = 0
    EHLO = 1
    HELO = 2
    STARTTLS = 3
    MAIL = 4
    RCPT = 5
    DATA = 6
    DOT = 7
    LONE_DOT = 8
    BDAT = 9
    BDAT_LAST = 10
    RSET = 11
    QUIT = 12


@dataclass(frozen=True, slots=True)
class Ready:
    """The session can take a transaction, or ``start_tls``."""


@dataclass(frozen=True, slots=True)
class TlsGo:
    """The peer waits for the TLS handshake; ``tls_started`` when it is done."""


@dataclass(frozen=True, slots=True)
class SendContent:
    """The peer waits for content: call ``content``."""

    chunking: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The transaction is over: one result for each recipient, in order."""

    results: tuple[RecipientResult, ...]


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

_READY = Ready()
_DATA_GO = SendContent(chunking=False)
_BDAT_GO = SendContent(chunking=True)


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
        # From handing out the end of the content until its answer is read. A connection that
        # dies in between leaves the outcome unknown (RFC 1047), and this True.
        self.content_sent = False
        self._parser = ReplyParser()
        self._owed = deque([Owed.GREETING])
        self._events: deque[Event] = deque()
        self._out = b""
        self._eof = False
        self._error: RemoteProtocolError | None = None
        self._closed = Closed(None)
        self._tls = False
        self._needs_reset = False  # the peer may still have a transaction open
        self._mails = 0
        self._domains: set[bytes] = set()
        self._transaction: Transaction | None = None
        self._stuffer: DotStuffer | None = None  # in DATA; None in BDAT
        self._chunking = False

    # -- What the driver asks

    @property
    def can_begin(self) -> bool:
        """True when ``begin`` may be called; False for good once MAILMAX is reached."""
        most = self.capabilities.mail_max  # RFC 9422: MAIL commands in one session
        return self.state is State.READY and (most is None or self._mails < most)

    @property
    def takes_content(self) -> bool:
        """True when ``content`` may be called now; else wait for an event first."""
        if self.state is not State.CONTENT:
            return False
        return not self._chunking or len(self._owed) < self._chunk_window

    @property
    def _chunk_window(self) -> int:
        return CHUNK_WINDOW if self.capabilities.pipelining else 1

    @property
    def awaiting(self) -> str:
        """The command whose answer is due next (CONNECT, EHLO, ..., "."), "" when none is."""
        return _TABLE[self._owed[0]][0] if self._owed else ""

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
        the connection is to be dropped and the open transaction's results come from ``abandon``.
        """
        while not self._events:
            if self._error is not None:
                raise self._error
            if self.state is State.CLOSED:
                return self._closed
            try:
                reply = self._parser.next_reply()
                if reply is not None:
                    self._handle(reply)
                elif self._eof:
                    self._lose(Reply(421, (b"4.4.2 the peer closed the connection",)), local=True)
                else:
                    return None
            except RemoteProtocolError as error:
                raise self._fail(error) from None
        return self._events.popleft()

    def _handle(self, reply: Reply) -> None:
        if reply.code == 421:  # RFC 5321 §3.8, §4.2.1: to any command, and also to none
            self._lose(reply, local=False)
            return
        if not self._owed:
            raise RemoteProtocolError(f"a reply that nobody asked for: {reply.code} {reply.text}")
        command, severities, act = _TABLE[self._owed.popleft()]
        if reply.severity not in severities:
            raise RemoteProtocolError(f"no answer to {command}: {reply.code} {reply.text}")
        act(self, reply)

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._error = error
        self._close()
        return error

    def _close(self) -> None:
        self.state = State.CLOSED
        self._out = b""

    def _lose(self, reply: Reply, *, local: bool) -> None:
        """End the session because the peer did."""
        if not local:
            self._closed = Closed(reply)
            self.content_sent = False  # 421 is an answer, and it is no
        if self._transaction is not None:
            self._finish(RecipientResult(reply, self._blocked_at, local, temporary=True))
        elif not local and self.awaiting in ("CONNECT", "EHLO", "HELO", "STARTTLS"):
            self._events.append(Refused(self.awaiting, reply))
        self._close()

    @property
    def _blocked_at(self) -> str:
        """The command that an open transaction has come to."""
        if self._owed:
            return "MAIL" if self._owed[0] is Owed.RSET else self.awaiting
        return "BDAT" if self._chunking else "DATA"

    def abandon(self, reason: str) -> tuple[RecipientResult, ...]:
        """Give up: the connection failed, or took too long. Returns the open transaction's results.

        Recipients that had their answer keep it, all others get a temporary one made of
        ``reason``. Empty when no transaction was open. The session is closed.
        """
        # RFC 3463 §3.5, §3.6: bad connection; or undefined protocol status, after nonsense.
        status = "4.4.2" if self._error is None else "4.5.0"
        transaction, self._transaction = self._transaction, None
        self._close()
        if transaction is None:
            return ()
        reply = Reply(451, (f"{status} {reason}".encode(),))
        transaction.decide(RecipientResult(reply, self._blocked_at, local=True, temporary=True))
        return tuple(transaction.results)

    # -- Opening, TLS, end

    def _send(self, owed: Owed, line: bytes, state: State) -> None:
        self._owed.append(owed)
        self._out += line
        self.state = state

    def _say_hello(self) -> None:
        self._send(Owed.EHLO, b"EHLO " + self._name + b"\r\n", State.OPENING)

    def _become_ready(self, capabilities: Capabilities) -> None:
        # RFC 3207 §4.2 forbids the offer under TLS; whoever makes it all the same is not heard.
        self.capabilities = replace(capabilities, starttls=False) if self._tls else capabilities
        self.state = State.READY
        self._events.append(_READY)

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
        elif reply.severity == 5:  # RFC 5321 §3.2: a server that does not know EHLO
            self._send(Owed.HELO, b"HELO " + self._name + b"\r\n", State.OPENING)
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
        self._send(Owed.STARTTLS, b"STARTTLS\r\n", State.ASKED)

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
        self._needs_reset = False
        self._send(Owed.RSET, b"RSET\r\n", State.ASKED)

    def _on_rset(self, reply: Reply) -> None:
        if self.state is State.ASKED:
            self.state = State.READY
            self._events.append(_READY)
        else:
            self._go_on()

    def quit(self) -> None:
        """Say goodbye: Closed follows. Does nothing when the session is closed.

        Raises LocalProtocolError while answers are owed, and in content, where QUIT is content.
        """
        if self.state is State.CLOSED:
            return
        if self.state not in (State.READY, State.REFUSED):
            raise LocalProtocolError("QUIT is not possible now")
        self._send(Owed.QUIT, b"QUIT\r\n", State.ASKED)

    def _on_quit(self, reply: Reply) -> None:
        self._closed = Closed(reply)
        self._close()

    # -- A transaction: the envelope

    def begin(self, envelope: Envelope, size: int, *, final_newline: bool = True) -> None:
        """Start sending a message; SendContent or Finished follows.

        ``size``: octets of the content. ``final_newline``: whether it ends in CRLF; if not, BDAT
        is used where offered, because DATA would add one. Otherwise DATA is: it is the path that
        every server has tested, and pipelined it needs no more round trips.

        Raises LocalProtocolError when ``can_begin`` is False, there are no recipients, or an
        address or a parameter must not be sent; nothing has happened then.
        """
        if not self.can_begin or not envelope.recipients:
            raise LocalProtocolError("no transaction is possible now, or nobody to send to")
        capabilities = self.capabilities
        transaction = Transaction(envelope, size, capabilities, self._domains)
        obstacle = find_obstacle(envelope, size, capabilities)
        if obstacle is not None:
            transaction.decide(obstacle)
        if not transaction.has_unsent or obstacle is not None:
            self._events.append(Finished(tuple(transaction.results)))
            return
        self._transaction = transaction
        self._chunking = capabilities.chunking and not final_newline
        self._mails += 1
        self.state = State.ENVELOPE
        if self._needs_reset:
            self._needs_reset = False
            self._send(Owed.RSET, b"RSET\r\n", State.ENVELOPE)
            if not capabilities.pipelining:
                return
        self._send_mail(transaction)

    def _send_mail(self, transaction: Transaction) -> None:
        mail, transaction.mail = transaction.mail, b""
        self._send(Owed.MAIL, mail, State.ENVELOPE)
        if self.capabilities.pipelining:
            self._send_recipients(transaction)

    def _send_recipients(self, transaction: Transaction) -> None:
        pipelining = self.capabilities.pipelining
        lines = transaction.take((WINDOW if pipelining else 1) - len(self._owed))
        self._out += b"".join(lines)
        self._owed.extend([Owed.RCPT] * len(lines))
        # RFC 2920 §3.1: DATA may be the last of a group, BDAT too; but BDAT brings its content
        # along, and whether anybody wants that is not known yet.
        if pipelining and not self._chunking and not transaction.has_unsent:
            self._send(Owed.DATA, b"DATA\r\n", State.ENVELOPE)

    def _go_on(self) -> None:
        """Take the next step of the envelope, if no answer must be awaited before it."""
        transaction = self._transaction
        assert transaction is not None
        if transaction.mail:
            self._send_mail(transaction)
        elif transaction.has_unsent:
            self._send_recipients(transaction)
        elif self._owed:
            return
        elif not transaction.accepted:
            self._finish()
        elif self._chunking:
            self.state = State.CONTENT
            self._events.append(_BDAT_GO)
        else:
            self._send(Owed.DATA, b"DATA\r\n", State.ENVELOPE)

    def _on_mail(self, reply: Reply) -> None:
        assert self._transaction is not None
        self._transaction.take_mail_reply(reply)
        # From here to the end of the content the peer has a transaction open. If it does not get
        # that far, the next one begins with RSET: pipelined, this costs no round trip.
        self._needs_reset = reply.severity == 2
        self._go_on()

    def _on_rcpt(self, reply: Reply) -> None:
        assert self._transaction is not None
        self._transaction.take_rcpt_reply(reply)
        self._go_on()

    def _on_data(self, reply: Reply) -> None:
        assert self._transaction is not None
        if reply.severity != 3:
            self._finish(make_result(reply, "DATA"))
        elif self._transaction.accepted:
            self._stuffer = DotStuffer()
            self.state = State.CONTENT
            self._events.append(_DATA_GO)
        else:
            # RFC 2920 §3.1: everybody was refused, and the DATA that was pipelined behind was
            # not. The way out is a message of no lines; what is said to it is of no interest.
            self._send(Owed.LONE_DOT, b".\r\n", State.ANSWER)

    # -- A transaction: the content, and the end

    def content(self, data: bytes, last: bool) -> bytes:
        """Return what to write for this piece of the content. After the ``last``: Finished.

        Pieces may begin and end anywhere. With DATA, all of them may follow one SendContent.
        With BDAT each piece is a chunk that is answered: look at ``takes_content`` between two,
        and when it is False go on at the next SendContent.

        Raises LocalProtocolError when ``takes_content`` is False.
        """
        if not self.takes_content:
            raise LocalProtocolError("the peer does not wait for content")
        if self._chunking:
            return self._write_chunk(data, last=last)
        assert self._stuffer is not None
        if last:
            self._end_content(Owed.DOT)
        return self._stuffer.write(data, last=last)

    def _write_chunk(self, data: bytes, *, last: bool) -> bytes:
        if last:
            self._end_content(Owed.BDAT_LAST)
            return b"BDAT %d LAST\r\n%b" % (len(data), data)
        if not data:
            return b""
        self._owed.append(Owed.BDAT)
        return b"BDAT %d\r\n%b" % (len(data), data)

    def _end_content(self, owed: Owed) -> None:
        self._owed.append(owed)
        self.state = State.ANSWER
        self.content_sent = True

    def _on_dot(self, reply: Reply) -> None:
        self.content_sent = self._needs_reset = False
        self._finish(make_result(reply, "."))

    def _on_lone_dot(self, _: Reply) -> None:
        self._needs_reset = False
        self._finish()

    def _on_bdat(self, reply: Reply) -> None:
        if reply.severity != 2:
            # RFC 3030 §2: the message has failed with its first refused chunk. The peer throws
            # away what is in flight behind it and answers that, too; then RSET is needed.
            assert self._transaction is not None
            self._transaction.decide(make_result(reply, "BDAT"))
            self.state = State.ANSWER
            self.content_sent = False
        if self.state is not State.CONTENT:
            if not self._owed:
                self._finish()
        elif len(self._owed) == self._chunk_window - 1:  # it was full, and the driver waits
            self._events.append(_BDAT_GO)

    def _on_bdat_last(self, reply: Reply) -> None:
        self.content_sent = False
        self._needs_reset = reply.severity != 2
        self._finish(make_result(reply, "BDAT"))

    def _finish(self, result: RecipientResult | None = None) -> None:
        """End the transaction; ``result`` is for those that have none yet."""
        transaction, self._transaction = self._transaction, None
        assert transaction is not None
        if result is not None:
            transaction.decide(result)
        self.state = State.READY
        self._events.append(Finished(tuple(transaction.results)))


# Owed answer -> its command, the severities it can have, what is done with it (RFC 5321 §4.3.2
# lists the codes; by §4.2.1 their first digit is what counts).
_TABLE: tuple[tuple[str, tuple[int, ...], Callable[[ClientSession, Reply], None]], ...] = (
    ("CONNECT", (2, 4, 5), ClientSession._on_greeting),
    ("EHLO", (2, 4, 5), ClientSession._on_ehlo),
    ("HELO", (2, 4, 5), ClientSession._on_helo),
    ("STARTTLS", (2, 4, 5), ClientSession._on_starttls),
    ("MAIL", (2, 4, 5), ClientSession._on_mail),
    ("RCPT", (2, 4, 5), ClientSession._on_rcpt),
    ("DATA", (3, 4, 5), ClientSession._on_data),
    (".", (2, 4, 5), ClientSession._on_dot),
    (".", (2, 4, 5), ClientSession._on_lone_dot),
    ("BDAT", (2, 4, 5), ClientSession._on_bdat),
    ("BDAT", (2, 4, 5), ClientSession._on_bdat_last),
    ("RSET", (2,), ClientSession._on_rset),
    ("QUIT", (2, 4, 5), ClientSession._on_quit),
)
