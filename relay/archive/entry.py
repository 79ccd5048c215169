"""What is known of a message: the first line of its object, as JSON.

It is made when the message came and never changed. Fields may be added; a reader passes over those
that it does not know. ``format`` goes up only when an older reader would go wrong.
"""

import hashlib
import re

import msgspec

from relay.errors import ArchiveDamaged
from relay.model import Envelope

FORMAT = 1
_HEAD = 64 * 1024  # octets in which Message-ID is looked for

# RFC 5322 §3.6.4, as people write it: with blanks and folding before the value, or without <>.
_MESSAGE_ID = re.compile(rb"(?i)\r\nmessage-id[ \t]*:(?:[ \t]|\r\n[ \t])*([\x21-\xff]{1,998})")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope, and what is known of its message. Texts: what is no UTF-8 stands as U+FFFD."""

    format: int = FORMAT
    id: str
    tenant: str
    time: float  # when it was accepted, seconds since 1970
    client: str = ""  # the address of who brought it
    hello: str = ""  # what that called itself
    tls: str = ""  # the protocol's version; "": in clear
    sender: str  # "": the null sender
    recipients: tuple[str, ...]
    size: int = 0  # octets of the message
    digest: str = ""  # SHA-256 of the message, in hex
    message_id: str = ""  # of its header, with the angle brackets
    rule: str = ""  # that had it archived; "": all are
    # Parameters of MAIL, as in relay/model.py; and what is asked of TLS on the way.
    body: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    tls_demand: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


def make_entry(
    envelope: Envelope,
    *,
    message_id: str,
    tenant: str,
    time: float,
    client: str,
    hello: bytes = b"",
    tls: str = "",
    rule: str = "",
) -> Entry:
    """Return the entry of a message that is about to be accepted, for all of its recipients.

    ``put`` fills in what follows from the octets: size, digest, Message-ID.
    """
    return Entry(
        id=message_id,
        tenant=tenant,
        time=time,
        client=client,
        hello=_show(hello),
        tls=tls,
        sender=_show(envelope.sender),
        recipients=tuple([_show(one.address) for one in envelope.recipients]),
        rule=rule,
        body=_show(envelope.body),
        smtputf8=envelope.smtputf8,
        ret=_show(envelope.ret),
        envid=_show(envelope.envid),
        tls_demand=envelope.tls,
    )


def complete(entry: Entry, message: bytes) -> Entry:
    """Return the entry with what follows from the message. A large one takes a while."""
    return msgspec.structs.replace(
        entry,
        size=len(message),
        digest=hashlib.sha256(message).hexdigest(),
        message_id=_find_message_id(message),
    )


def _find_message_id(message: bytes) -> str:
    head = b"\r\n" + message[:_HEAD]
    end = head.find(b"\r\n\r\n")
    found = _MESSAGE_ID.search(head, 0, end if end >= 0 else len(head))
    return _show(found[1]) if found else ""


def encode_entry(entry: Entry) -> bytes:
    """Return the line, LF included; JSON has none inside."""
    return _encode(entry) + b"\n"


def decode_entry(line: bytes) -> Entry:
    """Read what ``encode_entry`` wrote. Raises ArchiveDamaged."""
    try:
        entry = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArchiveDamaged(f"its first line is no entry ({error})") from error
    if entry.format > FORMAT:
        raise ArchiveDamaged(
            f"its format is {entry.format}, this version reads up to {FORMAT}: use a newer outgate"
        )
    return entry


def _show(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")
