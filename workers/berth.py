"""What one of our sources has at one site: connections, leased at the gate, and deliveries in hand.

A source works up: its first claim at a host group is small, each delivered message allows one session
more, and a failure begins anew. So a site that hangs holds few of a worker's deliveries, however
many wait for it.

A lease ends by itself where the store hears nothing of us, and others may then open as many connections.
So they are closed here when the store has not confirmed them for nearly as long; on our monotonic clock,
from before the last confirmed renewal was sent: the store's lease began later, and ends later.

Where a message is then, whose session has the lease (the store, or we, may die at any of these lines):

    connecting, TLS      claimed, certainly not sent: closed; it is given back without an attempt
    before the dot       the same, though the attempt may be open in the store: that is taken back with
                         the claim. If the claim has lapsed, too, ``reclaim`` has made it ready again,
                         and closing keeps it from being sent twice
    ... not to be tried twice (``unknown_outcome`` other than "retry"), its attempt is open:
                         ``reclaim`` may have ended or held it as sent. Closed, it could be lost: it goes on
    after the dot        nobody knows; its host may say 250 any moment. Closed, each would be a
                         duplicate, or whatever the policy makes of it: it goes on
    it has its answer    closed; the answer is told to the store until that has heard it (ending.py)
    between messages     closed

So what is left is a connection too many for each message whose dot waits for its answer: ten minutes
at most (peer.py), mostly a moment. A duplicate would be worse.
"""

import itertools
import math
from collections.abc import Callable, KeysView
from dataclasses import dataclass

import trio

from relay.store.gate import Gates, SiteLimits
from workers.site import Terms

# Deliveries that a session has in hand or waiting for it: enough that it is never without work
# while the next claim is on its way.
DEPTH = 5
_FIRST_REST, _LONGEST_REST = 60.0, 300.0  # s
# A connection is closed when so much of its lease is over: the rest is for the way to its host, and
# for a loop that is late.
_TRUSTED = 0.9


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


@dataclass(slots=True)
class _Lease:
    """Of one connection. ``confirmed``: trio time before what the store last answered was sent."""

    confirmed: float
    close: Callable[[], object] | None = None
    lost: bool = False  # it has passed to others, or may have
    closed: bool = False  # ... and ``close`` has been told


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
        self.windows: dict[str, int] = {}  # host group -> sessions that it may have
        self._leases: dict[str, _Lease] = {}  # by connection
        self._gates = gates
        self._worker = worker
        self._find_share = find_share

    def __repr__(self) -> str:
        return f"<Berth {self.source} at {self.terms.name}: {self.held} held, {len(self.connections)} connections>"

    @property
    def connections(self) -> KeysView[str]:
        """Those that are leased."""
        return self._leases.keys()

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

    # -- leases of connections ----------------------------------------------------------------

    async def moor(self) -> str | None:
        """Lease a connection; None when there are as many as there may be."""
        connection = f"{self._worker}-{next(self._numbers)}"
        began = trio.current_time()
        if not await self._gates.take_slot(self.limits, self.source, connection, self.most):
            return None
        self._leases[connection] = _Lease(began)
        return connection

    def guard(self, connection: str, close: Callable[[], object]) -> None:
        """Say how a connection is closed when its lease has lapsed; at once, if it has by now.

        ``close`` decides what may be cut off, and never waits.
        """
        lease = self._leases[connection]
        lease.close = close
        if lease.closed:
            close()

    def has_lost(self, connection: str) -> bool:
        """Tell whether a connection's lease has passed to others, or may have: begin nothing on it."""
        return self._leases[connection].lost

    def leave(self, connection: str) -> None:
        """Give a lease back, after the connection was closed."""
        del self._leases[connection]
        self._gates.free_slot(self.limits, self.source, connection)

    async def renew(self) -> None:
        """Give a sign of life for the connections. Raises StoreUnavailable, StoreError."""
        began = trio.current_time()
        leases = dict(self._leases)
        if not leases:
            return
        lost = await self._gates.renew_slots(self.terms.name, [(self.source, c) for c in leases])
        for lease in leases.values():
            lease.confirmed = began
        for connection in lost:
            # The store can be asked again, so what is under way on it is recorded: the session ends
            # after that by itself (has_lost). Who cannot ask has ``close_lapsed``.
            leases[connection].lost = True

    def close_lapsed(self, seconds: float) -> tuple[int, float]:
        """Close connections whose leases, of ``seconds``, may be over before they are confirmed again.

        Returns how many, and the trio time when it is worth to look again; inf: there are none.
        """
        trusted = seconds * _TRUSTED
        now, count, due = trio.current_time(), 0, math.inf
        for lease in self._leases.values():
            if lease.closed:
                continue
            if (ends := lease.confirmed + trusted) > now:
                due = min(due, ends)
                continue
            lease.lost = lease.closed = True
            count += 1
            if lease.close is not None:
                lease.close()
        return count, due

    # -- rests --------------------------------------------------------------------------------

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
