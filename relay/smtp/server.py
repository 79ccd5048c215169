"""The receiving role: one session, from greeting to QUIT.

Theory of operation
===================
``receive`` takes octets; ``next_event`` returns what they mean, one event at a time, or None when
more octets are needed; ``data_to_send`` hands out the replies gathered meanwhile, so that a
pipelined group is answered with one write (RFC 2920 §3.2).

Commands that need no opinion (EHLO, NOOP, RSET, VRFY, nonsense) are answered here. Five events
ask the caller, and the session stands still until the answer is given with ``accept`` or
``refuse``:

    Mail            begin a transaction?
    Rcpt            one more recipient?
    Data            take the content? (comes before 354, or before the first BDAT chunk)
    EndOfMessage    responsible for it from now on? ``accept`` only when it is on disk
    StartTls        shake hands? After ``accept``: flush, shake hands, call ``tls_started``

The others tell: ``Content`` (a piece of the message, dots unstuffed), ``Aborted`` (the message is
void: the session has answered, or will), ``Closed`` (flush, then close).

Every limit ends in a reply and, where the peer shows no sense, in the end of the session:
octets without a line end, errors, commands without progress, recipients, message size.
"""

import enum
from collections.abc import Callable

from relay.smtp import grammar
from relay.smtp.command import BadCommand, Mail, Rcpt, read_mail, read_rcpt
from relay.smtp.events import (
    Aborted,
    Closed,
    Content,
    Data,
    EndOfMessage,
    Event,
    ServerSettings,
    StartTls,
)
from relay.smtp.incoming import Incoming

__all__ = [
    "Aborted", "Closed", "Content", "Data", "EndOfMessage", "Event", "Mail", "Rcpt",
    "ServerSession", "ServerSettings", "StartTls",
]  # fmt: skip

# RFC 5321 §4.5.3.1.4 has 512 octets for a command line, and extensions add to it (RFC 1870: 26,
# RFC 3461: 500 for ORCPT, RFC 6531: 10). Postfix and others take 2048.
MAX_LINE = 2048
# A human with telnet makes a few mistakes; a program that makes more is not a mail client.
MAX_ERRORS = 20
# Commands since the last message that got through. RSET and NOOP are free otherwise, and a
# session that only talks holds a connection for ever. What a large message needs many of does
# not count: RCPT, up to a multiple of the recipients that we take (the rest has to get its 452,
# RFC 5321 §4.5.3.1.10, or the client would come back with the same list for ever), and BDAT
# with a chunk worth the name (RFC 3030 sets no least size; Exim sends 8 KiB at a time).
MAX_IDLE_COMMANDS = 100
_RCPT_FACTOR = 10
_CHUNK_WORTH = 1024

_WEB = frozenset((b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT"))

_DATA, _END, _ABORTED = Data(), EndOfMessage(), "the sender began anew"


class _State(enum.Enum):
    COMMAND = enum.auto()
    MAIL = enum.auto()  # the caller decides on MAIL
    RCPT = enum.auto()  # ... on RCPT
    DATA = enum.auto()  # ... on taking content
    END = enum.auto()  # ... on the message
    CONTENT = enum.auto()  # reading what DATA or BDAT announced
    SKIP = enum.auto()  # ... a BDAT chunk that was refused
    TLS = enum.auto()  # the caller shakes hands
    CLOSED = enum.auto()


class ServerSession:
    """One SMTP session of the receiving role. Holds no socket, no clock, no opinion."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._buffer = bytearray()
        self._out = bytearray()
        self._state = _State.COMMAND
        self._next: Event | None = None  # decided already, to be returned next
        self._incoming = Incoming(settings)
        self._errors = 0
        self._broken = False  # the last line ended in a bare LF
        self._idle_commands = 0
        self._tls = False
        self._mail: Mail | None = None
        self._recipients = 0
        self._asked = 0  # RCPT commands in this transaction
        self._in_bdat = False  # between the first and the last BDAT
        self.hello = b""  # what the peer called itself
        self.extended = False  # ... with EHLO

    # -- octets ------------------------------------------------------------------------------

    def greet(self) -> None:
        """Queue the greeting (RFC 5321 §4.2: 220, the domain first)."""
        self._out += f"220 {self._settings.hostname} ESMTP outgate\r\n".encode("ascii")

    def receive(self, octets: bytes) -> None:
        """Take octets from the peer."""
        self._buffer += octets

    def data_to_send(self) -> bytes:
        """Return the replies that are due, once."""
        out = bytes(self._out)
        self._out.clear()
        return out

    @property
    def in_content(self) -> bool:
        """True between 354 and the terminator, or inside a BDAT chunk: other timeouts hold."""
        return self._state in (_State.CONTENT, _State.SKIP)

    @property
    def utf8(self) -> bool:
        """True while the open transaction asked for SMTPUTF8."""
        return self._mail is not None and self._mail.smtputf8

    def next_event(self) -> Event | None:
        """Return the next event, or None when more octets are needed."""
        event, self._next = self._next, None
        while event is None:
            state = self._state
            if state is _State.COMMAND:
                if not self._buffer or (line := self._next_line()) is None:
                    break
                event = self._command(line)
                continue
            if state is _State.CONTENT:
                event = self._read_content()
            elif state is _State.SKIP:
                self._skip_chunk()
            if self._state is state:
                break  # octets are missing, or it is the caller's turn, or the session is over
        return event

    # -- the caller's answers ------------------------------------------------------------------

    def accept(self, text: str = "") -> None:
        """Answer the event that asked with yes. ``text`` goes into the reply to EndOfMessage."""
        state, self._state = self._state, _State.COMMAND
        if state is _State.MAIL:
            self._reply(250, "2.1.0", "Sender OK")
        elif state is _State.RCPT:
            self._recipients += 1
            self._reply(250, "2.1.5", "Recipient OK")
        elif state is _State.TLS:
            self._reply(220, "2.0.0", "Go ahead")
            self._state = _State.TLS
        elif state is _State.DATA:
            self._state = _State.CONTENT
            if not self._in_bdat:
                self._out += b"354 Go ahead; end with CRLF.CRLF\r\n"
                self._incoming.start_data(self._buffer)
        else:
            assert state is _State.END, state
            self._idle_commands = 0
            self._reply(250, "2.0.0", text)
            self._end_transaction()

    def refuse(self, code: int, status: str, text: str) -> None:
        """Answer the event that asked with no. 421 also ends the session."""
        state, self._state = self._state, _State.COMMAND
        self._reply(code, status, text)
        if code >= 500:
            self._errors += 1
        if state is _State.DATA and self._in_bdat:
            self._state = _State.SKIP
        if state is not _State.RCPT:
            self._end_transaction()
        if code == 421:
            self._next = self._close(text)

    def shut_down(self, reason: str, *, code: int = 421, status: str = "4.3.2") -> Closed:
        """End the session from our side, now (RFC 5321 §3.8): queue the reply and close."""
        return self._give_up(code, status, reason)

    def tls_started(self) -> None:
        """Begin anew after the handshake: RFC 3207 §4.2, nothing said before it counts."""
        assert self._state is _State.TLS
        assert not self._buffer
        self._state = _State.COMMAND
        self._tls = True
        self.hello = b""
        self.extended = False
        self._end_transaction()

    # -- commands -----------------------------------------------------------------------------

    def _next_line(self) -> bytes | None:
        """Take a command line out of the buffer, without its CRLF."""
        end = self._buffer.find(b"\n", 0, MAX_LINE + 1)
        if end < 0:
            if len(self._buffer) <= MAX_LINE:
                return None
            self._buffer.clear()
            return b""  # which no line is: see _command
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _command(self, line: bytes) -> Event | None:
        if not line:
            return self._give_up(500, "5.5.2", "Command line too long")
        broken, self._broken = self._broken, line[-2:] != b"\r\n"
        if broken or self._broken or b"\r" in line[:-2] or b"\0" in line:
            # RFC 5321 §2.3.8: CR and LF only together. Anything else is where smuggling begins. What
            # stands behind a bare LF is the rest of a bad line, up to its CRLF, and no command: a
            # program may have put a stranger's words there and have taken care of CRLF only.
            return self._fault(500, "5.5.2", "Lines must end in CRLF, without bare CR, LF or NUL")
        self._idle_commands += 1
        if self._idle_commands > MAX_IDLE_COMMANDS:
            return self._give_up(421, "4.7.0", "Too many commands without a message")
        if self._errors > MAX_ERRORS and self._mail is None:
            # What the caller refused counts as well. Not within a transaction: a message of which one
            # recipient in twenty is good would never get through.
            return self._give_up(421, "4.7.0", "Too many errors")
        verb, _, argument = line[:-2].partition(b" ")
        handler = _COMMANDS.get(verb.upper())
        if handler is None:
            if verb.upper() in _WEB:
                # A browser was made to talk to us: commands may stand in what it posts.
                return self._give_up(500, "5.5.1", "This is no web server")
            return self._fault(500, "5.5.2", "Command not recognised")
        try:
            return handler(self, argument)
        except BadCommand as bad:
            return self._fault(bad.code, bad.status, bad.text)

    def _ehlo(self, argument: bytes) -> Event | None:
        self._hello("EHLO", argument)
        self.extended = True
        # RFC 5321 §4.1.1.1: the first line has our name. RFC 3207 §4.2: STARTTLS only once.
        self._out += f"250-{self._settings.hostname} greets you\r\n".encode("ascii")
        if self._settings.starttls and not self._tls:
            self._out += b"250-STARTTLS\r\n"
        if self._takes_requiretls:
            self._out += b"250-REQUIRETLS\r\n"
        self._out += self._settings.extensions
        return self._void()

    @property
    def _takes_requiretls(self) -> bool:
        return self._tls and self._settings.requiretls  # RFC 8689 §2: never in clear

    def _helo(self, argument: bytes) -> Event | None:
        self._hello("HELO", argument)
        self.extended = False
        self._out += f"250 {self._settings.hostname}\r\n".encode("ascii")
        return self._void()

    def _hello(self, verb: str, argument: bytes) -> None:
        name = argument.strip()
        if not grammar.HELLO.fullmatch(name):
            raise BadCommand(501, "5.5.2", f"Syntax: {verb} name")
        self.hello = name

    def _mail_from(self, argument: bytes) -> Event | None:
        if not self.hello:
            raise BadCommand(503, "5.5.1", "Say EHLO first")
        if self._settings.tls_required and not self._tls:
            raise BadCommand(530, "5.7.0", "Must issue a STARTTLS command first")  # RFC 3207 §4
        if self._mail is not None:
            raise BadCommand(503, "5.5.1", "A transaction is open already")
        self._mail = read_mail(
            argument,
            max_size=self._settings.max_message,
            requiretls=self._takes_requiretls,
        )
        self._state = _State.MAIL
        return self._mail

    def _rcpt_to(self, argument: bytes) -> Event | None:
        if self._mail is None:
            raise BadCommand(503, "5.5.1", "Say MAIL first")
        if self._in_bdat:
            raise BadCommand(503, "5.5.1", "BDAT has begun")
        self._asked += 1
        if self._asked <= _RCPT_FACTOR * self._settings.max_recipients:
            self._idle_commands -= 1
        rcpt = read_rcpt(argument, utf8=self._mail.smtputf8)
        if self._recipients >= self._settings.max_recipients:
            # RFC 5321 §4.5.3.1.10: 452, so that the client sends the rest in another transaction.
            self._reply(452, "4.5.3", f"Too many recipients: at most {self._recipients}")
            return None
        self._state = _State.RCPT
        return rcpt

    def _data(self, argument: bytes) -> Event | None:
        if argument.strip():
            raise BadCommand(501, "5.5.4", "DATA takes no argument")
        if self._in_bdat:
            raise BadCommand(503, "5.5.1", "BDAT has begun")  # RFC 3030 §2
        self._check_recipients()
        self._state = _State.DATA
        return _DATA

    def _check_recipients(self) -> None:
        if self._mail is None:
            raise BadCommand(503, "5.5.1", "Say MAIL and RCPT first")
        if not self._recipients:
            code = 554 if self._asked else 503
            raise BadCommand(code, "5.5.1", "No valid recipients")

    def _bdat(self, argument: bytes) -> Event | None:
        found = grammar.CHUNK.fullmatch(argument)
        if not self._settings.chunking or found is None:
            # Octets may follow whose number we do not know: nothing after this can be trusted.
            return self._give_up(501, "5.5.4", "BDAT not offered, or no size")
        length = int(found[1])
        if length > 2 * self._settings.max_message:
            return self._give_up(552, "5.3.4", "Chunk too big")
        if length >= _CHUNK_WORTH:
            self._idle_commands -= 1
        self._incoming.start_chunk(length, first=not self._in_bdat, last=bool(found[2]))
        try:
            self._check_recipients()
        except BadCommand:
            self._state = _State.SKIP
            self._end_transaction()
            raise
        if self._in_bdat:
            self._state = _State.CONTENT
            return None
        self._in_bdat = True
        self._state = _State.DATA
        return _DATA

    def _rset(self, argument: bytes) -> Event | None:
        self._reply(250, "2.0.0", "Forgotten")
        return self._void()

    def _noop(self, argument: bytes) -> Event | None:
        self._reply(250, "2.0.0", "OK")
        return None

    def _vrfy(self, argument: bytes) -> Event | None:
        # RFC 5321 §3.5.3: 252 says neither yes nor no.
        self._reply(252, "2.5.0", "Cannot verify, but will try to deliver")
        return None

    def _help(self, argument: bytes) -> Event | None:
        self._out += b"214 2.0.0 RFC 5321\r\n"
        return None

    def _not_here(self, argument: bytes) -> Event | None:
        return self._fault(502, "5.5.1", "Command not implemented")

    def _quit(self, argument: bytes) -> Event | None:
        self._reply(221, "2.0.0", f"{self._settings.hostname} closing")
        return self._close("quit")

    def _starttls(self, argument: bytes) -> Event | None:
        if argument.strip():
            raise BadCommand(501, "5.5.4", "STARTTLS takes no argument")
        if not self._settings.starttls or self._tls:
            raise BadCommand(502 if not self._tls else 503, "5.5.1", "STARTTLS not offered")
        if self._buffer:
            # RFC 3207 §4: STARTTLS is the last command of a group. Whatever came behind it in
            # clear was put there by somebody who wants it taken for encrypted.
            self._buffer.clear()
            return self._give_up(501, "5.5.1", "Octets after STARTTLS")
        self._state = _State.TLS
        return StartTls()

    # -- content ------------------------------------------------------------------------------

    def _read_content(self) -> Event | None:
        """Hand on what has arrived; at the end of the message or the chunk, answer or ask."""
        incoming = self._incoming
        event = incoming.take(self._buffer)
        if incoming.hopeless:
            return self._give_up(552, "5.3.4", "Message far too big")
        if incoming.more:
            return event
        self._state = _State.END
        if incoming.fault is not None:
            self.refuse(*incoming.fault)  # nothing to ask
        elif not incoming.last:
            self._state = _State.COMMAND
            self._reply(250, "2.0.0", f"{incoming.size} octets so far")
        elif event is None:
            return _END
        else:
            self._next = _END  # the last piece first
        return event

    def _skip_chunk(self) -> None:
        """RFC 3030 §2: the octets of a refused chunk come all the same. No answer: it was given."""
        self._incoming.skip(self._buffer)
        if not self._incoming.more:
            self._state = _State.COMMAND

    def _end_transaction(self) -> None:
        self._mail = None
        self._recipients = 0
        self._asked = 0
        self._in_bdat = False

    def _void(self) -> Event | None:
        """RSET, EHLO, HELO: the transaction is over (RFC 5321 §4.1.1.5, §4.1.4)."""
        was_open = self._mail is not None
        self._end_transaction()
        return Aborted(_ABORTED) if was_open else None

    # -- replies ------------------------------------------------------------------------------

    def _reply(self, code: int, status: str, text: str) -> None:
        self._out += f"{code} {status} {text}\r\n".encode("ascii", "replace")

    def _fault(self, code: int, status: str, text: str) -> Event | None:
        self._errors += 1
        if self._errors > MAX_ERRORS:
            return self._give_up(421, "4.7.0", "Too many errors")
        self._reply(code, status, text)
        return None

    def _give_up(self, code: int, status: str, text: str) -> Closed:
        self._reply(code, status, text)
        return self._close(text)

    def _close(self, reason: str) -> Closed:
        self._state = _State.CLOSED
        self._buffer.clear()
        return Closed(reason)


_COMMANDS: dict[bytes, Callable[[ServerSession, bytes], Event | None]] = {
    b"EHLO": ServerSession._ehlo,
    b"HELO": ServerSession._helo,
    b"MAIL": ServerSession._mail_from,
    b"RCPT": ServerSession._rcpt_to,
    b"DATA": ServerSession._data,
    b"BDAT": ServerSession._bdat,
    b"RSET": ServerSession._rset,
    b"NOOP": ServerSession._noop,
    b"VRFY": ServerSession._vrfy,
    b"EXPN": ServerSession._not_here,
    b"HELP": ServerSession._help,
    b"AUTH": ServerSession._not_here,
    b"ETRN": ServerSession._not_here,
    b"TURN": ServerSession._not_here,
    b"QUIT": ServerSession._quit,
    b"STARTTLS": ServerSession._starttls,
}
