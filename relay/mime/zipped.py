"""Reads the directory of a ZIP archive (PKWARE's APPNOTE, 4.3 to 4.5).

Not the standard library's ``zipfile``: that makes an object of half a kilobyte for each of a
million entries before anybody can count them, and it sees only one of the two names that an entry
has. Programs that unpack go by either: a name that differs in the two places is two names here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from relay.mime.budget import Budget
from relay.mime.limits import Unreadable
from relay.mime.unpack import Damaged, Octets, peek, unpack

MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08PK\x03\x04")

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s4B4H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_COMMENT = 65535
_ENCRYPTED, _UTF8, _MASKED = 0x1, 0x800, 0x2000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its names, and where its content is."""

    names: tuple[str, ...]
    content: memoryview
    method: int
    encrypted: bool

    def peek(self, budget: Budget) -> bytes | None:
        """Return the first octets; None if nothing here can unpack them. As ``unpack.peek``."""
        if self.encrypted or self.method not in (0, 8):
            return None
        return peek("deflate", self.content, budget) if self.method else bytes(self.content[:512])

    def unpack(self, budget: Budget) -> Octets:
        """Return all of it. Raises Damaged, Unreadable."""
        if self.method:
            return unpack("deflate", self.content, budget)
        budget.take_read(len(self.content))
        return bytes(self.content)


def has_end(octets: Octets) -> bool:
    """Tell whether there is a ZIP's end at the end: also of one that begins with something else."""
    return octets.rfind(b"PK\x05\x06", max(0, len(octets) - _END.size - _COMMENT)) >= 0


def read_entries(octets: Octets, budget: Budget) -> Iterator[Entry]:
    """Yield the entries of the directory. Raises Damaged, Unreadable."""
    count, start, end, moved = _find_directory(octets)
    view = memoryview(octets)
    at = start
    while at < end:
        budget.take_name()
        entry, at = _read_entry(view, at, end, moved)
        budget.take_characters(entry.names)
        count -= 1
        yield entry
    if count > 0:
        raise Damaged


def _find_directory(octets: Octets) -> tuple[int, int, int, int]:
    """Return how many entries are said, where they begin and end, and how far all has moved."""
    at = _find_end(octets)
    _, disk, _, _, count, size, offset, _ = _END.unpack_from(octets, at)
    if disk not in (0, 0xFFFF):
        raise Unreadable("one of several volumes of a ZIP archive")
    end = at
    if 0xFFFF in (count, disk) or 0xFFFFFFFF in (size, offset):
        end, count, size, offset = _read_end64(octets, at) or (at, count, size, offset)
    start = end - size
    moved = start - offset  # by what somebody put in front of the archive
    if start < 0 or moved < 0:
        raise Damaged
    if moved and octets[offset : offset + 4] == b"PK\x01\x02":
        raise Unreadable("a ZIP archive with two directories")
    return count, start, end, moved


def _find_end(octets: Octets) -> int:
    first = max(0, len(octets) - _END.size - _COMMENT)
    ends: list[int] = []
    at = len(octets)
    last = -1
    while (at := octets.rfind(b"PK\x05\x06", first, at)) >= 0:
        if at + _END.size > len(octets):
            continue
        last = max(last, at)
        if at + _END.size + _END.unpack_from(octets, at)[7] == len(octets):
            ends.append(at)
    if len(ends) > 1:
        raise Unreadable("a ZIP archive with two directories")
    if last < 0:
        raise Damaged
    return ends[0] if ends else last


def _read_end64(octets: Octets, end: int) -> tuple[int, int, int, int] | None:
    """Read what takes more than 32 bits; None: it is not there."""
    if end < _LOCATOR.size or octets[end - _LOCATOR.size : end - 16] != b"PK\x06\x07":
        return None
    at = end - _LOCATOR.size - _END64.size
    if at < 0 or octets[at : at + 4] != b"PK\x06\x06":
        raise Damaged
    _, _, _, _, _, _, _, count, size, offset = _END64.unpack_from(octets, at)
    return at, count, size, offset


def _read_entry(view: memoryview, at: int, end: int, moved: int) -> tuple[Entry, int]:
    if at + _ENTRY.size > end:
        raise Damaged
    head = _ENTRY.unpack_from(view, at)
    signature, flags, method = head[0], head[5], head[6]
    packed, size, name_size, extra_size, comment_size = head[10:15]
    offset = head[18]
    name_at = at + _ENTRY.size
    extra_at = name_at + name_size
    after = extra_at + extra_size + comment_size
    if signature != b"PK\x01\x02" or after > end:
        raise Damaged
    if flags & _MASKED:
        raise Unreadable("a ZIP archive whose names are encrypted")
    name = bytes(view[name_at:extra_at])
    extra = bytes(view[extra_at : extra_at + extra_size])
    packed, offset = _read_long(extra, size, packed, offset)
    local_name, content_at = _read_local(view, offset + moved)
    if content_at + packed > len(view):
        raise Damaged
    names = dict.fromkeys([*_show(name, flags), *_read_unicode(extra), *_show(local_name, flags)])
    content = view[content_at : content_at + packed]
    return Entry(tuple(names), content, method, bool(flags & _ENCRYPTED)), after


def _read_local(view: memoryview, at: int) -> tuple[bytes, int]:
    """Return the name in front of the content, and where the content begins."""
    if at < 0 or at + _LOCAL.size > len(view):
        raise Damaged
    head = _LOCAL.unpack_from(view, at)
    if head[0] != b"PK\x03\x04":
        raise Damaged
    name_at = at + _LOCAL.size
    return bytes(view[name_at : name_at + head[9]]), name_at + head[9] + head[10]


def _find_extra(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


def _read_long(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int]:
    """Put in what takes more than 32 bits (4.5.3)."""
    if 0xFFFFFFFF not in (size, packed, offset):
        return packed, offset
    found = _find_extra(extra, 0x0001)
    values = iter(struct.unpack_from(f"<{min(3, len(found) // 8)}Q", found))
    try:
        if size == 0xFFFFFFFF:
            next(values)
        if packed == 0xFFFFFFFF:
            packed = next(values)
        if offset == 0xFFFFFFFF:
            offset = next(values)
    except StopIteration:
        raise Damaged from None
    return packed, offset


def _read_unicode(extra: bytes) -> list[str]:
    """Return the name that Info-ZIP keeps beside the other (4.6.9)."""
    found = _find_extra(extra, 0x7075)
    return [found[5:].decode("utf-8", "replace")] if len(found) > 5 else []


def _show(name: bytes, flags: int) -> list[str]:
    """Return a name as readers show it: some end it at a NUL."""
    text = name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    return [text, text.partition("\0")[0]] if "\0" in text else [text]
