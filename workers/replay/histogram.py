"""Times, counted in classes that grow by a twentieth: percentiles in little memory, however many."""

import math
from collections.abc import Iterator

_GROWTH = math.log(1.05)
_LEAST = 1e-5  # seconds; what is shorter counts as this
_CLASSES = 500  # up to some days


class Histogram:
    """Times in seconds. Percentiles are right to a twentieth; the longest one is exact."""

    __slots__ = ("_counts", "count", "longest", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.longest = 0.0
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        place = int(math.log(seconds / _LEAST) / _GROWTH) + 1 if seconds > _LEAST else 0
        place = min(place, _CLASSES)
        self._counts[place] = self._counts.get(place, 0) + 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def merge(self, other: "Histogram") -> None:
        """Count all of another one's, too."""
        for place, count in other._counts.items():
            self._counts[place] = self._counts.get(place, 0) + count
        self.count += other.count
        self.total += other.total
        self.longest = max(self.longest, other.longest)

    def find(self, share: float) -> float | None:
        """Return the time that ``share`` (0 to 1) of all were no longer than; None without any."""
        wanted, seen = share * self.count, 0
        for place in sorted(self._counts):
            seen += self._counts[place]
            if seen >= wanted:
                return min(self.longest, _LEAST * math.exp(place * _GROWTH))
        return None

    def classes(self) -> Iterator[tuple[float, int]]:
        """Yield the upper bound and the count of each class that has some, shortest first."""
        for place in sorted(self._counts):
            yield _LEAST * math.exp(place * _GROWTH), self._counts[place]

    def describe(self) -> dict[str, float | int | None]:
        """Return what a report says of it; times in seconds."""
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        found = {name: self.find(share) for name, share in shares.items()}
        return {
            "count": self.count,
            **{name: None if one is None else round(one, 6) for name, one in found.items()},
            "max": round(self.longest, 6) if self.count else None,
        }
