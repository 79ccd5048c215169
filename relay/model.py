"""The words that ingress, store and workers share, as types.

A *message* is one accepted SMTP transaction. It is split into *deliveries*, one for each
recipient domain: the unit that is queued, claimed, retried and ended. Addresses are bytes, as
they came in: what a peer wrote is what the next peer reads.
"""

import enum
import os
import time

import msgspec


class Recipient(msgspec.Struct, frozen=True, array_like=True):
    """One recipient, with the parameters of its RCPT command that must travel on (RFC 3461)."""

    address: bytes
    notify: bytes = b""  # NOTIFY=, as received: b"", b"NEVER", b"SUCCESS,FAILURE", ...
    orcpt: bytes = b""  # ORCPT=, as received (type;xtext)


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """Who sends to whom, and the parameters of MAIL that must travel on."""

    sender: bytes  # b"" is the null sender
    recipients: tuple[Recipient, ...]
    body: bytes = b""  # BODY=: b"", b"7BIT" or b"8BITMIME" (RFC 6152)
    smtputf8: bool = False  # RFC 6531
    ret: bytes = b""  # RET=: b"", b"FULL" or b"HDRS" (RFC 3461)
    envid: bytes = b""  # ENVID=, xtext
    # What the sender asks of TLS on the whole way (RFC 8689): "required" (REQUIRETLS), "optional"
    # (the header field TLS-Required: No: delivery matters more); "verified": a rule of ours asks that
    # the next host's certificate holds; or nothing.
    tls: str = ""

    @property
    def tls_demand(self) -> str:
        """What of ``tls`` a host must keep to, or the message does not go there.

        RFC 8689 §5: a notice, whose sender is null, asks for REQUIRETLS where it is offered, and
        goes without rather than not at all.
        """
        return self.tls if self.sender or self.tls != "required" else ""


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """One message for one recipient domain: what a worker needs to know to send it.

    This is the record in the store; it changes only when some of its recipients are done.
    """

    id: str  # <message id>.<number>
    tenant: str
    pool: str
    domain: str  # lower case, A-labels
    envelope: Envelope  # only the recipients that are still open
    size: int  # octets of the stored message, our Received line included
    chunks: int  # parts that the body is stored in
    accepted: float  # seconds since 1970, on the ingress' clock
    home: int  # shard that holds the body
    alone: bool  # the message's only delivery: ending it frees the body
    newline: bool = True  # the message ends in CRLF (only BDAT can bring one that does not)
    notice: bool = False  # made by us (a bounce): counted in a ledger of its own
    priority: str = ""  # "urgent", "bulk"; "": normal
    held: bool = False  # accepted by a rule that has it wait for an operator

    @property
    def message_id(self) -> str:
        """The message that it is a part of."""
        return self.id.partition(".")[0]


class Claim(msgspec.Struct, frozen=True):
    """A worker's time-limited ownership of a delivery. Its token dies with it."""

    delivery: Delivery
    shard: int
    token: str
    attempts: int  # ended attempts before this one
    body: bytes | None  # the whole message if it is small, None if it must be read in parts
    previous: bytes  # the last attempt's event, for retries that depend on it; b"" on the first


class Disposition(enum.Enum):
    """What one attempt meant for one recipient."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"


class Blame(enum.Enum):
    """Who or what a failure belongs to: it decides what is tried differently next time."""

    RECIPIENT = "recipient"  # 550 5.1.1: this address only
    MESSAGE = "message"  # 552, 554 after DATA: the same bytes will fail again
    TENANT = "tenant"  # DKIM or SPF domain, sender refused: on every source
    SOURCE = "source"  # our address: rest it, keep the message
    HOST = "host"  # no route, refused, timed out: try the next host
    SESSION = "session"  # 421, closed, nonsense: another connection may do


class Outcome(msgspec.Struct, frozen=True):
    """One recipient's result of one attempt."""

    disposition: Disposition
    blame: Blame | None = None
    command: str = ""  # the command that was answered: "MAIL", "RCPT", "DATA", "." or "CONNECT"
    code: int = 0  # reply code; 0 when there was no reply
    status: str = ""  # enhanced status (RFC 3463), the peer's or ours
    text: str = ""  # the reply's text, or what happened instead of one
    # What it was read as (workers/replies): what it is about, what is to be done, and for how many
    # seconds it asks us to stay away.
    label: str = ""
    action: str = ""
    rest: float = 0.0


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]


def _base32(value: int, digits: int) -> str:
    """``digits`` is even: two at a time."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(5 * digits - 10, -1, -10)])


def make_message_id(shard: int, *, now: float | None = None) -> str:
    """Return a new message id: 10 characters of time (sortable), 12 of chance, 2 of shard.

    The shard is part of the id so that ``explain`` finds a message's home without asking
    everywhere. ``now``: seconds since 1970.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    chance = int.from_bytes(os.urandom(8), "big")
    # All three at once, in one number.
    return _base32(milliseconds << 70 | (chance & (1 << 60) - 1) << 10 | shard, 24)


def derive_message_id(origin: str, digest: bytes, home: int) -> str:
    """Return the id of a message that follows from another: the same for the same ``digest``.

    It keeps the origin's time. ``digest``: at least 8 octets.
    """
    chance = int.from_bytes(digest[:8], "big") & (1 << 60) - 1
    return origin[:10] + _base32(chance, 12) + _base32(home, 2)


def read_home(message_id: str) -> int:
    """Return the home shard that a message id names.

    Raises ValueError when the text is not a message id.
    """
    if len(message_id) != 24:
        raise ValueError(f"{message_id!r} is not a message id: 24 characters expected")
    high, low = (_CROCKFORD.find(character) for character in message_id[22:])
    if high < 0 or low < 0:
        raise ValueError(f"{message_id!r} is not a message id")
    return high * 32 + low
