"""Cuts a mailbox file ("mbox", RFC 4155) into messages, octet by octet as they were put in.

A message begins behind a line ``From SENDER DATE`` that is the file's first or follows an empty line.
Inside, lines that look like one were quoted with ``>`` when they were written: by programs of the kind
*mboxrd* all of them, so that ``>>From`` comes from ``>From``; by *mboxo* only ``From`` itself. The empty
line before the next message is the format's, and not the message's.
"""

import re
from collections.abc import Iterator
from typing import IO, Literal

from workers.replay.when import read_asctime

Quoting = Literal["mboxrd", "mboxo", "none"]

PIECE = 64 * 1024  # octets of a line that are looked at together; a line may be longer
# RFC 4155 Appendix A: the date is as of asctime(); with a zone, or without seconds, in the wild.
# What is behind is not looked at by the expression: it would try that at each of its times and years.
_SEPARATOR = re.compile(rb"From .*[0-9]{1,2}:[0-9]{2}.*[0-9]{4}")
_LONGEST = 500  # octets of such a line: an address and a date; what is longer is text
_UNQUOTE = {
    "mboxrd": re.compile(rb">+From "),
    "mboxo": re.compile(rb">From "),
    "none": re.compile(rb"(?!)"),
}


def split(stream: IO[bytes], quoting: Quoting, most: int) -> Iterator[tuple[bytes | None, float]]:
    """Yield each message, None for one of more than ``most`` octets, and when it came (0: unknown).

    A line's end, bare or not, is as it stands in the file.
    """
    gathering: _Gathering | None = None
    is_start, is_blank = True, True  # of a line; the line before was empty
    while line := stream.readline(PIECE):
        if is_start and is_blank and _is_separator(line):
            if gathering is not None:
                yield gathering.finish()
            gathering = _Gathering(most, read_asctime(line))
        elif gathering is not None:
            is_quoted = is_start and _UNQUOTE[quoting].match(line) is not None
            gathering.add(line[1:] if is_quoted else line)
        is_blank = is_start and line in (b"\n", b"\r\n")
        is_start = line.endswith(b"\n")
    if gathering is not None:
        yield gathering.finish()


def _is_separator(line: bytes) -> bool:
    """Whoever wrote a message may have tried to look like one: the time for it has a bound."""
    if len(line) > _LONGEST or not line.startswith(b"From "):
        return False
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    return b"\r" not in text and _SEPARATOR.match(text) is not None


class _Gathering:
    """The lines of one message."""

    def __init__(self, most: int, stamp: float) -> None:
        self._most = most
        self._stamp = stamp
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        self._size += len(line)
        if self._size > self._most + 2:
            self._lines.clear()
        else:
            self._lines.append(line)

    def finish(self) -> tuple[bytes | None, float]:
        if self._lines and self._lines[-1] in (b"\n", b"\r\n"):
            self._size -= len(self._lines.pop())
        if self._size > self._most:
            return None, self._stamp
        return b"".join(self._lines), self._stamp
