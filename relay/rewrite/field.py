"""Puts a field on top of a message, folded."""

import base64
import re

_NAME = re.compile(r"[!-9;-~]{1,76}")
_LINE = 78  # RFC 5322 §2.1.1, without the CRLF
_LONGEST = 998
# Octets of UTF-8 in one encoded word: "=?utf-8?b?" + "?=" + base64 of 45 octets is 72 characters.
_WORD = 45


def add_field(message: bytes, name: str, value: str) -> bytes:
    """Return the message with one more field, on top of all others.

    It is folded to 78 characters where it has blanks; words that are not ASCII are encoded
    (RFC 2047). Raises ValueError for a name that is none, and for line ends or control characters
    in the value: what stands in a configuration or a scanner's answer must not make more fields.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header field")
    if any(
        (ord(character) < 32 and character != "\t") or ord(character) == 127 for character in value
    ):
        raise ValueError(f"the value of {name} has a line end or another control character")
    words = value.split()
    if not value.isascii() or any(len(word) >= _LONGEST for word in words):
        words = _encode(value)
    return "".join(_fold(name, words)).encode("ascii") + message


def _fold(name: str, words: list[str]) -> list[str]:
    """Return the field's lines. Only words begin a line: one of blanks would end the head for some."""
    lines = []
    line = name + ":"
    for word in words:
        if len(line) + 1 + len(word) > _LINE and line != name + ":":
            lines.append(line + "\r\n")
            line = ""
        line += " " + word
    return [*lines, line + "\r\n"]


def _encode(value: str) -> list[str]:
    """Return a text as encoded words, none of which ends within a character (RFC 2047 §5)."""
    words: list[str] = []
    octets = b""
    for character in value:
        encoded = character.encode("utf-8", "replace")
        if len(octets) + len(encoded) > _WORD:
            words.append(octets.decode())
            octets = b""
        octets += encoded
    words.append(octets.decode())
    return [f"=?utf-8?b?{base64.b64encode(word.encode()).decode()}?=" for word in words]
