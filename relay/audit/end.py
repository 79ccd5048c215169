"""Where a chain ended: what whoever goes on with it must know.

The last file is read as a whole, for its seal will have to account for every line of it. After a
crash it may end in half a line, even before the number was written. The half counts as a line: it
keeps its number, it gets its line end, and what follows has its hash. So nobody can take it away or
put something like it in. A line of its own, ``torn``, says that it is half.
"""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from relay.audit.chain import find_file, list_days, read_lines
from relay.audit.line import (
    MAX_LINE,
    START,
    UNREADABLE,
    Head,
    find_head,
    make_beginning,
    read_beginning,
)
from relay.audit.seal import Book, is_seal

_MARK = b'"event":"torn",'


@dataclass(slots=True)
class End:
    """The end of a chain. ``day``: of its last file, "" when there is none.

    ``unended``: the last line has no line end; ``torn``: it, when it is only half of one.
    """

    head: Head = START
    day: str = ""
    sealed: bool = False
    book: Book = field(default_factory=Book)
    unended: bool = False
    torn: bytes = b""


def make_torn(octets: int, time: float) -> bytes:
    """Return the event that tells of half a line before it; the hash of that stands in ``prev``."""
    return b"{" + _MARK + msgspec.json.encode({"time": time, "octets": octets})[1:]


def is_torn(line: bytes, beginning: int) -> bool:
    """Tell whether a line says that the one before it is half."""
    return line.startswith(_MARK, beginning)


def find_end(path: Path) -> End:
    """Read where a chain ended. Raises OSError."""
    end = End()
    for day in reversed(list_days(path)):
        found = _read_day(path, day)
        if not end.day:
            end = found
        else:  # the newest was begun, and not one whole line got into it
            end.head = found.head
        if found.head is not START:
            break
    if end.torn:
        end.head = find_head(end.head.n + 1, end.torn)
        end.book.note(end.head.n, bytes.fromhex(end.head.hash.decode()))
    return end


def _read_day(path: Path, day: str) -> End:
    end = End(day=day)
    for line in read_lines(find_file(path, day), MAX_LINE):
        if line.endswith(b"\n"):
            # What is no line at all is somebody's doing. `verify` tells; we go on with what is there.
            if (begun := read_beginning(line)) is not None:
                _take(end, begun, line[:-1])
        else:
            end.unended = True
            _take_half(end, line)
    return end


def _take(end: End, begun: Head, content: bytes) -> None:
    end.head = find_head(begun.n, content)
    end.sealed = is_seal(content, len(make_beginning(Head(begun.n - 1, begun.hash))))
    if not end.sealed:
        end.book.note(begun.n, bytes.fromhex(end.head.hash.decode()))


def _take_half(end: End, content: bytes) -> None:
    begun = read_beginning(content)
    if begun is not None and (end.head is START or begun == (end.head.n + 1, end.head.hash)):
        try:
            msgspec.json.decode(content)
        except UNREADABLE:
            pass
        else:
            _take(end, begun, content)
            return
    end.torn = content
