"""Which source of a pool sends next: smooth weighted round robin.

Every pick, each candidate earns its weight in credit, and the one with the most credit is taken
and pays what all have earned together. Over a full round the shares are exact, and picks of one
source are spread instead of bunched: weights 5/1/1 give ``a a b a c a a``. A random choice by
weight would be right only on average, and ten messages to a cautious site are no average.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet


class Rotation:
    """The sources of one pool and their credit. Not shared between processes."""

    __slots__ = ("_credit", "_weights")

    def __init__(self, weights: Mapping[str, int]) -> None:
        """``weights``: source name to weight; 0 means configured but not used."""
        self._weights = {name: weight for name, weight in weights.items() if weight > 0}
        self._credit = dict.fromkeys(self._weights, 0)

    def next(self, without: AbstractSet[str] = frozenset()) -> str | None:
        """Return the source whose turn it is, or None when none is left.

        Sources in ``without`` (rested, or tried already) are passed over and earn nothing: a
        source that comes back after an hour does not send everything at once to catch up.
        """
        credit = self._credit
        best: str | None = None
        earned = 0
        for name, weight in self._weights.items():
            if name in without:
                continue
            credit[name] += weight
            earned += weight
            if best is None or credit[name] > credit[best]:
                best = name
        if best is not None:
            credit[best] -= earned
        return best
