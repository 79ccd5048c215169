"""What a server offers in its EHLO reply, and the MAIL and RCPT commands that follow from it.

An offer is a promise that a parameter will be understood; a parameter without the offer is a
syntax error (RFC 5321 §4.1.1.11). So the two stand together here: ``Capabilities`` reads the
one and writes the other.
"""

from dataclasses import dataclass
from typing import Protocol

from relay.smtp.reply import Reply


class LocalProtocolError(Exception):
    """Our own side asked for what SMTP does not allow. Nothing was sent, nothing has changed."""


class Recipient(Protocol):
    """What the sending role wants to know about a recipient (``relay.model.Recipient``)."""

    @property
    def address(self) -> bytes: ...
    @property
    def notify(self) -> bytes: ...
    @property
    def orcpt(self) -> bytes: ...


class Envelope(Protocol):
    """What the sending role wants to know about a message (``relay.model.Envelope``)."""

    @property
    def sender(self) -> bytes: ...
    @property
    def recipients(self) -> "tuple[Recipient, ...]": ...
    @property
    def body(self) -> bytes: ...
    @property
    def smtputf8(self) -> bool: ...
    @property
    def ret(self) -> bytes: ...
    @property
    def envid(self) -> bytes: ...
    @property
    def tls(self) -> str: ...
    @property
    def tls_demand(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The extensions that a server offered. Without an argument: those of HELO, none."""

    pipelining: bool = False  # RFC 2920
    eightbitmime: bool = False  # RFC 6152
    smtputf8: bool = False  # RFC 6531
    dsn: bool = False  # RFC 3461
    chunking: bool = False  # RFC 3030
    starttls: bool = False  # RFC 3207
    enhancedstatuscodes: bool = False  # RFC 2034
    requiretls: bool = False  # RFC 8689
    size: int | None = None  # RFC 1870: octets; 0: no limit that it could name; None: not offered
    mail_max: int | None = None  # RFC 9422: transactions in a session,
    rcpt_max: int | None = None  # recipients in a transaction,
    rcpt_domain_max: int | None = None  # different recipient domains in a session

    def format_mail(self, envelope: Envelope, size: int) -> bytes:
        """Return the MAIL command. Raises LocalProtocolError for what must not be sent."""
        command = b"MAIL FROM:<" + check_word(envelope.sender, utf8=envelope.smtputf8) + b">"
        if self.size is not None:
            command += b" SIZE=%d" % size
        # RFC 6152 §3 has us convert 8-bit content for a server that does not offer 8BITMIME, or
        # return it. Converting breaks the DKIM signature, returning loses mail that practically
        # every server takes: it goes as it is, without the parameter.
        if envelope.body and self.eightbitmime:
            command += b" BODY=" + check_word(envelope.body)
        if envelope.smtputf8:
            command += b" SMTPUTF8"
        if self.dsn:
            if envelope.ret:
                # RFC 8689 §5: with REQUIRETLS, FULL is not to be heeded.
                ret = b"HDRS" if envelope.tls == "required" else envelope.ret
                command += b" RET=" + check_word(ret)
            if envelope.envid and not _has_brackets(envelope.envid):
                command += b" ENVID=" + check_word(envelope.envid)
        if envelope.tls == "required" and self.requiretls:
            command += b" REQUIRETLS"
        return command + b"\r\n"

    def format_rcpt(self, recipient: Recipient, *, utf8: bool) -> bytes:
        """Return the RCPT command. Raises LocalProtocolError for what must not be sent."""
        if not recipient.address:
            raise LocalProtocolError("a recipient's address is empty")
        command = b"RCPT TO:<" + check_word(recipient.address, utf8=utf8) + b">"
        if self.dsn:
            if recipient.notify:
                command += b" NOTIFY=" + check_word(recipient.notify)
            if recipient.orcpt and not _has_brackets(recipient.orcpt):
                command += b" ORCPT=" + check_word(recipient.orcpt, utf8=utf8)
        return command + b"\r\n"


# Whatever could end an address, a parameter or the line. Also blanks and angle brackets in a
# quoted local part, where they would be legal (RFC 5321 §4.1.2): whether the next server's parser
# agrees with ours about the quotes is not worth finding out.
_FORBIDDEN = bytes(range(0x21)) + b"<>\x7f"


def _has_brackets(xtext: bytes) -> bool:
    """Tell whether a parameter is better left out than sent, or the whole message not sent.

    RFC 3461 §4 has angle brackets in xtext; a parser that looks for the last one of the line finds
    another address. It only helps to tell notices apart. Raises LocalProtocolError for what is worse.
    """
    plain = xtext.translate(None, b"<>")
    check_word(plain, utf8=True)
    return len(plain) != len(xtext)


def check_word(word: bytes, *, utf8: bool = False) -> bytes:
    """Return the word if it can stand in a command line and stay one word in it.

    Raises LocalProtocolError: with a CR or LF in it, an address would be commands (injection).
    """
    if len(word.translate(None, _FORBIDDEN)) != len(word):
        raise LocalProtocolError(f"not to be sent in a command: {word[:80]!r}")
    if not word.isascii():
        # RFC 6531 §3.3: octets above 127 are UTF-8, and only in a transaction that says so.
        if not utf8:
            raise LocalProtocolError(f"not ASCII, and SMTPUTF8 was not asked for: {word[:80]!r}")
        try:
            word.decode("utf-8")
        except UnicodeDecodeError:
            raise LocalProtocolError(f"neither ASCII nor UTF-8: {word[:80]!r}") from None
    return word


_FLAGS = {
    b"PIPELINING": "pipelining",
    b"8BITMIME": "eightbitmime",
    b"SMTPUTF8": "smtputf8",
    b"DSN": "dsn",
    b"CHUNKING": "chunking",
    b"STARTTLS": "starttls",
    b"ENHANCEDSTATUSCODES": "enhancedstatuscodes",
    b"REQUIRETLS": "requiretls",
}
_LIMITS = {
    b"MAILMAX": "mail_max",
    b"RCPTMAX": "rcpt_max",
    b"RCPTDOMAINMAX": "rcpt_domain_max",
}


def read_capabilities(reply: Reply) -> Capabilities:
    """Read the reply to EHLO (RFC 5321 §4.1.1.1). What is unknown or malformed is not offered."""
    flags: dict[str, bool] = {}
    numbers: dict[str, int] = {}
    for line in reply.lines[1:]:  # the first is the server's name and greeting
        keyword, *parameters = line.upper().split()[:32] or [b""]
        if keyword in _FLAGS:
            flags[_FLAGS[keyword]] = True
        elif keyword == b"SIZE":
            # RFC 1870 §4: 1*20DIGIT, or nothing, or 0 for no fixed limit.
            numbers["size"] = _read_number(parameters[0], 20) if parameters else 0
        elif keyword == b"LIMITS":
            numbers.update(_read_limits(parameters))
    return Capabilities(**flags, **numbers)  # type: ignore[arg-type]  # keys come from the tables


def _read_limits(parameters: list[bytes]) -> dict[str, int]:
    """Read LIMITS (RFC 9422 §3): name=value, 1 to 6 digits; others are for others."""
    limits = {}
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name in _LIMITS and (number := _read_number(value, 6)):
            limits[_LIMITS[name]] = number
    return limits


def _read_number(digits: bytes, most: int) -> int:
    """Return the number, or 0 when it is none or has more digits than ``most``."""
    return int(digits) if digits.isdigit() and len(digits) <= most else 0
