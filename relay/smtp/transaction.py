"""One message on its way to one server: the RCPT commands still to send, and what is known.

This is the bookkeeping of ``client``: it decides nothing about the dialogue. Its one promise: a
recipient's result, once there, stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.smtp.extensions import Capabilities, Envelope, Recipient
from relay.smtp.reply import Reply


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
        return self.reply.code // 100 == 2


# Stands for a recipient about whom nothing is decided yet.
_OPEN = RecipientResult(Reply(0, (b"",)), "")

_TOO_MANY = RecipientResult(
    Reply(452, (b"4.5.3 too many recipients for one transaction with this server",)),
    "RCPT",
    local=True,
    temporary=True,
)
_TOO_MANY_DOMAINS = RecipientResult(
    Reply(452, (b"4.5.3 too many recipient domains for one session with this server",)),
    "RCPT",
    local=True,
    temporary=True,
)
_NO_UTF8 = RecipientResult(
    Reply(550, (b"5.6.7 the message needs SMTPUTF8, which this server does not offer",)),
    "MAIL",
    local=True,
)


class Transaction:
    """What is known of each recipient, and which ones have not been named to the server yet.

    Raises LocalProtocolError for addresses and parameters that must not be sent.
    """

    __slots__ = ("_answered", "_lines", "_places", "_sent", "accepted", "mail", "results")

    def __init__(
        self, envelope: Envelope, size: int, capabilities: Capabilities, domains: set[bytes]
    ) -> None:
        recipients = envelope.recipients
        utf8 = envelope.smtputf8
        self.results = [_OPEN] * len(recipients)
        self.accepted = 0  # recipients that wait for the final answer
        self.mail = capabilities.format_mail(envelope, size)
        lines = [capabilities.format_rcpt(recipient, utf8=utf8) for recipient in recipients]
        self._places: Sequence[int] = range(len(recipients))  # in ``results``, of each line
        if capabilities.rcpt_max is not None or capabilities.rcpt_domain_max is not None:
            self._places = self._apply_limits(recipients, capabilities, domains)
            lines = [lines[place] for place in self._places]
        self._lines = lines
        self._sent = 0
        self._answered = 0

    def _apply_limits(
        self, recipients: Sequence[Recipient], capabilities: Capabilities, domains: set[bytes]
    ) -> list[int]:
        """Sort out the recipients beyond what the peer has said it takes (RFC 9422 §4)."""
        places: list[int] = []
        for place, recipient in enumerate(recipients):
            domain = recipient.address.rpartition(b"@")[2].lower()
            most = capabilities.rcpt_domain_max
            if capabilities.rcpt_max is not None and len(places) >= capabilities.rcpt_max:
                self.results[place] = _TOO_MANY
            elif most is not None and domain not in domains and len(domains) >= most:
                self.results[place] = _TOO_MANY_DOMAINS
            else:
                domains.add(domain)
                places.append(place)
        return places

    @property
    def has_unsent(self) -> bool:
        """True while there are RCPT commands to send."""
        return self._sent < len(self._lines)

    def take(self, most: int) -> list[bytes]:
        """Return the next RCPT commands to send."""
        lines = self._lines[self._sent : self._sent + most]
        self._sent += len(lines)
        return lines

    def take_mail_reply(self, reply: Reply) -> None:
        """Note the answer to MAIL: if it was no, it is everybody's, and nobody is named."""
        if reply.code // 100 != 2:
            self.decide(make_result(reply, "MAIL"))
            del self._lines[self._sent :]

    def take_rcpt_reply(self, reply: Reply) -> None:
        """Note the answer to the oldest RCPT that had none."""
        place = self._places[self._answered]
        self._answered += 1
        if self.results[place] is not _OPEN:
            return  # MAIL was refused: what a pipelined RCPT gets after that says nothing
        if reply.code // 100 == 2:
            self.accepted += 1
            return
        # RFC 5321 §4.5.3.1.10: RFC 821 had 552 where 452 is meant, "too many recipients"; a
        # client should read it so. A full mailbox, which says 5.2.2, is something else.
        too_many = reply.code == 552 and self.accepted > 0 and reply.status in ("", "5.5.3")
        temporary = too_many or reply.code // 100 == 4
        self.results[place] = RecipientResult(reply, "RCPT", temporary=temporary)

    def decide(self, result: RecipientResult) -> None:
        """Give this result to everybody who has none yet."""
        self.results = [result if had is _OPEN else had for had in self.results]


def make_result(reply: Reply, command: str) -> RecipientResult:
    """Return the result that a peer's reply means."""
    return RecipientResult(reply, command, temporary=reply.code // 100 == 4)


def find_obstacle(
    envelope: Envelope, size: int, capabilities: Capabilities
) -> RecipientResult | None:
    """Return why this server cannot have this message at all, None when it can.

    Both are known before a command is sent, and both are the server's own word.
    """
    # RFC 6531 §3.2: without the offer an internationalised message must not be sent.
    if envelope.smtputf8 and not capabilities.smtputf8:
        return _NO_UTF8
    # RFC 1870 §6.1: 0 means that the server has no fixed limit, or would not name it.
    if capabilities.size and size > capabilities.size:
        text = b"5.3.4 %d octets are more than the %d that this server takes"
        return RecipientResult(Reply(552, (text % (size, capabilities.size),)), "MAIL", local=True)
    return None
