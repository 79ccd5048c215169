"""How many deliveries a worker process can hold, and who waits for room in it."""

import itertools

from workers.feeder import Feeder

_TAKEN_AT_ONCE = 10  # deliveries that a feeder takes when it has waited for room, about


class Room:
    """The room of one process, in deliveries: ``most``, less what is held or may come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._unproven = 0  # ... for sites that have taken nothing from us lately
        self._expected = 0  # may come with claims under way
        self._starving: dict[Feeder, None] = {}  # who found no room, the longest first

    def find(self, *, proven: bool) -> int:
        """Return how many deliveries more there is room for, at least 0.

        What has come with a claim is counted twice until the claim is done with. Sites that have
        taken nothing from us yet may be many that hang: they share one half.
        """
        room = self._most - self._held - self._expected
        if not proven:
            room = min(room, max(1, self._most // 2) - self._unproven)
        return max(0, room)

    def expect(self, count: int) -> None:
        """So many deliveries may come (negative: have come, or will not)."""
        self._expected += count
        if count < 0:
            self._feed()

    def take(self, *, proven: bool) -> None:
        """A delivery is in hand."""
        self._held += 1
        self._unproven += not proven

    def leave(self, *, proven: bool) -> None:
        """A delivery has ended."""
        self._held -= 1
        self._unproven -= not proven
        self._feed()

    def starve(self, feeder: Feeder) -> None:
        """Ring the feeder when there is room again."""
        self._starving[feeder] = None

    def _feed(self) -> None:
        """Ring those who waited longest, as many as can find some.

        Not one by one: who looks and needs none wakes nobody.
        """
        if not self._starving:
            return
        count = max(1, self.find(proven=True) // _TAKEN_AT_ONCE)
        for feeder in list(itertools.islice(self._starving, count)):
            del self._starving[feeder]
            feeder.ring()
