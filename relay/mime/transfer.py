"""Undoes transfer encodings (RFC 2045 §6): base64 and quoted-printable, as tolerant as readers are."""

import binascii
import re
from collections.abc import Callable

from relay.mime.part import Part
from relay.mime.words import decode_base64

# RFC 2045 §6.7 (3): blanks at the end of a line were added on the way. The look-behind and the
# possessive repeat keep long runs of blanks from being looked at again from each of them.
_TRAILING = re.compile(rb"(?<![ \t])[ \t]++(?=\r\n|\Z)")
# They are taken out of so many octets at a time, and up to the end of a line: a pattern that is
# replaced makes two objects of every line, which for all lines of a large text are gigabytes.
_WINDOW = 256 * 1024


def decode(octets: bytes, part: Part, limit: int) -> bytes:
    """Return a part's body without its transfer encoding: at most ``limit`` octets of it.

    An encoding that is not known is none (RFC 2045 §6.4 would have nobody look at the body).
    """
    decoder = _DECODERS.get(part.encoding)
    if decoder is None:
        return octets[part.body : min(part.end, part.body + limit)]
    # Who wants the beginning does not pay for the rest. Windows grow fourfold, so that what decodes
    # to next to nothing is not decoded more than one and a third times.
    size = part.end - part.body
    window = min(size, 2 * limit + 1024)
    while True:
        decoded = decoder(octets[part.body : part.body + window])
        if window == size:
            return decoded[:limit]
        # What stands at the cut may mean something else with what follows.
        if len(decoded.rstrip(b" \t\r\n")) >= limit + 4:
            return decoded[:limit]
        window = min(size, 4 * window)


def decode_quoted(body: bytes) -> bytes:
    """Decode quoted-printable; what is not well formed stays as it is."""
    if b" \r\n" in body or b"\t\r\n" in body or body.endswith((b" ", b"\t")):
        body = _remove_trailing(body)
    return binascii.a2b_qp(body)


def _remove_trailing(body: bytes) -> bytes:
    pieces = []
    at = 0
    while at < len(body):
        end = body.find(b"\r\n", at + _WINDOW)
        end = len(body) if end < 0 else end + 2
        pieces.append(_TRAILING.sub(b"", body[at:end]))
        at = end
    return b"".join(pieces)


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "base64": decode_base64,
    "quoted-printable": decode_quoted,
}
