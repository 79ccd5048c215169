"""How much has come from one address, and whether more may: a token bucket for each rate.

Over any time t no more than ``rate * t + burst`` gets through. A rate by the hour or the day is a
sum that may be used up at any time: its burst is all of it.
"""

from dataclasses import dataclass, field

from relay.config.units import Rate, Rates


def find_burst(rate: Rate) -> int:
    """Return how many may come at once."""
    return rate.count if rate.is_cap else rate.burst


@dataclass(slots=True)
class _Bucket:
    """Tokens, as of a time."""

    tokens: float
    at: float

    def fill(self, rate: Rate, now: float) -> bool:
        """Add what time has brought; True when there is a token."""
        gained = max(0.0, now - self.at) * rate.count / rate.seconds
        self.tokens = min(float(find_burst(rate)), self.tokens + gained)
        self.at = now
        # Sums of thirds and sevenths: what is one by all reckoning must not be 0.9999999.
        return self.tokens >= 1 - 1e-9


@dataclass(slots=True)
class Buckets:
    """The buckets of one address; they are full at first."""

    _buckets: dict[int, _Bucket] = field(default_factory=dict)  # by the rate's unit

    def take(self, rates: Rates, now: float) -> bool:
        """Take one message out of all buckets, or of none: False."""
        found = [self._find(rate, now) for rate in rates.windows]
        if not all(bucket.fill(rate, now) for bucket, rate in found):
            return False
        for bucket, _ in found:
            bucket.tokens -= 1
        return True

    def _find(self, rate: Rate, now: float) -> tuple[_Bucket, Rate]:
        bucket = self._buckets.get(rate.seconds)
        if bucket is None:
            bucket = self._buckets[rate.seconds] = _Bucket(float(find_burst(rate)), now)
        return bucket, rate
