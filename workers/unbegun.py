"""Ends without an attempt: claims that were taken in hand, and that no lane carries after all.

Their time is over, their path is none, or it is another one than was thought; or it is theirs, and
cannot be gone just now. Each ends its claim in the store, and only then is there room for another.
"""

from collections.abc import Callable, Mapping, Sequence

import trio

from relay.config.schema import Source
from relay.model import Claim, Outcome
from relay.store.keys import make_queue, read_lane
from workers.desk import Desk
from workers.held import Held
from workers.hosts import NoAddress, find_family

_FAMILY = 300.0  # a site without addresses of a family is asked for them again after this long, s


class Unbegun:
    """What a pool does with them. ``held``: by delivery id; ``done`` is called when one has ended."""

    def __init__(self, desk: Desk, held: Mapping[str, Held], done: Callable[[Claim], None]) -> None:
        self._desk = desk
        self._held = held
        self._done = done

    async def end_expired(self, claim: Claim) -> None:
        """Its time was up while it waited: what its last attempt brought is final."""
        await self._desk.ending.end_expired(claim)
        self._done(claim)

    async def end_for_all(self, claim: Claim, outcome: Outcome) -> None:
        """There is no path, and that is the answer for every recipient."""
        count = len(claim.delivery.envelope.recipients)
        await self._desk.ending.end(claim, [outcome] * count)
        self._done(claim)

    async def give_back(self, claim: Claim, wait: float = 0.0) -> None:
        """It was not begun: others can have it, at once or when something has changed."""
        await self._desk.ending.give_back(claim, wait=wait)
        self._done(claim)

    async def give_back_all(self, claims: Sequence[Claim], wait: float = 0.0) -> None:
        """Claims that were not begun: others can have them at once. Bounded in time.

        What cannot be given back, and what is cut off when the grace time ends, ``reclaim`` finds
        when its claim ends: only there is it known which attempts were open.
        """
        with trio.move_on_after(self._desk.config.delivery.grace):
            async with trio.open_nursery() as nursery:
                for claim in claims:
                    nursery.start_soon(self.give_back, claim, wait)

    async def move(self, claim: Claim, site: str) -> None:
        """Its domain's mail goes to another site than was thought."""
        held = self._held[claim.delivery.id]
        await self.give_back(claim)
        await self._desk.store.assign(claim.shard, _find_queue(held), held.lane, site)

    async def pause(self, claim: Claim, wait: float) -> None:
        """Its host group rests, or has enough in hand; others of the site go on."""
        held = self._held[claim.delivery.id]
        await self.give_back(claim, wait)
        if claim.delivery.envelope.tls_demand:
            return  # what it demands, or does without, the rest of its queue does not
        await self._desk.store.pause(claim.shard, _find_queue(held), held.lane, wait)

    def has_family(self, claim: Claim, found: NoAddress) -> bool:
        """Tell whether some source of the pool that is alive could reach the host."""
        sources = {source.name: source for source in self._desk.config.source}
        return any(
            find_family(sources[name].address) is found.family
            for name in self._desk.find_weights(claim.delivery.pool)
            if name in sources
        )

    async def leave_to_other_family(self, claim: Claim, source: Source) -> None:
        """The host has no address that this source reaches: those that can have it to themselves."""
        held = self._held[claim.delivery.id]
        self._desk.exclude(held.feeder.site, find_family(source.address), _FAMILY)
        pinned = bool(read_lane(held.lane).source)
        await self._desk.ending.give_back(claim, source="" if pinned else None)
        self._done(claim)


def _find_queue(held: Held) -> str:
    delivery = held.claim.delivery
    return make_queue(
        delivery.tenant, delivery.domain, delivery.priority, read_lane(held.lane).source
    )
