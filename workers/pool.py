"""The pool of a worker process: claims what may go, finds source and path, fills the lanes.

    Pool.run
    ├── _claim_from ...     one per shard: claim, place, sleep until there may be more
    ├── Lane sessions ...   one task per open SMTP session
    ├── _place_slowly ...   deliveries whose path is not known yet: DNS must not hold up the others
    ├── _renew              a sign of life for everything held
    ├── _reclaim            what dead workers held
    ├── _forward            deliveries on their way between shards
    └── _adopt              queues whose pool has gone from the configuration

Stopping has two phases: claim nothing more, give back what was not begun; then let sessions
finish what they hold, for at most the grace time.
"""

import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable

import trio

from relay.config import Config
from relay.config.schema import Source
from relay.errors import SourceUnusable, StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.model import Claim, Outcome
from relay.store.keys import SHARDS, make_tag
from relay.store.queue import Store
from workers.choice import Choice
from workers.ending import Ending
from workers.lane import Lane
from workers.route import Path, Router, find_family
from workers.schedule import is_expired

_log = logging.getLogger("outgate.worker")

_MOST = 100  # deliveries of one claim
_OCTETS = 4 << 20  # bodies of one claim
_INLINE = 32 * 1024  # bodies up to this size come with the claim; Lua copies them twice
_HELD_OCTETS = 128 << 20  # above this, claims come without bodies
# A claim that brought little was too early: a pause lets more gather, and costs this much delay.
_PAUSE = 0.010
# Wake-ups can be missed (they are published to whoever listens, once): look anyway, s.
_LOOK = 5.0
_FORWARD = 10.0
_ADOPT = 30.0
_NO_SOURCE = 15.0  # while no source is to be had, look again after this long


class Pool:
    """One worker process' share of the work, for some sources."""

    def __init__(
        self,
        config: Config,
        *,
        sources: Iterable[Source],
        store: Store,
        router: Router,
        events: EventLog,
    ) -> None:
        self._config = config
        self._settings = config.delivery
        self._store = store
        self._router = router
        self._events = events
        self._ending = Ending(config, store, events)
        self._choice = Choice(config, sources)
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._held: dict[str, Claim] = {}  # by delivery id
        self._held_octets = 0
        self._asked = 0  # deliveries that claims under way may bring
        self._room = trio.lowlevel.ParkingLot()
        self._bells: dict[tuple[int, str], trio.Event] = {}  # by shard and pool
        self._worker = os.urandom(5).hex()
        self._claims = 0
        self._stopping = False
        self._nursery: trio.Nursery

    def __repr__(self) -> str:
        return f"<Pool {' '.join(self._choice.sources)}: {len(self._held)} held, {len(self._lanes)} lanes>"

    def ring(self, tag: str) -> None:
        """Something may go in the shard with this hash tag (in any, for ""): look now."""
        for (shard, _), bell in self._bells.items():
            if not tag or tag == make_tag(shard):
                bell.set()

    async def run(self, stop: trio.Event) -> None:
        """Work until ``stop`` is set, then finish what is held."""
        async with trio.open_nursery() as background:
            background.start_soon(self._renew)
            background.start_soon(self._every, self._settings.claim / 2, self._reclaim)
            background.start_soon(self._every, _FORWARD, self._forward)
            background.start_soon(self._every, _ADOPT, self._adopt)
            async with trio.open_nursery() as deliveries:
                self._nursery = deliveries
                async with trio.open_nursery() as intake:
                    for shard in range(SHARDS):
                        for pool in self._choice.pools:
                            intake.start_soon(self._claim_from, shard, pool)
                    await stop.wait()
                    self._stopping = True
                    intake.cancel_scope.cancel()
                await self._drain(deliveries)
            background.cancel_scope.cancel()

    async def _drain(self, deliveries: trio.Nursery) -> None:
        deliveries.cancel_scope.deadline = trio.current_time() + self._settings.grace
        left = [claim for lane in self._lanes.values() for claim in lane.stop()]
        await self._give_back(left)

    async def _give_back(self, claims: list[Claim]) -> None:
        """Claims that were not begun: others can have them at once. Bounded in time.

        What cannot be given back, and what is cut off when the grace time ends, ``reclaim`` finds
        when its claim ends: only there is it known which attempts were open.
        """
        with trio.move_on_after(self._settings.grace):
            async with trio.open_nursery() as nursery:
                for claim in claims:
                    nursery.start_soon(self._ending.give_back, claim)
                    self._finish(claim)

    # -- claiming -----------------------------------------------------------------------------

    async def _claim_from(self, shard: int, pool: str) -> None:
        while True:
            # Before the look: a ring during the look must not be forgotten.
            bell = self._bells[shard, pool] = trio.Event()
            try:
                found, wait = await self._look(shard, pool)
            except (StoreUnavailable, StoreError) as error:
                _log.warning("%s; trying again", error)
                await trio.sleep(1)
                continue
            if found >= _MOST // 2:
                continue
            if found:
                await trio.sleep(_PAUSE)
                continue
            with trio.move_on_after(min(max(wait, _PAUSE), _LOOK)):
                await bell.wait()
                await trio.sleep(_PAUSE)

    async def _look(self, shard: int, pool: str) -> tuple[int, float]:
        """Claim once and place; return how many there were, and when to look again (s)."""
        if not self._choice.can_send(pool):
            return 0, 1.0
        while (room := self._settings.in_flight - len(self._held) - self._asked) <= 0:
            await self._room.park()
        most = min(_MOST, room)
        self._asked += most
        self._claims += 1
        try:
            # Shielded: what a claim has brought must be known, or it lies idle until its lease
            # ends. The link's patience is bounded.
            with trio.CancelScope(shield=True):
                claimed = await self._store.claim(
                    shard,
                    pool,
                    token=f"{self._worker}-{self._claims}",
                    most=most,
                    octets=_OCTETS,
                    inline=_INLINE if self._held_octets < _HELD_OCTETS else 0,
                )
        finally:
            self._asked -= most
            if self._room:
                self._room.unpark_all()  # less came than was asked for: there is room again
        for claim in claimed.claims:
            # It may be one that we held before: its claim ran out, and it came back to us.
            before = self._held.get(claim.delivery.id)
            self._held_octets += len(claim.body or b"") - len(before.body or b"" if before else b"")
            self._held[claim.delivery.id] = claim
            self._place(claim, pool)
        return len(claimed.claims), math.inf if claimed.wait is None else claimed.wait

    def _finish(self, claim: Claim) -> None:
        """A claim has ended: there is room for another."""
        if self._held.get(claim.delivery.id) is claim:
            del self._held[claim.delivery.id]
            self._held_octets -= len(claim.body or b"")
        if self._room:
            self._room.unpark()

    # -- placing ------------------------------------------------------------------------------

    def _place(self, claim: Claim, pool: str) -> None:
        """Give a claim to a lane: now if the path is known, otherwise as soon as it is."""
        if self._stopping:
            self._start(self._return, claim)
            return
        if is_expired(claim.delivery.accepted, time.time(), self._settings.expire):
            self._start(self._end_expired, claim)
            return
        source = self._choice.choose(claim, pool)
        if source is None:
            # Our own trouble is no attempt: the message waits, and its retries do not grow.
            self._start(self._wait_for_source, claim)
            return
        path = self._router.find_now(claim.delivery.domain, find_family(source.address))
        if path is not None:
            self._find_lane(source, path).put(claim)
        else:
            self._start(self._place_slowly, claim, source)

    async def _place_slowly(self, claim: Claim, source: Source) -> None:
        path = await self._router.find(claim.delivery.domain, find_family(source.address))
        if not isinstance(path, Path):
            await self._end_for_all(claim, path)
        elif self._stopping:
            await self._return(claim)
        else:
            self._find_lane(source, path).put(claim)

    def _start(self, role: Callable[..., Awaitable[None]], claim: Claim, *more: Source) -> None:
        self._nursery.start_soon(self._attend, role, claim, *more)

    async def _attend(
        self, role: Callable[..., Awaitable[None]], claim: Claim, *more: Source
    ) -> None:
        """Do something about one claim.

        A fault of ours there must not stop all the others, now and again after each restart.
        Left alone, the claim ends with its lease, and ``reclaim`` puts the delivery back.
        """
        try:
            await role(claim, *more)
        except Exception:
            _log.exception("%s: left alone until its claim ends", claim.delivery.id)
            self._finish(claim)

    def _find_lane(self, source: Source, path: Path) -> Lane:
        lane = self._lanes.get((source.name, path.key))
        if lane is None or lane.path is not path:
            lane = self._renew_lane(source, path)
        return lane

    def _renew_lane(self, source: Source, path: Path) -> Lane:
        """Make a lane, or let an old one know the path's present hosts."""
        key = (source.name, path.key)
        lane = self._lanes.get(key)
        if lane is not None:
            lane.path = path
            return lane
        if len(self._lanes) >= 2 * self._settings.in_flight:
            self._lanes = {k: lane for k, lane in self._lanes.items() if not lane.is_idle}
        lane = self._lanes[key] = Lane(
            source,
            path,
            settings=self._settings,
            store=self._store,
            ending=self._ending,
            nursery=self._nursery,
            done=self._finish,
            misplaced=self._replace,
        )
        return lane

    def _replace(self, source: Source, claims: list[Claim], error: SourceUnusable) -> None:
        """A source's address is not on this machine (any more): rest it, move its work."""
        rest = self._choice.rest(source)
        if rest is not None:
            _log.error("source %s: %s; resting it for %d s", source.name, error, rest)
            event = {
                "time": time.time(),
                "event": "suspended",
                "source": source.name,
                "text": str(error),
                "wait": rest,
            }
            self._events.write(encode_event(event))
        for claim in claims:
            self._place(claim, claim.delivery.pool)

    # -- ends without an attempt -----------------------------------------------------------------

    async def _end_expired(self, claim: Claim) -> None:
        await self._ending.end_expired(claim)
        self._finish(claim)

    async def _end_for_all(self, claim: Claim, outcome: Outcome) -> None:
        count = len(claim.delivery.envelope.recipients)
        await self._ending.end(claim, [outcome] * count, host_failed=True)
        self._finish(claim)

    async def _wait_for_source(self, claim: Claim) -> None:
        await self._ending.give_back(claim, wait=_NO_SOURCE)
        self._finish(claim)

    async def _return(self, claim: Claim) -> None:
        """It came when we were about to stop: others can have it at once."""
        await self._ending.give_back(claim)
        self._finish(claim)

    # -- background ---------------------------------------------------------------------------

    async def _renew(self) -> None:
        while True:
            await trio.sleep(self._settings.claim / 3)
            try:
                await self._store.renew(list(self._held.values()))
            except (StoreUnavailable, StoreError) as error:
                _log.warning("cannot renew claims: %s", error)

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
        for event in await self._store.reclaim(shard):
            self._events.write(event)

    async def _forward(self, shard: int) -> None:
        for delivery in await self._store.read_outbox(shard):
            await self._store.forward(delivery)

    async def _adopt(self, shard: int) -> None:
        for queue, pool in await self._store.adopt(shard):
            _log.warning("queue %s: its pool is not configured any more, %s takes it", queue, pool)
