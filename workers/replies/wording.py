"""A wording: parts that follow each other at some distance, as people put words together.

Written as one pattern, ``user .{0,30}unknown``. A single automaton for it has to count the characters
between for each place where the first part ends, and becomes large where the parts have choices; the
parts by themselves are small. So a pattern is cut at its ``.{0,N}`` (not those within brackets), and the
parts are looked for one after another: each the first within N characters after the one before.
"""

import re
from collections.abc import Iterator

import re2  # type: ignore[import-untyped]

_MAX_MEMORY = 2 << 20  # octets, of the automata of one part; they stay in the thousands
# How many places of a part are gone on from; nobody says more in one reply.
_MAX_PLACES = 4
_LONGEST = 48  # octets of a part that are looked at beyond the gap
_SHORTEST_GAP = 6
_GAP = re.compile(r"\.\{0,([0-9]{1,3})\}")


class Wording:
    """One pattern, compiled."""

    __slots__ = ("_first", "_rest")

    def __init__(self, pattern: str) -> None:
        """Raises ValueError when it is none of RE2's."""
        first, *rest = list(_cut(pattern))
        self._first = _compile(first[0])
        self._rest = tuple((gap, _compile(part)) for part, gap in rest)

    def is_in(self, text: bytes) -> bool:
        """Tell whether ``text`` says it."""
        if not self._rest:
            return self._first.search(text) is not None
        at, tried = 0, 0
        while tried < _MAX_PLACES and (found := self._first.search(text, at)) is not None:
            at = found.end()
            if self._goes_on(text, at, 0):
                return True
            tried += 1
        return False

    def _goes_on(self, text: bytes, at: int, number: int) -> bool:
        """Tell whether the parts from ``number`` on follow what ends at ``at``."""
        for gap, part in self._rest[number:]:
            found = part.search(text, at, at + gap + _LONGEST)
            if found is None or found.start() > at + gap:
                return False
            at = found.end()
        return True


def _cut(pattern: str) -> Iterator[tuple[str, int]]:
    """Yield the parts, each with the longest gap before it."""
    start, gap = 0, 0
    for found in _GAP.finditer(pattern):
        length = int(found[1])
        if length < _SHORTEST_GAP or not _is_outside(pattern, found.start()):
            continue
        yield pattern[start : found.start()], gap
        start, gap = found.end(), length
    yield pattern[start:], gap


def _is_outside(pattern: str, place: int) -> bool:
    """Tell whether a place is in no brackets, and the pattern has no choices outside of them."""
    depth, escaped, there = 0, False, 0
    for number, character in enumerate(pattern):
        if number == place:
            there = depth
        if not escaped and character in "([":
            depth += 1
        elif not escaped and character in ")]":
            depth -= 1
        elif character == "|" and depth == 0:
            return False
        escaped = character == "\\" and not escaped
    return there == 0


def _compile(part: str) -> "re2._Regexp":
    options = make_options()
    try:
        return re2.compile(part, options)
    except re2.error:
        raise ValueError(f"no pattern of RE2's: {part}") from None


def make_options() -> "re2.Options":
    """Return how patterns are compiled: without regard to case, and bounded."""
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    return options
