"""A target, as both who run it see it; and how targets read their input."""

import importlib
from collections.abc import Sequence
from typing import Protocol, cast

from tests.kit.receiving import cut_at


class Target(Protocol):
    """A module of this package."""

    SEEDS: Sequence[bytes]

    def check(self, octets: bytes) -> None:
        """Raise if what must hold does not. Every input is one that could arrive."""


def load_target(name: str) -> Target:
    """Import a target. Raises ModuleNotFoundError."""
    return cast("Target", importlib.import_module(f"tests.fuzz.{name}"))


def take_octet(octets: bytes) -> tuple[int, bytes]:
    """Return the first octet, which decides something, and the others."""
    return (octets[0], octets[1:]) if octets else (0, b"")


def cut(how: int, octets: bytes) -> list[bytes]:
    """Cut into portions: 0 not at all, else in lengths that follow from ``how`` (0 to 255)."""
    if not how:
        return [octets]
    lengths: list[int] = []
    length = how
    while sum(lengths) < len(octets):
        lengths.append(1 + length % 23)
        length = length * 7 + 3 & 0xFF
    return cut_at(octets, lengths)
