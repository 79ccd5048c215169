"""Replaces what is personal in a head, field by field; and reads from it what the body is."""

import re
from dataclasses import dataclass

from workers.replay.scrub.encoded import replace_words
from workers.replay.scrub.vocabulary import ENDINGS, HEADS
from workers.replay.scrub.words import Words

# A field with the lines that continue it, however lines end. Bare CR is no line end here.
_FIELD = re.compile(rb"[^\n]*(?:\n[ \t][^\n]*)*\n?")
_NAME = re.compile(rb"([!-9;-~]{1,200})([ \t]*:)")
_DATED = (b"date", b"received", b"x-received", b"resent-date", b"delivery-date", b"arrival-date",
          b"last-attempt-date", b"will-retry-until", b"expires")  # fmt: skip
# In these the words of formats stay. What people write in the others may be such words, too.
_FORMAL = (b"received", b"x-received", b"dkim-signature", b"arc-", b"authentication-results", b"content-",
           b"x-google-dkim", b"domainkey-", b"auto-submitted", b"precedence", b"x-spam-", b"mime-version",
           b"action", b"status", b"reporting-mta", b"remote-mta", b"final-recipient", b"diagnostic-code",
           b"original-recipient", b"feedback-type", b"disposition", b"tls-required", b"importance",
           b"priority", b"x-priority", b"user-agent", b"arrival-date", b"version")  # fmt: skip
_DATE = re.compile(
    rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?\s+)?[0-9]{1,2}\s+"
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+[0-9]{2,4}\s+[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?"
    rb"(?:\s+(?:[+-][0-9]{4}|GMT|UTC|UT))?",
    re.IGNORECASE,
)
_MAIN = re.compile(rb"\s*[A-Za-z0-9!#$&^_.+-]{1,127}(?:/[A-Za-z0-9!#$&^_.+-]{1,127})?")
_PARAMETER = re.compile(
    rb"""([A-Za-z0-9_-]{1,60}(?:\*[0-9]*\*?)?)(\s*=\s*)("(?:[^"\\]|\\.)*"?|[^\s;"]+)"""
)
# What describes how a part is written, and not what is in it.
_TECHNICAL = (b"boundary", b"charset", b"format", b"delsp", b"type", b"protocol", b"micalg",
              b"report-type", b"method", b"access-type", b"smime-type", b"number", b"total")  # fmt: skip
_WRITTEN = re.compile(rb"[A-Za-z0-9.\s-]{1,40}")
_TOKEN = re.compile(rb'"?[A-Za-z0-9_.:+/-]{1,80}"?')


@dataclass(frozen=True, slots=True)
class Kind:
    """What the body below a head is: in lower case; ``boundary`` as written."""

    content_type: bytes = b"text/plain"
    encoding: bytes = b"7bit"
    boundary: bytes = b""


def read_kind(head: bytes, default: bytes) -> Kind:
    """Read what a body is; ``default``: its type if the head does not say."""
    content_type, encoding, boundary = b"", b"7bit", b""
    for field in _FIELD.findall(head):
        name, _, value = field.partition(b":")
        lower = name.strip().lower()
        if lower == b"content-type" and not content_type:  # of several, most readers take the first
            content_type = value.partition(b";")[0].strip().lower() or default
            for key, _, said in _PARAMETER.findall(value):
                if key.lower() in (b"boundary", b"boundary*"):
                    # RFC 2231 §4: with "*", charset and language stand in front of it.
                    boundary = boundary or _unquote(said).rpartition(b"''")[2]
        elif lower == b"content-transfer-encoding":
            encoding = value.strip().lower()
    return Kind(content_type or default, encoding, boundary)


def _unquote(value: bytes) -> bytes:
    if not value.startswith(b'"'):
        return value
    return re.sub(rb"\\(.)", rb"\1", value[1:].removesuffix(b'"')).rstrip(b" \t\r\n")


def scrub_head(head: bytes, words: Words) -> bytes:
    """Return a head of the same length, with the same fields in the same folds."""
    return b"".join(_scrub_field(field, words) for field in _FIELD.findall(head))


def _scrub_field(field: bytes, words: Words) -> bytes:
    found = _NAME.match(field)
    if found is None:
        return words.replace_all(field)
    # Names are words and hyphens. A known one in an unknown name says nothing: X-Spam-Ticket.
    name = words.replace_all(found[1], HEADS)
    value = field[found.end() :]
    lower = found[1].lower()
    known = HEADS if lower.startswith(_FORMAL) else frozenset[bytes]()
    if lower in (b"content-type", b"content-disposition"):
        return name + found[2] + _scrub_typed(value, words)
    if lower in (b"content-transfer-encoding", b"mime-version") and _WRITTEN.fullmatch(value):
        return field
    if lower in _DATED:
        return name + found[2] + _scrub_dated(value, words, known)
    return name + found[2] + _scrub_value(value, words, known)


def _scrub_value(value: bytes, words: Words, known: frozenset[bytes]) -> bytes:
    return replace_words(value, words.replace_all, lambda text: words.replace_all(text, known))


def _scrub_dated(value: bytes, words: Words, known: frozenset[bytes]) -> bytes:
    """Keep dates: when mail came is what a replay needs to know."""
    out: list[bytes] = []
    at = 0
    for found in _DATE.finditer(value):
        out += (_scrub_value(value[at : found.start()], words, known), found[0])
        at = found.end()
    return b"".join([*out, _scrub_value(value[at:], words, known)])


def _scrub_typed(value: bytes, words: Words) -> bytes:
    """Keep types and what is technical of their parameters; names of files become others."""
    main = _MAIN.match(value)
    at = main.end() if main else 0
    out = [value[:at]]
    for found in _PARAMETER.finditer(value, at):
        out.append(_scrub_value(value[at : found.start()], words, HEADS))
        out.append(_scrub_parameter(found, words))
        at = found.end()
    return b"".join([*out, _scrub_value(value[at:], words, HEADS)])


def _scrub_parameter(found: re.Match[bytes], words: Words) -> bytes:
    key, equals, said = found.groups()
    name = key.lower().partition(b"*")[0]
    if name == b"boundary":
        # Some programs make it of their host's name; ``message`` does the same to the lines.
        return key + equals + words.replace_hosts(said)
    if name in _TECHNICAL and _TOKEN.fullmatch(said):
        return found[0]
    if name in (b"name", b"filename", *_TECHNICAL, b"size", b"start", b"x-unix-mode"):
        front, quotes, rest = said.partition(b"''")  # RFC 2231 §4: the charset stands in front
        if b"*" in key and quotes and _TOKEN.fullmatch(front):
            return key + equals + front + quotes + words.replace_all(rest, ENDINGS)
        kept = lambda text: words.replace_all(text, ENDINGS)  # noqa: E731
        return key + equals + replace_words(said, words.replace_all, kept)
    return words.replace_all(key, HEADS) + equals + _scrub_value(said, words, HEADS)
