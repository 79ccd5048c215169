"""A parcel: a letter made ready to be sent: line ends, envelope, the field that proves a tenant."""

import re
from dataclasses import dataclass

import msgspec

from relay.model import Envelope
from workers.replay.addresses import Addressing
from workers.replay.letter import Letter
from workers.replay.when import find_time

_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEAD = 256 * 1024  # octets in which fields are looked for


@dataclass(slots=True)
class Parcel:
    """What is sent, and what has been done about it. ``number``: its place in the corpus, from 0."""

    number: int
    name: str
    time: float  # when it came, seconds since 1970; 0: nobody knows
    envelope: Envelope
    content: bytes
    position: int = 0
    tries: int = 0
    due: float = 0.0  # on trio's clock
    accepted: int = 0  # recipients
    refused: int = 0
    why: str = ""  # the last reply that was not yes

    @property
    def size(self) -> int:
        """Octets in memory, about."""
        return len(self.content) + 500


def pack(letter: Letter, number: int, addressing: Addressing, field: bytes) -> Parcel | None:
    """Make a letter ready; None when nobody can be found to send it to.

    Line ends become CRLF (RFC 5321 §2.3.8); other odd octets, a bare CR among them, stay: what becomes
    of those is for the server to say. ``field``: a header field to put on top, with its CRLF, or b"".
    """
    content = letter.content
    if content.count(b"\n") != content.count(b"\r\n"):
        content = _BARE_LF.sub(b"\r\n", content)
    head = content[:_HEAD]
    end = head.find(b"\r\n\r\n")
    head = head[: end + 2] if end >= 0 else head
    envelope = addressing.address(head)
    if envelope is None:
        return None
    if not content.isascii():
        envelope = msgspec.structs.replace(envelope, body=b"8BITMIME")  # RFC 6152
    return Parcel(
        number,
        letter.name,
        find_time(head, letter.stamp, letter.changed),
        envelope,
        field + content,
        letter.position,
    )
