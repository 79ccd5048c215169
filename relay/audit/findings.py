"""What `verify` found, and what it is told beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from relay.audit.line import Head

_MOST = 1000  # findings that are kept; of a file that is garbage, each line is one


class Finding(msgspec.Struct, frozen=True):
    """Something that was changed, or is missing. ``line``: in the file; 0: none in particular."""

    chain: str
    file: str
    line: int
    text: str


@dataclass(slots=True)
class Report:
    """The result. Days and lines are those that are good; ``notes``: what is no finding."""

    findings: list[Finding] = field(default_factory=list)
    more: int = 0  # findings beyond those
    notes: list[str] = field(default_factory=list)
    chains: int = 0
    days: int = 0
    lines: int = 0

    @property
    def is_sound(self) -> bool:
        """True when nothing was found."""
        return not self.findings

    def find(self, chain: str, file: str, line: int, text: str) -> None:
        """Note a finding."""
        if len(self.findings) < _MOST:
            self.findings.append(Finding(chain, file, line, text))
        else:
            self.more += 1


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows of chains: read before the files, which may grow meanwhile."""

    heads: Mapping[str, Head] = field(default_factory=dict)
    seals: Mapping[str, Mapping[str, Head]] = field(default_factory=dict)
    lost: Sequence[tuple[str, Head]] = ()
