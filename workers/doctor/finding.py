"""What a check has found."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Level = Literal["ok", "skipped", "notice", "warning", "error"]

_RANKS: dict[Level, int] = {"ok": 0, "skipped": 1, "notice": 2, "warning": 3, "error": 4}


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. ``skipped``: nobody could tell; ``advice``: what to do about it."""

    check: str
    subject: str  # what it is about: an address, a domain, a file
    level: Level
    text: str
    advice: str = ""
    source: str = ""  # the name of the source that it concerns, if it is one


def find_worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level among these; "ok" when there are none."""
    return max((one.level for one in findings), key=_RANKS.__getitem__, default="ok")


def is_bad(level: Level) -> bool:
    """Tell whether somebody should do something: a warning or an error."""
    return _RANKS[level] >= _RANKS["warning"]
