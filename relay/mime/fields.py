"""The fields of a head (RFC 5322 §2.2), of a message or of a part, as octets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A field ends before a CRLF that no blank follows (RFC 5322 §2.2.3).
_ENDS = re.compile(rb"\r\n(?![ \t])")


@dataclass(frozen=True, slots=True)
class Field:
    """One field, folded as it came. ``name`` is b"" for a line that is none."""

    name: bytes  # as written, without blanks before the colon
    value: bytes  # all behind the colon, without the last CRLF
    start: int  # in the head
    end: int  # behind its CRLF
    spaced: bool = False  # blanks before the colon


def find_fields(head: bytes) -> Iterator[Field]:
    """Yield the fields of a head up to its empty line, with lines that are none of any field."""
    start = 0
    while start < len(head) and not head.startswith(b"\r\n", start):
        stop, end = _find_end(head, start)
        name, colon, value = head[start:stop].partition(b":")
        bare = name.rstrip(b" \t")
        # RFC 5322 §2.2: no blank and no control character, so no fold either, is in a name. Octets
        # above 127 are not allowed and are let through: the field is nobody's.
        if colon and bare and min(bare) > 32:
            yield Field(bare, value, start, end, spaced=bare != name)
        else:
            yield Field(b"", head[start:stop], start, end)
        start = end


def fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and value of each field of a head, unfolded and otherwise as written."""
    for name, value in split_fields(head):
        yield name, unfold(value)


def split_fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return name and value of each field of a head, folded as they came.

    It ends at an empty line; lines that are no field are left out. The same as ``find_fields``, in a
    third of the time.
    """
    end = 0 if head.startswith(b"\r\n") else head.find(b"\r\n\r\n")
    found = []
    for text in _ENDS.split(head if end < 0 else head[:end]):
        name, colon, value = text.partition(b":")
        bare = name.rstrip(b" \t")
        if colon and bare and min(bare) > 32:
            found.append((bare, value))
    return found


def unfold(value: bytes) -> bytes:
    """Take out the line ends of a field's value (RFC 5322 §2.2.3)."""
    return value.replace(b"\r\n", b"")


def _find_end(head: bytes, at: int) -> tuple[int, int]:
    """Return where a field's text ends, and where the next one begins."""
    while True:
        at = head.find(b"\r\n", at)
        if at < 0:
            return len(head), len(head)
        if head[at + 2 : at + 3] not in (b" ", b"\t"):
            return at, at + 2
        at += 2
