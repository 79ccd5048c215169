"""How many messages a tenant may hand in: over all ingress processes, on the store's clock.

A meter of its own beside the one that limits its deliveries (gate.py), by the same script. A process
takes a hundredth of what a rate allows at a time, so that large ones do not cost a round trip for
each message: so much of it others may find taken, and not used, at worst.
"""

from collections import Counter
from collections.abc import Sequence

from relay.config.units import Rate
from relay.store.keys import find_shard, make_key
from relay.store.link import Link

_SHARE = 100
_MOST = 64  # at a time, whatever a hundredth is


class Quotas:
    """The meters, over one link. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._left: Counter[str] = Counter()  # of what was taken, by tenant
        self._rates: dict[str, Sequence[Rate]] = {}

    async def take(self, tenant: str, rates: Sequence[Rate]) -> float:
        """Count one message; return 0.0, or, when there may be no more, seconds until one may."""
        if self._left[tenant] > 0:
            self._left[tenant] -= 1
            return 0.0
        self._rates[tenant] = rates
        wanted = _find_share(rates)
        granted, wait = await self._link.run("meter", *_name(tenant, rates), wanted)
        if not granted:
            return max(float(wait) / 1000, 0.001)
        self._left[tenant] += granted - 1
        return 0.0

    def give_back(self, tenant: str, rates: Sequence[Rate]) -> None:
        """Count one less: the message was not accepted after all. Nobody waits for it."""
        if _find_share(rates) > 1:
            self._left[tenant] += 1  # the next one of ours has it
        else:
            self._link.start("meter", *_name(tenant, rates), -1)

    def close(self) -> None:
        """Give back what was taken and not used. Nobody waits for it."""
        for tenant, left in self._left.items():
            if left > 0:
                self._link.start("meter", *_name(tenant, self._rates[tenant]), -left)
        self._left.clear()


def _find_share(rates: Sequence[Rate]) -> int:
    return max(1, min(_MOST, min(rate.count for rate in rates) // _SHARE))


def _name(tenant: str, rates: Sequence[Rate]) -> tuple[str, str, str]:
    key = make_key(find_shard(tenant), "ledger")
    text = ";".join(f"{rate.count} {rate.seconds} {rate.burst}" for rate in rates)
    return key, f"messages:{tenant}", text
