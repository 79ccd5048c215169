"""Puts a footer below the text of a message, and changes nothing else.

Each text (``texts``) is taken out of its transfer encoding, gets its footer (``compose``), and is
encoded again, as it was if that goes (``encode``). At the end the new message is read, and compared
with the old one part by part: what would have become something else stays as it was.
"""

import re
from dataclasses import dataclass

from relay.mime import Part, Unreadable, decode, read_message, walk
from relay.mime.head import ENCODED, ENCODINGS
from relay.rewrite.cannotchange import CannotChange
from relay.rewrite.compose import Footer, Text, compose_html, compose_plain
from relay.rewrite.encode import choose, encode
from relay.rewrite.head import complete, get_field, set_charset, set_field
from relay.rewrite.texts import find_texts

# Signed or encrypted without MIME (RFC 9580 §6): what stands around it is no part of that.
_ARMOUR = re.compile(rb"^-----BEGIN PGP (?:SIGNED )?MESSAGE", re.MULTILINE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*+={0,2}")
# Octets of a text, as sent. People write some thousands, and the longest newsletters have 100 KiB. A
# text of line ends alone takes a second for each MiB, and a hundred times the memory.
_LONGEST_TEXT = 2 << 20


@dataclass(frozen=True, slots=True)
class _Change:
    """A part as it will be."""

    part: Part
    head: bytes
    body: bytes
    content: bytes  # without its transfer encoding


def add_footer(message: bytes, text: str, html: str) -> bytes:
    """Return the message with a footer below its text; ``html``: "" makes it of the text.

    Raises CannotChange, with the reason, for what is signed, encrypted or a report, has no text, or
    could not be changed without changing more.
    """
    try:
        root = read_message(message)
    except Unreadable as error:
        raise CannotChange(f"it cannot be taken apart: {error}") from error
    footer = Footer(text, html)
    changes = [
        _change(message, part, footer, whole=part is root) for part in find_texts(message, root)
    ]
    pieces = []
    at = 0
    for change in changes:
        pieces += [message[at : change.part.start], change.head, change.body]
        at = change.part.end
    changed = b"".join([*pieces, message[at:]])
    _check(message, root, changed, changes)
    return changed


def _change(message: bytes, part: Part, footer: Footer, *, whole: bool) -> _Change:
    """Return a text with its footer. ``whole``: it is the message itself."""
    content = _decode(message, part)
    if _ARMOUR.search(content):
        raise CannotChange("its text is signed or encrypted with PGP")
    text = _compose(content, part, footer, whole=whole)
    encoding = choose(part.encoding, content, text.content)
    head = complete(message[part.start : part.body])
    before = head
    if text.charset:
        head = set_charset(head, text.charset)
    if encoding != part.encoding:
        head = set_field(head, b"Content-Transfer-Encoding", b" " + encoding.encode())
    if whole and head != before and get_field(head, b"MIME-Version") is None:
        head = set_field(head, b"MIME-Version", b" 1.0")
    body = encode(text.content, encoding)
    if encoding == "base64" and (whole or message.endswith(b"\r\n", part.body, part.end)):
        body += b"\r\n"
    elif encoding == "quoted-printable" and whole and not body.endswith(b"\r\n"):
        body += b"=\r\n"  # a message ends in a line end, though its text does not
    return _Change(part, head, body, text.content)


def _decode(message: bytes, part: Part) -> bytes:
    if part.end - part.body > _LONGEST_TEXT:
        raise CannotChange(f"its text has more than {_LONGEST_TEXT} octets")
    if part.encoding not in ENCODINGS:
        raise CannotChange("its text has a transfer encoding that is not known")
    if part.encoding == "base64":
        letters = message[part.body : part.end].translate(None, b" \t\r\n")
        if len(letters) % 4 or not _BASE64.fullmatch(letters):
            raise CannotChange("its text is in base64 that is broken")
    return decode(message, part, part.end - part.body)


def _compose(content: bytes, part: Part, footer: Footer, *, whole: bool) -> Text:
    charset = part.parameters.get("charset", "") or "us-ascii"  # RFC 2045 §5.2
    if part.content_type == "text/html":
        return compose_html(content, charset, footer)
    flowed = part.parameters.get("format", "").lower() == "flowed"
    close = whole and part.encoding not in ENCODED
    return compose_plain(content, charset, footer, flowed=flowed, close=close)


def _check(message: bytes, root: Part, changed: bytes, changes: list[_Change]) -> None:
    """Raise CannotChange unless all parts are there, and all but the texts are as they were."""
    try:
        parts = list(walk(read_message(changed)))
    except Unreadable as error:
        raise CannotChange(f"with a footer it could not be taken apart: {error}") from error
    old = list(walk(root))
    new_content = {change.part.start: change.content for change in changes}
    same = len(old) == len(parts) and all(
        before.content_type == after.content_type
        and before.names == after.names
        and _is_same(message, before, changed, after, new_content)
        for before, after in zip(old, parts, strict=True)
    )
    if not same:
        raise CannotChange("with a footer it would have other parts")


def _is_same(
    message: bytes, before: Part, changed: bytes, after: Part, new_content: dict[int, bytes]
) -> bool:
    """Tell whether a part is what it should be. A multipart's own parts are looked at by themselves."""
    if before.parts or after.parts:
        return len(before.parts) == len(after.parts)
    if before.start in new_content:
        return decode(changed, after, len(changed)) == new_content[before.start]
    return message[before.start : before.end] == changed[after.start : after.end]
