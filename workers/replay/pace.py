"""When each message is due: at once, at a rate, or as far apart as they came."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.config import Rate
from workers.replay.parcel import Parcel

# What is held to put messages in the order in which they came. A corpus that is further out of order
# is sent nearly so: what comes too late for its place goes at once.
_HELD = 48 << 20  # octets
_MOST = 100_000  # messages


@dataclass(slots=True)
class Pace:
    """``rate``: so many in so long; ``factor``: as recorded, so many times as fast; neither: at once."""

    rate: Rate | None = None
    factor: float | None = None
    late: int = 0  # came too late for their place
    _given: int = 0
    _first: float = 0.0
    _last: float = 0.0

    @property
    def is_paced(self) -> bool:
        """False: as fast as possible."""
        return self.rate is not None or self.factor is not None

    def find_due(self, parcel: Parcel) -> float:
        """Return how many seconds after the start a parcel is due; to be asked in order, once each."""
        self._given += 1
        if self.rate is not None:
            return (self._given - 1) * self.rate.seconds / self.rate.count
        if self.factor is None:
            return 0.0
        if parcel.time:
            self._first = self._first or parcel.time
            self.late += parcel.time < self._last
            self._last = max(self._last, parcel.time)
        return max(0.0, self._last - self._first) / self.factor


@dataclass(slots=True)
class Order:
    """Puts parcels into the order in which they came, as far as memory allows."""

    _heap: list[tuple[float, int, Parcel]] = field(default_factory=list)
    _size: int = 0

    def put(self, parcel: Parcel) -> Iterator[Parcel]:
        """Take one in; yield what must go now, to make room."""
        heapq.heappush(self._heap, (parcel.time, parcel.number, parcel))
        self._size += parcel.size
        while self._size > _HELD or len(self._heap) > _MOST:
            yield self._pop()

    def finish(self) -> Iterator[Parcel]:
        """Yield the rest."""
        while self._heap:
            yield self._pop()

    def _pop(self) -> Parcel:
        parcel = heapq.heappop(self._heap)[2]
        self._size -= parcel.size
        return parcel
