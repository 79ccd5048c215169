"""How many TLS handshakes each client address may have: token buckets, on the loop's clock.

A handshake costs us a thousand times what asking for one costs a client, and nobody needs many.
"""

from collections import OrderedDict

import trio

from relay.config.units import Rate, Rates

# Addresses that are remembered. One that is forgotten has its burst again; who has more addresses
# than this at hand has as many bursts anyway.
_REMEMBERED = 10_000


class _Bucket:
    """What one client has left of one rate."""

    __slots__ = ("_left", "_rate", "_size", "_time")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._size = self._left = float(rate.count if rate.is_cap else rate.burst)
        self._time = now

    def fill(self, now: float) -> bool:
        """Add what the time has brought; say whether there is enough for one."""
        grown = self._left + (now - self._time) * self._rate.count / self._rate.seconds
        self._left = min(self._size, grown)
        self._time = now
        return self._left >= 1

    def take(self) -> None:
        """Use one up."""
        self._left -= 1


class Handshakes:
    """Counts handshakes by client address."""

    def __init__(self, rates: Rates | None) -> None:
        """``rates``: all of them hold; None: there is no limit."""
        self._windows = rates.windows if rates is not None else ()
        self._buckets: OrderedDict[str, tuple[_Bucket, ...]] = OrderedDict()  # by last use

    def take(self, client: str) -> bool:
        """Count a handshake; False, and nothing is counted, when the client may have none now."""
        if not self._windows:
            return True
        now = trio.current_time()
        buckets = self._buckets.get(client)
        if buckets is None:
            if len(self._buckets) >= _REMEMBERED:
                self._buckets.popitem(last=False)
            buckets = tuple(_Bucket(rate, now) for rate in self._windows)
            self._buckets[client] = buckets
        else:
            self._buckets.move_to_end(client)
        if not all(bucket.fill(now) for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.take()
        return True
