"""The names of all files in a message, those in archives included."""

import re
from collections.abc import Iterator
from dataclasses import replace

from relay.mime.archives import claims_archive, find_kind, list_members
from relay.mime.budget import Budget
from relay.mime.charset import clean, read_text
from relay.mime.head import ENCODED
from relay.mime.limits import DEFAULT, Limits, Unreadable
from relay.mime.part import Part
from relay.mime.structure import is_message, read_message
from relay.mime.transfer import decode
from relay.mime.unpack import PEEK

# Files in the text itself, of before MIME: some programs still show them as attachments.
# Begins with letters, not with "^": those are looked for at memory speed, and one call of a pattern
# over a large text keeps all other threads waiting.
_UUENCODED = re.compile(rb"begin [0-7]{3,4} ([^\r\n]{1,255})")
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_LETTERS = bytes(set(range(256)) - set(_LETTERS))
_WINDOW = 1 << 20  # octets that are looked at in one call


def list_names(octets: bytes, root: Part, limits: Limits = DEFAULT) -> Iterator[str]:
    """Yield the names of files in a message: of its parts, and of what is in archives.

    Of a file in a folder of an archive, both the path and the last part of it. A name may come more
    than once. Control characters are taken out; all else is as it was. Raises Unreadable, also
    after some names.
    """
    budget = Budget(limits)
    for holder, part in _walk(octets, root, limits, budget):
        yield from part.names
        if part.parts:
            continue
        _check_padding(holder, part)
        kind = find_kind(decode(holder, part, PEEK))
        if kind or claims_archive(part.names, part.content_type):
            content = decode(holder, part, part.end - part.body)
            yield from list_members(content, part.names, part.content_type, budget)
        elif part.content_type.startswith("text/"):
            yield from _list_uuencoded(holder, part, budget)


def walk_all(octets: bytes, root: Part, limits: Limits = DEFAULT) -> Iterator[tuple[bytes, Part]]:
    """Yield all parts, each with the octets that its offsets point into.

    Unlike ``walk`` it goes into messages that are attached in base64 or quoted-printable as well.
    RFC 2046 §5.2.1 forbids these, Gmail makes them of an uploaded .eml, and all readers open them.
    Raises Unreadable.
    """
    yield from _walk(octets, root, limits, Budget(limits))


def _walk(
    octets: bytes, part: Part, limits: Limits, budget: Budget
) -> Iterator[tuple[bytes, Part]]:
    budget.take_part()
    yield octets, part
    for inner in part.parts:
        yield from _walk(octets, inner, replace(limits, depth=limits.depth - 1), budget)
    if is_message(part) and not part.parts and part.encoding in ENCODED:
        if limits.depth < 1:
            raise Unreadable("it has messages in messages, too many deep")
        deeper = replace(limits, depth=limits.depth - 1)
        content = _make_crlf(decode(octets, part, part.end - part.body))
        yield from _walk(content, read_message(content, deeper), deeper, budget)


def _check_padding(octets: bytes, part: Part) -> None:
    """Raise Unreadable for base64 that goes on behind its end: some readers go on, others do not."""
    if part.encoding != "base64":
        return
    at = octets.find(b"=", part.body, part.end)
    if at < 0:
        return
    for start in range(at, part.end, _WINDOW):
        if octets[start : min(start + _WINDOW, part.end)].translate(None, _NO_LETTERS):
            raise Unreadable("base64 goes on behind its end")


def _make_crlf(content: bytes) -> bytes:
    """Make each CRLF, CR or LF a CRLF. Not by a pattern: that makes an object of every line."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def _list_uuencoded(octets: bytes, part: Part, budget: Budget) -> Iterator[str]:
    content = decode(octets, part, part.end - part.body)
    if b"begin " in content:
        for match in _UUENCODED.finditer(content):
            if match.start() and content[match.start() - 1] != 10:
                continue  # within a line
            budget.take_name()
            yield clean(read_text(match[1]))
