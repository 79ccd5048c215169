"""What was purged, as it stands in the chains of operators: where a chain begins now, and why.

A ``purged`` line names a chain, the days that are gone, and the last line of them. The newest of a
chain counts: the chain begins with what follows that line, and with nothing else. A line without
days is there because its predecessor was purged itself.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from relay.audit.chain import find_file, is_operators, list_chains, list_days, read_lines
from relay.audit.line import MAX_LINE, UNREADABLE, Head

_MARK = b'"event":"purged"'


class Purged(msgspec.Struct, frozen=True):
    """How much of the beginning of a chain is gone. ``whole``: all of it, it begins anew."""

    chain: str
    last: int
    hash: str
    days: tuple[str, ...] = ()
    whole: bool = False

    @property
    def head(self) -> Head:
        """The last line that is gone."""
        return Head(self.last, self.hash.encode())


class _Line(msgspec.Struct, frozen=True):
    """As it stands in the chain."""

    event: str
    time: float
    purged: Purged | None = None


def find_purged(directory: Path) -> dict[str, Purged]:
    """Return the newest record of each chain. Raises StartError, OSError.

    Whether the lines are sound is not asked here: `verify` reads the same chains.
    """
    newest: dict[str, tuple[float, Purged]] = {}
    for path in list_chains(directory):
        if is_operators(path.name):
            for day in list_days(path):
                for when, one in _read_day(path, day):
                    known = newest.get(one.chain)
                    if known is None or when >= known[0]:
                        newest[one.chain] = when, one
    return {name: one for name, (_, one) in newest.items()}


def _read_day(path: Path, day: str) -> Iterator[tuple[float, Purged]]:
    for line in read_lines(find_file(path, day), MAX_LINE):
        if _MARK in line:
            try:
                said = msgspec.json.decode(line, type=_Line)
            except UNREADABLE:
                continue
            # Others may have an event of that name.
            if said.event == "purged" and said.purged is not None:
                yield said.time, said.purged
