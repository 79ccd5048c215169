"""What this process has counted since a test began."""

from relay.counters import COUNTERS, SUM


class Counted:
    """Begins with nothing. What was looked at stays counted."""

    def __init__(self) -> None:
        COUNTERS.take()
        # Which sites are told apart is decided once in a process, and tests before have met many.
        for known in COUNTERS._known.values():
            known.clear()

    def read(self, name: str) -> dict[tuple[str, ...], int]:
        """Return how often which labels of a counter were counted."""
        taken = COUNTERS.take()
        COUNTERS.give_back(taken)
        return {labels: count for (one, labels), count in taken.items() if one == name}

    def count(self, name: str) -> int:
        """Return how many a histogram has."""
        return sum(count for labels, count in self.read(name).items() if labels != (SUM,))
