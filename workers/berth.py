"""What one of our sources has at one site: connections, leased at the gate, and deliveries in hand.

A source works up: its first claim at a host group is small, each delivered message allows one session
more, and a failure begins anew. So a site that hangs holds few of a worker's deliveries, however
many wait for it.
"""

import itertools
import math
from collections.abc import Callable

from relay.store.gate import Gates, SiteLimits
from workers.site import Terms

# Deliveries that a session has in hand or waiting for it: enough that it is never without work
# while the next claim is on its way.
DEPTH = 5
_FIRST_REST, _LONGEST_REST = 60.0, 300.0  # s


def make_limits(terms: Terms) -> SiteLimits:
    """Return a site's terms as its gate wants them."""
    return SiteLimits(terms.name, terms.connections or 0, terms.rates, terms.source_rates)


def find_rate(terms: Terms) -> float:
    """Return the configured rate of each source at a site, deliveries/s; 0: there is none."""
    return min((rate.count / rate.seconds for rate in terms.source_rates), default=0.0)


def find_rests(terms: Terms) -> tuple[float, float]:
    """Return for how long a source rests that met no host: at first, and at most, s.

    A quarter of the first retry's wait, doubling: sooner than any single delivery would be tried.
    """
    first = min(_FIRST_REST, terms.retry[0] / 4)
    return first, max(first, min(_LONGEST_REST, max(terms.retry)))


class Berth:
    """One source at one site, in this process. Its lanes share it."""

    _numbers = itertools.count()

    def __init__(
        self,
        source: str,
        terms: Terms,
        gates: Gates,
        *,
        worker: str,
        find_share: Callable[[], float],
    ) -> None:
        """``find_share``: this source's part of its pool's weights, 0 to 1."""
        self.source = source
        self.terms = terms
        self.limits = make_limits(terms)
        self.held = 0  # deliveries in hand
        self.failures = 0  # times in a row that no host was met, over all workers
        self.connections: set[str] = set()  # leased
        self.lost: set[str] = set()  # ... whose lease has passed to others: close them
        self.windows: dict[str, int] = {}  # host group -> sessions that it may have
        self._gates = gates
        self._worker = worker
        self._find_share = find_share

    def __repr__(self) -> str:
        return f"<Berth {self.source} at {self.terms.name}: {self.held} held, {len(self.connections)} connections>"

    @property
    def most(self) -> int:
        """Connections that this source may have at the site.

        Its own limit, and its share of the site's: one source must not sit on all of them.
        """
        own = self.terms.source_connections
        if not self.terms.connections:
            return own
        return min(own, max(1, math.ceil(self.terms.connections * self._find_share())))

    @property
    def room(self) -> int:
        """How many deliveries more it could take in hand."""
        sessions = min(self.most, max(1, sum(self.windows.values())))
        return max(0, sessions * DEPTH - self.held)

    @property
    def is_proven(self) -> bool:
        """True when some host of the site has taken mail from us lately."""
        return any(window > 1 for window in self.windows.values())

    async def moor(self) -> str | None:
        """Lease a connection; None when there are as many as there may be."""
        connection = f"{self._worker}-{next(self._numbers)}"
        if not await self._gates.take_slot(self.limits, self.source, connection, self.most):
            return None
        self.connections.add(connection)
        return connection

    def leave(self, connection: str) -> None:
        """Give a lease back, after the connection was closed."""
        self.connections.discard(connection)
        self.lost.discard(connection)
        self._gates.free_slot(self.limits, self.source, connection)

    async def fail(self, text: str) -> float:
        """No host was met, and why: rest. Returns for how many seconds.

        What waits is not tried one by one, so somebody must look from time to time whether the
        site is back.
        """
        first, most = find_rests(self.terms)
        self.failures, rest = await self._gates.fail(
            self.terms.name, self.source, first=first, most=most, text=text
        )
        return rest

    def recover(self) -> None:
        """A host was met."""
        if self.failures:
            self.failures = 0
            self._gates.recover(self.terms.name, self.source)
