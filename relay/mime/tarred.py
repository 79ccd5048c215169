"""Reads the entries of a tar archive (POSIX.1-2017 "pax", and GNU's additions).

Not the standard library's ``tarfile``, which was made for archives that somebody wants to unpack:
hostile headers have kept it busy for ever more than once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from relay.mime.budget import Budget
from relay.mime.limits import Unreadable
from relay.mime.unpack import Damaged, Octets

_BLOCK = 512
_LONGEST = 64 * 1024  # of a name or a pax header
_RECORD = re.compile(rb"([0-9]{1,9}) ")
_NAMES = (b"path", b"GNU.sparse.name")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its names, and where its content is."""

    names: tuple[str, ...]
    start: int
    end: int


def is_header(block: Octets) -> bool:
    """Tell whether this is the first block of an entry: whether its sum is right."""
    if len(block) < _BLOCK or not block[0]:
        return False
    said = _read_number(block[148:156])
    return said == sum(block[:148]) + 8 * 32 + sum(block[156:_BLOCK])


def read_entries(octets: Octets, budget: Budget) -> Iterator[Entry]:
    """Yield the entries up to the first block of zeros. Raises Damaged, Unreadable."""
    at = 0
    names: list[bytes] = []  # of the next entry, from what stands in front of it
    size: int | None = None
    while at + _BLOCK <= len(octets):
        block = octets[at : at + _BLOCK]
        if not any(block):
            return
        budget.take_name()
        if not is_header(block):
            raise Damaged
        kind = bytes(block[156:157])
        length = _read_number(block[124:136])
        start = _skip_map(octets, at, kind)
        if kind in b"LKxgX" and kind:
            end = start + length
            if length > _LONGEST or end > len(octets):
                raise Unreadable("a tar archive with a name longer than anybody gives")
            if kind == b"L":
                names.append(bytes(octets[start:end]).partition(b"\0")[0])
            elif kind != b"K":
                more, said = _read_records(bytes(octets[start:end]))
                names += more
                size = said if said is not None else size
        else:
            length = length if size is None else size
            end = start + length
            if end > len(octets):
                raise Damaged
            yield Entry(tuple(_show([*names, *_find_names(block)])), start, end)
            names, size = [], None
        at = start + -(-length // _BLOCK) * _BLOCK


def _skip_map(octets: Octets, at: int, kind: bytes) -> int:
    """Return where the content begins: of GNU's sparse files behind blocks with their map."""
    more = kind == b"S" and octets[at + 482 : at + 483] not in (b"\0", b"")
    at += _BLOCK
    while more and at + _BLOCK <= len(octets):
        more = octets[at + 504] != 0
        at += _BLOCK
    return at


def _find_names(block: Octets) -> list[bytes]:
    name = bytes(block[:100]).partition(b"\0")[0]
    prefix = bytes(block[345:500]).partition(b"\0")[0]
    # GNU's own format has other things in the prefix' place.
    return [prefix + b"/" + name] if prefix and block[257:263] == b"ustar\0" else [name]


def _read_number(field: Octets) -> int:
    """Read a number: in octal, or if it is large in base 256."""
    if field[0] & 0x80:
        number = int.from_bytes(field, "big") & (1 << 8 * len(field) - 1) - 1
        if field[0] & 0x40:
            raise Damaged  # a negative size
        return number
    digits = bytes(field).partition(b"\0")[0].strip()
    if not all(octet in b"01234567" for octet in digits):
        raise Damaged
    return int(digits or b"0", 8)


def _read_records(octets: bytes) -> tuple[list[bytes], int | None]:
    """Return the names and the size in a pax header: "LENGTH key=value" lines."""
    names: list[bytes] = []
    size: int | None = None
    at = 0
    while match := _RECORD.match(octets, at):
        length = int(match[1])
        key, _, value = octets[match.end() : at + length].rstrip(b"\n").partition(b"=")
        if key in _NAMES:
            names.append(value)
        elif key == b"size":
            if not re.fullmatch(rb"[0-9]{1,18}", value):
                raise Damaged
            size = int(value)
        if length <= match.end() - at:
            raise Damaged
        at += length
    return names, size


def _show(names: list[bytes]) -> dict[str, None]:
    return dict.fromkeys(name.decode("utf-8", "replace") for name in names)
