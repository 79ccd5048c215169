"""Replies as people have them: a line each, or several as they came over the wire.

RFC 5321 §4.2.1: ``550-`` begins a line that others follow, ``550 `` the last. Logs and tables put the
lines of one reply into one, with the two characters ``\\n`` between them, and often keep only a part:
no code, or the enhanced code alone.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_LINES = 256  # of one reply, as in relay.smtp.reply
_NEWLINE = "\\n"  # two characters
_LINE = re.compile(r"\s*([2-5][0-9]{2})(?:([ \t-])|$)(.*)", re.DOTALL)
# Also as "#5.1.1" and "5.1.1:".
_STATUS = re.compile(r"\s*#?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])[: \t]?(.*)", re.DOTALL)


class Said(NamedTuple):
    """A reply: its code (0: none), its enhanced code (""), and its text without them."""

    code: int
    status: str
    text: str


class _Line(NamedTuple):
    code: str
    goes_on: bool
    status: str
    text: str


def read_replies(lines: Iterable[str]) -> Iterator[Said]:
    """Yield the replies of a transcript, each as soon as its last line is there.

    Empty lines are passed over. What begins with ``550-`` and is not gone on with is a reply, too.
    """
    open_lines: list[_Line] = []
    for raw in lines:
        parts = [_read_line(part) for part in _cut(raw.strip()) if part.strip()]
        if not parts:
            continue
        if open_lines and not _follows(open_lines[-1], parts[0]):
            yield _join(open_lines)
            open_lines = []
        open_lines += parts
        # Whoever has put several lines into one has the whole reply there.
        is_whole = len(parts) > 1 or not parts[-1].goes_on
        if is_whole or len(open_lines) >= MAX_LINES:
            yield _join(open_lines)
            open_lines = []
    if open_lines:
        yield _join(open_lines)


def _cut(text: str) -> list[str]:
    """Return the lines of a reply that somebody has put into one, with ``\\n`` or blanks between."""
    code = text[:3]
    if _NEWLINE not in text and text[3:4] == "-" and code.isdigit() and f" {code} " in text:
        for mark in "- ":
            text = text.replace(f" {code}{mark}", f"{_NEWLINE}{code}{mark}")
    return text.split(_NEWLINE)


def _follows(before: _Line, line: _Line) -> bool:
    return before.goes_on and line.code == before.code


def _read_line(text: str) -> _Line:
    code, mark = "", ""
    if found := _LINE.fullmatch(text):
        code, mark, text = found[1], found[2] or "", found[3]
    status = ""
    if found := _STATUS.fullmatch(text):
        status, text = found[1], found[2]
    return _Line(code, mark == "-", status, text.strip())


def _join(lines: list[_Line]) -> Said:
    code = next((line.code for line in lines if line.code), "")
    status = next((line.status for line in lines if line.status), "")
    return Said(int(code or 0), status, " ".join(line.text for line in lines if line.text))
