"""A letter: one message of a corpus as it lies there, and what was left out and why."""

from collections import Counter
from dataclasses import dataclass, field

_MOST = 1_000  # reasons, and damaged files, that are told apart


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of a corpus.

    ``name``: where it was found, e.g. ``mail.tar.zst:cur/1``, ``box.mbox#12``. ``stamp``: when it
    came, seconds since 1970, as the mailbox has it; 0: it does not say. ``changed``: the time of the
    file. ``position``: octets of the files on the disk that were read up to it, those before included.
    """

    name: str
    content: bytes
    stamp: float = 0.0
    changed: float = 0.0
    position: int = 0


@dataclass(slots=True)
class Leftovers:
    """What of a corpus was not read: messages by reason, and files that are damaged."""

    reasons: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)

    def leave(self, reason: str) -> None:
        """Count one more that was left out."""
        if reason in self.reasons or len(self.reasons) < _MOST:
            self.reasons[reason] += 1

    def complain(self, problem: str) -> None:
        """Note a file that could not be read to its end; once."""
        if problem not in self.damaged and len(self.damaged) < _MOST:
            self.damaged.append(problem)
