"""Rounds: what a worker process does from time to time, for itself and for those who are gone.

announce        signs of life: of us, our sources and pools
renew           ... of what we hold, and of our connections
close_lapsed    those whose leases the store does not confirm (berth.py)
promote         what is due becomes ready
reclaim         what dead workers held
forward         deliveries on their way between shards
scan            lanes that were not in the news, or belong to nobody who is alive

All workers do the same; each finds done what another has done. Nothing depends on one of them.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.model import Claim
from relay.store.keys import SHARDS, read_lane
from workers.berth import Berth
from workers.desk import ANNOUNCE, Desk
from workers.feeder import Feeder
from workers.sweep import InHand

_log = logging.getLogger("outgate.worker")

_PROMOTE = 1.0  # what others have deferred may be due before we know, s
_FORWARD = 10.0
# A sign of life that was not answered is given again after this long: leases should not end because
# the store was back between two rounds. s
_RENEW_AGAIN = 1.0


class Keeper(Protocol):
    """What the rounds look at: the pool of the process."""

    berths: dict[tuple[str, str], Berth]

    @property
    def held(self) -> Mapping[str, InHand]:
        """What is in hand, by delivery id."""

    def note(self, shard: int, lane: str) -> None:
        """A lane has something ready."""

    def list_feeders(self) -> list[Feeder]:
        """Return those that know of something to feed."""


class Rounds:
    """Of one worker process."""

    def __init__(self, desk: Desk, keeper: Keeper) -> None:
        self._desk = desk
        self._keeper = keeper
        self._settings = desk.config.delivery
        self._announce_bell = trio.Event()
        self._scan_bell = trio.Event()

    def announce_now(self) -> None:
        """Somebody has come or gone."""
        self._announce_bell.set()

    def scan_now(self) -> None:
        """News may have been missed."""
        self._scan_bell.set()

    async def run(self) -> None:
        """Do the rounds that go on while we finish; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce)
            nursery.start_soon(self._renew)
            nursery.start_soon(self._close_lapsed)
            nursery.start_soon(self._every, self._settings.claim / 2, self._reclaim)
            nursery.start_soon(self._every, _FORWARD, self._forward)

    async def announce_first(self) -> None:
        """See which sources can be used, say that we are here, and see who else is."""
        try:
            for source in self._desk.sources.values():
                await self._desk.try_source(source)
            await self._desk.announce()
            await self._desk.read_suspensions()
            await self._desk.store.tell(
                "present"
            )  # those who are here should not find out by and by
        except (StoreUnavailable, StoreError) as error:
            _log.warning("%s; trying again", error)

    async def _announce(self) -> None:
        while True:
            self._announce_bell = trio.Event()
            with trio.move_on_after(ANNOUNCE):
                await self._announce_bell.wait()
            try:
                await self._desk.announce()
                await self._desk.read_suspensions()
            except (StoreUnavailable, StoreError) as error:
                _log.warning("%s; trying again", error)

    async def _renew(self) -> None:
        """A sign of life for what we hold, and for our connections."""
        pause = self._settings.claim / 3
        wait = pause
        while True:
            await trio.sleep(wait)
            troubles = await _try_all(self._list_renewals())
            for trouble in troubles[:1]:  # mostly the same one for all
                _log.warning("cannot renew claims and leases: %s", trouble)
            wait = min(pause, _RENEW_AGAIN) if troubles else pause

    def _list_renewals(self) -> list[Callable[[], Awaitable[None]]]:
        """Return what there is to renew, shard by shard and site by site.

        They travel together. Each is a call of its own: in a Cluster one master may be away, and what
        the others have must not lapse for it.
        """
        shards: dict[int, list[Claim]] = {}
        for held in self._keeper.held.values():
            shards.setdefault(held.claim.shard, []).append(held.claim)
        berths = [berth for berth in self._keeper.berths.values() if berth.connections]
        return [
            *(partial(self._desk.store.renew, claims) for claims in shards.values()),
            *(berth.renew for berth in berths),
        ]

    async def _close_lapsed(self) -> None:
        """Close connections that others may have instead: the store has not heard of us for too long.

        A task of its own: renewing may hang with the store for just as long.
        """
        lease = self._settings.claim
        while True:
            berths = list(self._keeper.berths.values())
            found = [berth.close_lapsed(lease) for berth in berths]
            for berth, (count, _) in zip(berths, found, strict=True):
                if count:
                    _log.warning(
                        "%s at %s: %d leases of connections were not confirmed in time; what can be "
                        "closed is closed",
                        berth.source, berth.terms.name, count,
                    )  # fmt: skip
            due = min((due for _, due in found), default=math.inf)
            # Those that are opened meanwhile have longer than that.
            await trio.sleep_until(min(due, trio.current_time() + lease / 4))

    async def promote(self) -> None:
        """Let what is due go, when it is. Until cancelled."""
        while True:
            try:
                wait = await self._desk.store.promote_all()
            except (StoreUnavailable, StoreError) as error:
                _log.warning("%s; trying again", error)
                wait = _PROMOTE
            await trio.sleep(min(wait, _PROMOTE))

    async def scan(self) -> None:
        """Look through all lanes: at the start, when news may have been missed, and now and then.

        Until cancelled.
        """
        while True:
            self._scan_bell = trio.Event()
            try:
                await self._desk.read_suspensions()
                for shard in range(SHARDS):
                    for lane in await self._desk.store.list_lanes(shard):
                        self._keeper.note(shard, lane)
                        await self._take_over(shard, lane)
                for feeder in self._keeper.list_feeders():
                    feeder.ring()
            except (StoreUnavailable, StoreError) as error:
                _log.warning("%s; trying again", error)
                await trio.sleep(1)
                continue
            with trio.move_on_after(self._settings.claim / 2):
                await self._scan_bell.wait()

    async def _take_over(self, shard: int, lane: str) -> None:
        """A lane that nobody alive serves: its source is gone, or its pool from the configuration.

        A pool that is unknown here may be served elsewhere, while a new configuration is rolled
        out; then somebody announces it.
        """
        name = read_lane(lane)
        if name.source and not self._desk.is_served(name.pool, name.source):
            await self._desk.store.unpin(shard, lane)
        elif name.pool not in self._desk.config.pool and not self._desk.is_served(name.pool):
            pools = self._desk.config.pool
            pool = next(
                (t.pool for t in self._desk.config.tenant if t.name == name.tenant),
                next(iter(pools)),
            )
            if await self._desk.store.adopt(shard, lane, pool):
                _log.warning("lane %s: its pool is served by nobody, %s takes it", lane, pool)

    async def _every(self, seconds: float, role: Callable[[int], Awaitable[None]]) -> None:
        """Do a role's round for all shards, from time to time."""
        while True:
            try:
                for shard in range(SHARDS):
                    await role(shard)
            except (StoreUnavailable, StoreError) as error:
                _log.warning("%s; trying again", error)
            await trio.sleep(seconds)

    async def _reclaim(self, shard: int) -> None:
        for event in await self._desk.store.reclaim(shard):
            self._desk.events.write(event)

    async def _forward(self, shard: int) -> None:
        for delivery in await self._desk.store.read_outbox(shard):
            await self._desk.store.forward(delivery)


async def _try_all(roles: Iterable[Callable[[], Awaitable[None]]]) -> list[str]:
    """Do all of it at the same time; return what the store had against it."""
    troubles: list[str] = []

    async def try_one(role: Callable[[], Awaitable[None]]) -> None:
        try:
            await role()
        except (StoreUnavailable, StoreError) as error:
            troubles.append(str(error))

    async with trio.open_nursery() as nursery:
        for role in roles:
            nursery.start_soon(try_one, role)
    return troubles
