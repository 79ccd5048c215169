"""One message on its way to one server: MAIL, RCPT and content, and a result for each recipient.

Theory of operation
===================
A transaction looks like a ladder of states, and the obvious machine has one for each command.
With PIPELINING (RFC 2920) that machine fails: MAIL, ten RCPT and DATA are under way at once, and
the transaction is in twelve states. What holds in every case is that answers come in the order
of the commands. So the heart of this one is a queue of the answers that are *owed* to us: a
command that is sent is appended, a reply takes the oldest off, and ``_TABLE`` says which
severities an answer to it can have and what is done with it. A severity that is not in the table
is the protocol error; so is a reply while nothing is owed: after either, nobody knows any more
which answer belongs to whom. Without PIPELINING the same machine runs with a window of one.

``Phase`` is the small rest:

    ENVELOPE ──somebody is accepted──► CONTENT ──last piece──► ANSWER ──► DONE
        └──────────everybody is refused──────────────────────────────────►

Invariants
* A recipient's result, once there, stays.
* A permanent result comes from a peer's 5xx, or from a limit that the peer itself has stated.
* ``content_sent`` is True while nobody knows whether the message was accepted.
"""

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.smtp.extensions import Capabilities, Envelope, LocalProtocolError, Recipient
from relay.smtp.reply import RemoteProtocolError, Reply
from relay.smtp.stuffing import DotStuffer

# Commands whose answers we have not read. A server that blocks on writing its answers while we
# block on writing commands is a deadlock, and avoiding it is the client's duty (RFC 2920 §3.1).
# A hundred RCPT are some 10 KiB, a hundred answers likewise; socket buffers hold both.
WINDOW = 100
# Chunks in flight, for the same reason; and a refused message wastes no more than these.
CHUNK_WINDOW = 8


class Phase(enum.Enum):
    """How far a transaction has come (RFC 5321 §3.3)."""

    ENVELOPE = "envelope"  # answers to MAIL, RCPT, DATA are awaited
    CONTENT = "content"  # the peer waits for content, and for nothing else
    ANSWER = "answer"  # nothing more is sent; the last answers are awaited
    DONE = "done"


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """What one transaction meant for one recipient."""

    reply: Reply  # the one that decided; written by ourselves when ``local``
    command: str  # that it answers: MAIL, RCPT, DATA, "." or BDAT
    local: bool = False  # the peer did not say this: we did
    temporary: bool = False  # worth another try; never true of a 2xx

    @property
    def accepted(self) -> bool:
        """True when the peer has taken the message for this recipient."""
        return self.reply.severity == 2


@dataclass(frozen=True, slots=True)
class SendContent:
    """The peer waits for content: call ``content``."""

    chunking: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The transaction is over: one result for each recipient, in order."""

    results: tuple[RecipientResult, ...]


_DATA_GO = SendContent(chunking=False)
_BDAT_GO = SendContent(chunking=True)


def _refuse(code: int, text: bytes, command: str) -> RecipientResult:
    """Return a result that we give ourselves."""
    return RecipientResult(Reply(code, (text,)), command, local=True, temporary=code < 500)


# Stands for a recipient about whom nothing is decided yet.
_OPEN = _refuse(400, b"", "")
_NO_UTF8 = _refuse(550, b"5.6.7 the message needs SMTPUTF8, not offered by this server", "MAIL")
# RFC 8689 §4.2.1, its words.
_NO_REQUIRETLS = _refuse(550, b"5.7.30 REQUIRETLS support required", "MAIL")
_TOO_MANY = _refuse(452, b"4.5.3 more recipients than this server takes at once", "RCPT")
_TOO_MANY_DOMAINS = _refuse(452, b"4.5.3 more domains than this server takes at once", "RCPT")


class Transaction:
    """See the top of this file. ``start`` it, ``handle`` each reply until there is a Finished.

    ``domains``: the recipient domains that this session has named; is added to. Raises
    LocalProtocolError for nobody to send to, and for addresses and parameters that must not be
    sent.
    """

    __slots__ = (
        "_accepted",
        "_answered",
        "_chunking",
        "_lines",
        "_mail",
        "_out",
        "_owed",
        "_pipelining",
        "_places",
        "_results",
        "_sent",
        "_stuffer",
        "content_sent",
        "needs_reset",
        "phase",
    )

    def __init__(
        self,
        envelope: Envelope,
        size: int,
        capabilities: Capabilities,
        domains: set[bytes],
        *,
        final_newline: bool,
    ) -> None:
        recipients = envelope.recipients
        if not recipients:
            raise LocalProtocolError("a message without recipients")
        utf8 = envelope.smtputf8
        self.phase = Phase.ENVELOPE
        self.content_sent = False  # its end was handed out, and its answer was not read
        self.needs_reset = False  # the peer may still have this transaction open
        self._pipelining = capabilities.pipelining
        self._chunking = capabilities.chunking and not final_newline
        self._stuffer: DotStuffer | None = None
        self._out = b""
        self._owed: deque[str] = deque()
        self._mail = capabilities.format_mail(envelope, size)
        self._lines = [capabilities.format_rcpt(one, utf8=utf8) for one in recipients]
        self._places: Sequence[int] = range(len(recipients))  # of each line, in the results
        self._results = [_OPEN] * len(recipients)
        self._sent = self._answered = 0  # RCPT commands
        self._accepted = 0  # recipients that wait for the final answer
        obstacle = _find_obstacle(envelope, size, capabilities)
        if obstacle is not None:
            self._refuse_all(obstacle)
        elif capabilities.rcpt_max is not None or capabilities.rcpt_domain_max is not None:
            self._apply_limits(recipients, capabilities, domains)

    def _apply_limits(
        self, recipients: Sequence[Recipient], capabilities: Capabilities, domains: set[bytes]
    ) -> None:
        """Sort out the recipients beyond what the peer has said it takes (RFC 9422 §4)."""
        places: list[int] = []
        for place, recipient in enumerate(recipients):
            domain = recipient.address.rpartition(b"@")[2].lower()
            most = capabilities.rcpt_domain_max  # in a session; RCPTMAX: in a transaction
            if capabilities.rcpt_max is not None and len(places) >= capabilities.rcpt_max:
                self._results[place] = _TOO_MANY
            elif most is not None and domain not in domains and len(domains) >= most:
                self._results[place] = _TOO_MANY_DOMAINS
            else:
                domains.add(domain)
                places.append(place)
        self._lines = [self._lines[place] for place in places]
        self._places = places

    def start(self, *, reset: bool) -> Finished | None:
        """Send the first commands, RSET before them if told to; or finish when nobody is left."""
        if not self._lines:
            return self._finish()
        if reset:
            self._send("RSET", b"RSET\r\n")
        if self._pipelining or not reset:
            self._send_mail()
        return None

    @property
    def awaiting(self) -> str:
        """The command whose answer is due next, "" when none is."""
        return self._owed[0] if self._owed else ""

    def data_to_send(self) -> bytes:
        """Return what must be written now, once."""
        data, self._out = self._out, b""
        return data

    def handle(self, reply: Reply) -> SendContent | Finished | None:
        """Take the next reply. Raises RemoteProtocolError when it cannot be an answer."""
        if not self._owed:
            raise RemoteProtocolError(f"a reply that nobody asked for: {reply.code} {reply.text}")
        command = self._owed[0]
        severities, act = _TABLE[command]
        if reply.severity not in severities:  # the answer stays owed: see ``give_up``
            raise RemoteProtocolError(f"no answer to {command}: {reply.code} {reply.text}")
        self._owed.popleft()
        return act(self, reply)

    def give_up(self, reply: Reply, *, local: bool) -> Finished:
        """End it here: who has no result yet gets this reply as a temporary one."""
        command = self.awaiting or ("BDAT" if self._chunking else "DATA")
        if command == "RSET":  # ours, in front of MAIL
            command = "MAIL"
        if not local:
            self.content_sent = False  # 421 is an answer, and it is no
        return self._finish(RecipientResult(reply, command, local, temporary=True))

    # -- The envelope

    def _send(self, command: str, line: bytes) -> None:
        self._owed.append(command)
        self._out += line

    def _send_mail(self) -> None:
        self._send("MAIL", self._mail)
        self._mail = b""
        if self._pipelining:
            self._send_recipients()

    def _send_recipients(self) -> None:
        room = (WINDOW if self._pipelining else 1) - len(self._owed)
        lines = self._lines[self._sent : self._sent + room]
        self._sent += len(lines)
        self._out += b"".join(lines)
        self._owed.extend(["RCPT"] * len(lines))
        # RFC 2920 §3.1: DATA may be the last of a group. BDAT may, too; but it brings its content
        # along, and whether anybody wants that is not known yet.
        if self._pipelining and not self._chunking and self._sent == len(self._lines):
            self._send("DATA", b"DATA\r\n")

    def _go_on(self) -> SendContent | Finished | None:
        """Take the next step of the envelope, if no answer must be awaited before it."""
        if self._mail:
            self._send_mail()
        elif self._sent < len(self._lines):
            self._send_recipients()
        elif self._owed:
            pass
        elif not self._accepted:
            return self._finish()
        elif self._chunking:
            self.phase = Phase.CONTENT
            return _BDAT_GO
        else:
            self._send("DATA", b"DATA\r\n")
        return None

    def _on_rset(self, _: Reply) -> SendContent | Finished | None:
        return self._go_on()

    def _on_mail(self, reply: Reply) -> SendContent | Finished | None:
        # From here to the end of the content the peer has a transaction open. If it does not get
        # that far, the next one begins with RSET: pipelined, this costs no round trip.
        self.needs_reset = reply.severity == 2
        if reply.severity != 2:
            self._refuse_all(_make_result(reply, "MAIL"))
        return self._go_on()

    def _refuse_all(self, result: RecipientResult) -> None:
        """Give everybody this result, and name nobody any more."""
        self._decide(result)
        del self._lines[self._sent :]

    def _on_rcpt(self, reply: Reply) -> SendContent | Finished | None:
        place = self._places[self._answered]
        self._answered += 1
        if self._results[place] is not _OPEN:
            pass  # MAIL was refused: what a pipelined RCPT gets after that says nothing
        elif reply.severity == 2:
            self._accepted += 1
        else:
            # RFC 5321 §4.5.3.1.10: RFC 821 had 552 where 452 is meant, "too many recipients"; a
            # client should read it so. A full mailbox, which says 5.2.2, is something else.
            too_many = reply.code == 552 and self._accepted > 0 and reply.status in ("", "5.5.3")
            temporary = too_many or reply.severity == 4
            self._results[place] = RecipientResult(reply, "RCPT", temporary=temporary)
        return self._go_on()

    def _on_data(self, reply: Reply) -> SendContent | Finished | None:
        if reply.severity != 3:
            return self._finish(_make_result(reply, "DATA"))
        if self._accepted:
            self._stuffer = DotStuffer()
            self.phase = Phase.CONTENT
            return _DATA_GO
        # RFC 2920 §3.1: everybody was refused, and the DATA that was pipelined behind was not.
        # The way out is a message without a line. Its answer is nobody's result: all have one.
        self._send(".", b".\r\n")
        self.phase = Phase.ANSWER
        return None

    # -- The content

    @property
    def takes_content(self) -> bool:
        """True when ``content`` may be called now."""
        if self.phase is not Phase.CONTENT:
            return False
        return not self._chunking or len(self._owed) < self._chunk_window

    @property
    def _chunk_window(self) -> int:
        return CHUNK_WINDOW if self._pipelining else 1

    def content(self, data: bytes, *, last: bool) -> bytes:
        """Return what to write for this piece. Raises LocalProtocolError when it is not wanted."""
        if not self.takes_content:
            raise LocalProtocolError("the peer does not wait for content")
        if last:
            self.phase = Phase.ANSWER
            self.content_sent = True
        if not self._chunking:
            assert self._stuffer is not None
            if last:
                self._owed.append(".")
            return self._stuffer.write(data, last=last)
        if not data and not last:
            return b""
        self._owed.append("BDAT")
        return b"BDAT %d%b\r\n%b" % (len(data), b" LAST" if last else b"", data)

    def _on_dot(self, reply: Reply) -> SendContent | Finished | None:
        self.content_sent = self.needs_reset = False
        return self._finish(_make_result(reply, "."))

    def _on_bdat(self, reply: Reply) -> SendContent | Finished | None:
        result = _make_result(reply, "BDAT")
        if reply.severity != 2:
            # RFC 3030 §2: with its first refused chunk the message has failed. The peer throws
            # away what is in flight behind it, and answers that, too; then it needs a RSET.
            self._decide(result)
            self.phase = Phase.ANSWER
            self.content_sent = False
        if self.phase is Phase.ANSWER:
            if self._owed:
                return None
            self.needs_reset = not self.content_sent
            self.content_sent = False
            return self._finish(result)
        # The window was full until now, and the driver waits.
        return _BDAT_GO if len(self._owed) == self._chunk_window - 1 else None

    # -- The results

    def _decide(self, result: RecipientResult) -> None:
        """Give this result to everybody who has none yet."""
        self._results = [result if had is _OPEN else had for had in self._results]

    def _finish(self, result: RecipientResult | None = None) -> Finished:
        if result is not None:
            self._decide(result)
        self.phase = Phase.DONE
        results, self._results, self._lines = tuple(self._results), [], []
        return Finished(results)


def _make_result(reply: Reply, command: str) -> RecipientResult:
    return RecipientResult(reply, command, temporary=reply.severity == 4)


def _find_obstacle(
    envelope: Envelope, size: int, capabilities: Capabilities
) -> RecipientResult | None:
    """Return why this server cannot have this message at all, None when it can.

    It is known before a command is sent, and it is the server's own word.
    """
    # RFC 6531 §3.2: without the offer an internationalised message must not be sent.
    if envelope.smtputf8 and not capabilities.smtputf8:
        return _NO_UTF8
    # RFC 8689 §4.2.1. The offer counts only under TLS: see ``ClientSession._become_ready``.
    if envelope.tls_demand == "required" and not capabilities.requiretls:
        return _NO_REQUIRETLS
    # RFC 1870 §6.1: 0 means that the server has no fixed limit, or would not name it.
    if capabilities.size and size > capabilities.size:
        text = b"5.3.4 %d octets, and this server takes %d" % (size, capabilities.size)
        return _refuse(552, text, "MAIL")
    return None


# Owed answer -> the severities it can have (RFC 5321 §4.3.2; by §4.2.1 the first digit is what
# counts), and what is done with it.
_Act = Callable[[Transaction, Reply], SendContent | Finished | None]
_TABLE: dict[str, tuple[tuple[int, ...], _Act]] = {
    "RSET": ((2,), Transaction._on_rset),
    "MAIL": ((2, 4, 5), Transaction._on_mail),
    "RCPT": ((2, 4, 5), Transaction._on_rcpt),
    "DATA": ((3, 4, 5), Transaction._on_data),
    ".": ((2, 4, 5), Transaction._on_dot),
    "BDAT": ((2, 4, 5), Transaction._on_bdat),
}
