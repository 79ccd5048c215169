"""A line of a chain: an event, with its number and the hash of the line before it in front.

    {"n":7,"prev":"<64 hex digits>","time":...,"event":"accepted",...}

``prev`` is the SHA-256 of the whole line before, without its line end; of the very first, zeros. Both
stand first and in exactly this form, so that they can be compared without reading any JSON.
"""

import re
from binascii import hexlify
from hashlib import sha256
from typing import NamedTuple

import msgspec

ZEROS = b"0" * 64
# Nothing that we write is longer than what a trail holds in memory (trail.py); nothing else is read.
MAX_LINE = 16 << 20
# What reading JSON raises when somebody has changed it.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_BEGINNING = re.compile(rb'\{"n":([1-9][0-9]{0,17}),"prev":"([0-9a-f]{64})",')


class Head(NamedTuple):
    """How far a chain goes: the number and the hash (hex digits) of its last line."""

    n: int
    hash: bytes


START = Head(0, ZEROS)


def make_beginning(after: Head) -> bytes:
    """Return what the line that follows begins with."""
    return b'{"n":%d,"prev":"%b",' % (after.n + 1, after.hash)


def make_line(after: Head, event: bytes) -> bytes:
    """Return the line that follows. ``event``: a JSON object with at least one key in it."""
    return make_beginning(after) + event[1:]


def read_beginning(line: bytes) -> Head | None:
    """Return the number of a line and the hash *before* it; None when it is no line of a chain."""
    found = _BEGINNING.match(line)
    return Head(int(found[1]), found[2]) if found else None


def find_head(n: int, line: bytes) -> Head:
    """Return the head of a chain whose last line, of that number, this is."""
    return Head(n, hexlify(sha256(line).digest()))
