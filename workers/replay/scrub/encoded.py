"""Replaces what is inside a transfer encoding, and leaves its form: lines, escapes, padding.

Whoever replaces (``Replace``) returns as many octets as he is given.
"""

import base64
import binascii
import re
from collections.abc import Callable

Replace = Callable[[bytes], bytes]

_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})|=[ \t]*\r?\n")
_BASE64_LINE = re.compile(rb"[ \t]*[A-Za-z0-9+/]+(={0,3})[ \t]*\r?\n?|[ \t]*\r?\n")
_LETTERS = re.compile(rb"[A-Za-z0-9+/]+")
# RFC 2047 §2, with the language of RFC 2231 §5.
_ENCODED_WORD = re.compile(rb"(=\?[^?\s]{1,80}\?)([BbQq])\?([^?\r\n]*)(\?=)")


def replace_quoted(body: bytes, replace: Replace) -> bytes:
    """Replace what quoted-printable (RFC 2045 §6.7) stands for; each octet stays literal or escaped."""
    pieces: list[bytes | None] = []  # literal text; None: an escaped octet
    forms: list[bytes] = []
    at = 0
    for found in _ESCAPE.finditer(body):
        pieces.append(body[at : found.start()])
        forms.append(b"")
        pieces.append(None if found[1] else b"")
        forms.append(found[0])
        at = found.end()
    pieces.append(body[at:])
    forms.append(b"")
    plain = b"".join(
        bytes.fromhex(form[1:].decode()) if piece is None else piece
        for piece, form in zip(pieces, forms, strict=True)
    )
    return _fill(pieces, forms, replace(plain))


def _fill(pieces: list[bytes | None], forms: list[bytes], plain: bytes) -> bytes:
    """Write the octets of ``plain`` in the form that there was."""
    out: list[bytes] = []
    at = 0
    for piece, form in zip(pieces, forms, strict=True):
        if piece is None:
            out.append(b"=%02X" % plain[at] if form == form.upper() else b"=%02x" % plain[at])
            at += 1
        else:
            out += (plain[at : at + len(piece)], form)
            at += len(piece)
    return b"".join(out)


def replace_base64(body: bytes, replace: Replace, replace_text: Replace) -> bytes:
    """Replace what base64 stands for; lines stay as long as they are.

    Some programs write text behind it: that is for ``replace_text``.
    """
    at, is_padded = 0, False
    while not is_padded and (found := _BASE64_LINE.match(body, at)) and found.end() > at:
        is_padded = bool(found[1])
        at = found.end()
    return _replace_run(body[:at], replace) + replace_text(body[at:])


def _replace_run(run: bytes, replace: Replace) -> bytes:
    letters = b"".join(_LETTERS.findall(run))
    whole = letters[: len(letters) - (len(letters) % 4 == 1)]
    try:
        plain = binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
    except binascii.Error:
        plain = b""
    fresh = base64.b64encode(replace(plain)).rstrip(b"=")
    fresh += b"A" * (len(letters) - len(fresh))
    at = 0

    def fill(found: re.Match[bytes]) -> bytes:
        nonlocal at
        at += len(found[0])
        return fresh[at - len(found[0]) : at]

    return _LETTERS.sub(fill, run)


def replace_words(value: bytes, replace: Replace, plain: Replace) -> bytes:
    """Replace encoded words (RFC 2047) in a field's value; ``plain``: for what is between them."""
    out: list[bytes] = []
    at = 0
    for found in _ENCODED_WORD.finditer(value):
        out.append(plain(value[at : found.start()]))
        if found[2] in b"Bb":
            inner = replace_base64(found[3], replace, replace)
        else:
            inner = replace_quoted(found[3], replace)
        out += (found[1], found[2], b"?", inner, found[4])
        at = found.end()
    return b"".join([*out, plain(value[at:])])
