"""Rounds: what a worker process does from time to time, for itself and for those who are gone.

announce        signs of life: of us, our sources and pools
renew           ... of what we hold, and of our connections
promote         what is due becomes ready
reclaim         what dead workers held
forward         deliveries on their way between shards
scan            lanes that were not in the news, or belong to nobody who is alive

All workers do the same; each finds done what another has done. Nothing depends on one of them.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.store.keys import SHARDS, read_lane
from workers.berth import Berth
from workers.desk import ANNOUNCE, Desk
from workers.feeder import Feeder
from workers.sweep import InHand

_log = logging.getLogger("outgate.worker")

_PROMOTE = 1.0  # what others have deferred may be due before we know, s
_FORWARD = 10.0


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
        """A sign of life for what we hold."""
        while True:
            await trio.sleep(self._settings.claim / 3)
            try:
                await self._desk.store.renew([held.claim for held in self._keeper.held.values()])
                await self._renew_slots()
            except (StoreUnavailable, StoreError) as error:
                _log.warning("cannot renew claims: %s", error)

    async def _renew_slots(self) -> None:
        for (source, site), berth in list(self._keeper.berths.items()):
            if berth.connections:
                pairs = [(source, connection) for connection in berth.connections]
                berth.lost.update(await self._desk.gates.renew_slots(site, pairs))

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
