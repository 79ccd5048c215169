"""Replaces what is personal in a message, and leaves how it is built: each octet is where it was.

Heads keep their fields, folds and order; parts their boundaries, types and encodings; texts their lines,
blanks and odd octets. Pictures and documents become noise behind the octets that say what they are.
Messages are taken as they are, however broken: what cannot be made out is a text.
"""

import re
from collections.abc import Iterator
from functools import partial

from workers.replay.scrub.encoded import replace_base64, replace_quoted
from workers.replay.scrub.head import Kind, read_kind, scrub_head
from workers.replay.scrub.vocabulary import CARDS, ENTITIES, MARKUP
from workers.replay.scrub.words import Words

_DEEPEST = 20  # parts in parts
_EMPTY_LINE = re.compile(rb"(?:\A|\n)\r?\n")
_TAG = re.compile(
    # One that is not closed goes to the end: nobody looks for it again from each that follows.
    rb"<style\b[^>]{0,4000}>(?:[^<]|<(?!/style))*+(?:</style>)?|<(?!!--)[A-Za-z/!?][^<>]{0,8000}>",
    re.IGNORECASE | re.DOTALL,
)
_ENTITY = re.compile(rb"&(?:([A-Za-z0-9]{2,8})|#([0-9]{1,7})|#([xX][0-9A-Fa-f]{1,6}));")
_NUMBERS = {1: b"9", 2: b"88", 3: b"120", 4: b"1046", 5: b"20013", 6: b"120121", 7: b"1048576"}
_HEADS = (b"message/", b"text/rfc822-headers")
_CARDS = (b"text/calendar", b"text/vcard", b"text/x-vcard", b"text/directory", b"application/ics")
# What files begin with that say what they are.
_MAGIC = re.compile(
    rb"\x89PNG\r\n\x1a\n|GIF8[79]a|\xff\xd8\xff.|%PDF-1\.[0-9]|PK\x03\x04|\x1f\x8b\x08|RIFF|BM|II\*\0|MM\0\*"
)  # fmt: skip


def scrub(octets: bytes, words: Words) -> bytes:
    """Return a message of the same size and structure, without the words that were in it."""
    if b"\n" in octets or b"\r" not in octets:
        return b"".join(_scrub_part(octets, words, b"text/plain", 0))
    # Lines end as they did on the Macs of long ago: it is taken apart as if it were LF.
    usual = octets.replace(b"\r", b"\n")
    return b"".join(_scrub_part(usual, words, b"text/plain", 0)).replace(b"\n", b"\r")


def _scrub_part(octets: bytes, words: Words, default: bytes, depth: int) -> Iterator[bytes]:
    found = _EMPTY_LINE.search(octets)
    end = found.end() if found else len(octets)
    head, body = octets[:end], octets[end:]
    kind = read_kind(head, default)
    yield scrub_head(head, words)
    if depth < _DEEPEST and kind.content_type.startswith(b"multipart/") and kind.boundary:
        inner = b"message/rfc822" if kind.content_type == b"multipart/digest" else b"text/plain"
        yield from _scrub_sections(body, words, kind.boundary, inner, depth)
    elif (
        depth < _DEEPEST
        and kind.content_type in (b"message/rfc822", b"message/global")
        and (kind.encoding not in (b"base64", b"quoted-printable"))
    ):
        yield from _scrub_part(body, words, b"text/plain", depth + 1)
    else:
        yield _scrub_body(body, words, kind, depth)


def _scrub_sections(
    body: bytes, words: Words, boundary: bytes, inner: bytes, depth: int
) -> Iterator[bytes]:
    """Yield what is before, between and behind the lines that divide a multipart; those stay."""
    divider = re.compile(rb"(?:\A|(?<=\n))--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r?\n|\Z)")
    other = words.replace_hosts(boundary)
    at, is_inside = 0, False
    for found in divider.finditer(body):
        section = body[at : found.start()]
        if is_inside:
            yield from _scrub_part(section, words, inner, depth + 1)
        else:
            yield words.replace_all(section)
        yield b"--" + other + found[0][2 + len(boundary) :]
        is_inside, at = not found[1], found.end()
    if is_inside:
        yield from _scrub_part(body[at:], words, inner, depth + 1)
    else:
        yield words.replace_all(body[at:])


def _scrub_body(body: bytes, words: Words, kind: Kind, depth: int) -> bytes:
    is_encoded = kind.encoding in (b"base64", b"quoted-printable")
    if is_encoded and kind.content_type.startswith(b"message/rfc822") and depth < _DEEPEST:
        replace = partial(_scrub_inner, words=words, depth=depth)
    else:
        replace = partial(_scrub_content, words=words, kind=kind)
    if kind.encoding == b"base64":
        return replace_base64(body, replace, words.replace_all)
    if kind.encoding == b"quoted-printable":
        return replace_quoted(body, replace)
    return replace(body)


def _scrub_inner(content: bytes, words: Words, depth: int) -> bytes:
    return b"".join(_scrub_part(content, words, b"text/plain", depth + 1))


def _scrub_content(content: bytes, words: Words, kind: Kind) -> bytes:
    """Replace a body without its transfer encoding."""
    content_type = kind.content_type
    if content_type in (b"text/html", b"application/xhtml+xml"):
        return scrub_markup(content, words)
    if content_type in _CARDS:
        return words.replace_all(content, CARDS)
    if content_type.startswith(_HEADS):
        return scrub_head(content, words)
    if content_type.startswith(b"text/") or kind.encoding != b"base64":
        return words.replace_all(content)
    found = _MAGIC.match(content)
    magic = found[0] if found else b""
    return magic + words.make_noise(content[len(magic) :])


def scrub_markup(content: bytes, words: Words) -> bytes:
    """Replace the words of HTML: in tags those of the language stay, in text all go."""
    out: list[bytes] = []
    at = 0
    for found in _TAG.finditer(content):
        out += (
            _scrub_text(content[at : found.start()], words),
            words.replace_all(found[0], MARKUP),
        )
        at = found.end()
    return b"".join([*out, _scrub_text(content[at:], words)])


def _scrub_text(text: bytes, words: Words) -> bytes:
    """Replace the words between tags. Characters by number become other ones."""
    out: list[bytes] = []
    at = 0
    for found in _ENTITY.finditer(text):
        out.append(words.replace_all(text[at : found.start()]))
        if found[1]:
            is_known = found[1].lower() in ENTITIES
            out.append(found[0] if is_known else b"&" + words.replace(found[1]) + b";")
        elif found[2]:
            out.append(b"&#" + _NUMBERS[len(found[2])] + b";")
        else:
            out.append(
                b"&#"
                + found[3][:1]
                + b"78".rjust(len(found[3]) - 1, b"0")[-(len(found[3]) - 1) :]
                + b";"
            )
        at = found.end()
    return b"".join([*out, words.replace_all(text[at:])])
