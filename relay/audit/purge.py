"""Taking away what is old: whole sealed days, from the beginnings of chains only.

The order is: the record, in a chain of operators and on the disk; the store forgets the seals; then
the files, oldest first. Whoever takes files away without the store leaves seals there, and `verify`
says so. Dying in between leaves files that `verify` takes no offence at, and the next purge removes.

Where a process lives, the last file of its chain stays: it is where the next one reads how to go on.
Where none does, a chain can go as a whole, and whoever takes its name begins anew.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from relay.audit.chain import (
    Held,
    find_end,
    find_file,
    is_operators,
    list_chains,
    list_days,
    try_hold,
)
from relay.audit.line import Head, find_head, make_beginning, read_beginning
from relay.audit.purged import Purged
from relay.audit.seal import is_seal

_TAIL = 64 * 1024  # a seal is shorter


@dataclass(slots=True)
class Old:
    """What may go of a chain: these days, of which ``head`` is the last line."""

    path: Path
    days: list[str]
    head: Head
    held: Held | None = field(default=None)  # the chain goes as a whole, and is ours meanwhile

    @property
    def name(self) -> str:
        """The chain's name."""
        return self.path.name

    def make_record(self) -> Purged:
        """Return what the record says of it."""
        return Purged(
            self.name,
            self.head.n,
            self.head.hash.decode(),
            tuple(self.days),
            whole=self.held is not None,
        )

    def remove(self) -> None:
        """Remove the files. Raises OSError."""
        for day in self.days:
            find_file(self.path, day).unlink(missing_ok=True)
        if self.held is not None:
            (self.path / "lock").unlink()
            if not any(self.path.iterdir()):  # what is not ours stays
                self.path.rmdir()

    def release(self) -> None:
        """Give up a chain that was held for this."""
        if self.held is not None:
            held, self.held = self.held, None
            held.release()


def find_old(directory: Path, before: float) -> Iterator[Old]:
    """Yield what ended before a time, seconds since 1970. Raises StartError, OSError.

    A chain that can go as a whole is held: ``release`` it.
    """
    for path in list_chains(directory):
        days, head = [], None
        there = list_days(path)
        for day in there:
            sealed = _read_seal(find_file(path, day)) if find_end(day) <= before else None
            if sealed is None:
                break
            days.append(day)
            head = sealed
        held = None
        if days == there:
            held = try_hold(path) if days else None
            # Whoever had it may have written since: looked at again, now that nobody does.
            if held is not None and list_days(path) != there:
                held.release()
                held = None
            if held is None and days:
                days.pop()
                head = _read_seal(find_file(path, days[-1])) if days else None
        if head is not None:
            yield Old(path, days, head, held)


def _read_seal(file: Path) -> Head | None:
    """Return the last line of a file, if it is a seal."""
    with file.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
        tail = stream.read(_TAIL)
    if not tail.endswith(b"\n"):
        return None
    line = tail[:-1].rpartition(b"\n")[2]
    begun = read_beginning(line)
    if begun is None or not is_seal(line, len(make_beginning(Head(begun.n - 1, begun.hash)))):
        return None
    return find_head(begun.n, line)


def carry_over(directory: Path, known: dict[str, Purged], old: list[Old]) -> list[Purged]:
    """Return the records that must be written again, because what they stand in goes now.

    ``known``: the records that there are.
    """
    if not any(is_operators(one.name) for one in old):
        return []
    there = {path.name for path in list_chains(directory)} - {one.name for one in old}
    return [
        Purged(one.chain, one.last, one.hash, whole=one.whole)
        for name, one in sorted(known.items())
        if name in there
    ]
