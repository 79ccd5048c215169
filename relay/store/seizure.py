"""Seizing: what operators mean, and what has waited too long, is claimed past all gates and lanes.

Each is one script, as the transitions in queue.py. A lost reply leaves what it took claimed by nobody,
and `reclaim` finds it when its lease ends.
"""

from collections.abc import Sequence
from typing import Any

from relay.config import Config
from relay.model import Claim
from relay.store.keys import find_shard, make_key, read_queue
from relay.store.lanes import Lanes
from relay.store.link import Link
from relay.store.slip import read_slip


class Seizures(Lanes):
    """Claims of a queue's deliveries, whatever gates say. ``token`` must never be used twice.

    Raises StoreUnavailable, StoreError, as the link does.
    """

    def __init__(self, link: Link, config: Config) -> None:
        super().__init__(link, tuple(config.pool))
        self._lease = int(config.delivery.claim * 1000)  # of any claim, ms

    async def seize(
        self,
        queue: str,
        *,
        token: str,
        messages: Sequence[str] = (),
        accepted_before: float | None = None,
        start: str = "-",
        limit: int = 100,
    ) -> tuple[list[Claim], str]:
        """Claim what is ready in a queue, past all gates: all, or some messages, or old ones.

        Looks at ``limit`` deliveries from ``start``; returns with the claims where to go on, "" at
        the end.
        """
        shard = find_shard(read_queue(queue).domain)
        before = "" if accepted_before is None else accepted_before
        following, *found = await self.link.run(
            "seize",
            make_key(shard, "ledger"),
            queue,
            token,
            self._lease,
            before,
            start,
            limit,
            *messages,
        )
        return _read_claims(shard, found, token), following.decode()

    async def seize_due(
        self,
        queue: str,
        *,
        token: str,
        messages: Sequence[str] = (),
        start: int = 0,
        limit: int = 100,
    ) -> tuple[list[Claim], int]:
        """Claim what is due later, as ``seize`` does; -1 at the end, else add it to ``start``."""
        shard = find_shard(read_queue(queue).domain)
        passed, *found = await self.link.run(
            "seize_due",
            make_key(shard, "ledger"),
            queue,
            token,
            self._lease,
            start,
            limit,
            *messages,
        )
        return _read_claims(shard, found, token), passed


def _read_claims(shard: int, found: Sequence[Any], token: str) -> list[Claim]:
    """Return what a script took: it says of each what `claim` says, but brings no bodies."""
    claims = []
    for _, queue, slip, previous, _ in found:
        delivery, attempts = read_slip(queue, slip)
        claims.append(Claim(delivery, shard, token, attempts, None, previous))
    return claims
