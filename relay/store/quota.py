"""How many messages a tenant may hand in: over all ingress processes, on the store's clock.

A meter of its own beside the one that limits its deliveries (gate.py), by the same script.
"""

from collections.abc import Sequence

from relay.config.units import Rate
from relay.store.keys import find_shard, make_key
from relay.store.link import Link


class Quotas:
    """The meters, over one link. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def take(self, tenant: str, rates: Sequence[Rate]) -> float:
        """Count one message; return 0.0, or, when there may be no more, seconds until one may."""
        granted, wait = await self._link.run("meter", *_name(tenant, rates), 1)
        return 0.0 if granted else max(wait / 1000, 0.001)

    def give_back(self, tenant: str, rates: Sequence[Rate]) -> None:
        """Count one less: the message was not accepted after all. Nobody waits for it."""
        self._link.start("meter", *_name(tenant, rates), -1)


def _name(tenant: str, rates: Sequence[Rate]) -> tuple[str, str, str]:
    key = make_key(find_shard(tenant), "ledger")
    text = ";".join(f"{rate.count} {rate.seconds} {rate.burst}" for rate in rates)
    return key, f"messages:{tenant}", text
