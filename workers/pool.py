"""The pool of a worker process: what it holds, who brings it, who carries it.

    Pool.run
    ├── Feeder.run ...      one per pool x site with something ready: gate, claim (feeder.py)
    ├── Lane sessions ...   one task per open SMTP session (lane.py)
    ├── _place_slowly ...   deliveries whose path is not known yet: DNS must not hold up the others
    ├── Rounds.run ...      signs of life; what is due, what the dead held, who has gone (rounds.py)
    └── Sweep.run           what has waited too long (sweep.py)

What no lane carries after all ends without an attempt (unbegun.py).

Stopping has two phases: claim nothing more, give back what was not begun; then let sessions
finish what they hold, for at most the grace time.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio

from relay.config import Config
from relay.config.schema import Source
from relay.events import EventLog
from relay.model import Claim
from relay.store.gate import Gates
from relay.store.keys import (
    NOWHERE,
    SHARDS,
    SHUT,
    UNKNOWN,
    make_tag,
    read_lane,
)
from relay.store.queue import Store
from relay.store.standing import Standings, make_schedules
from relay.store.suspension import Suspensions
from workers.berth import Berth, find_rate
from workers.desk import Desk, make_egresses
from workers.ending import Ending
from workers.feeder import Feeder
from workers.held import Held
from workers.hosts import NoAddress, find_family
from workers.lane import Lane
from workers.limbo import Nowhere, Shut, Surveyor
from workers.opening import make_opener
from workers.reporter import Reporter
from workers.room import Room
from workers.rounds import Rounds
from workers.route import Path, Router, Unprotected
from workers.schedule import is_expired
from workers.signals import take_in_signals
from workers.sweep import Sweep
from workers.tls.tally import Tally
from workers.unbegun import Unbegun

_log = logging.getLogger("outgate.worker")

_LOOK_UPS = 200  # of sites, at a time
_CROWDED = 1.0  # a host group with enough in hand is left alone for this long, s
# What we know of the store's clock is a little old: what the gate lets through when a silence is over
# must not be sent back here. Nothing else is in hand by then. s
_EARLY = 0.25
_TAGS = {make_tag(shard): shard for shard in range(SHARDS)}


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
        tally: Tally | None = None,
    ) -> None:
        self.stopping = False
        self.held: dict[str, Held] = {}  # by delivery id
        self.worker = os.urandom(5).hex()
        self._settings = config.delivery
        ours = {source.name: source for source in sources}
        self.desk = Desk(
            config=config,
            store=store,
            gates=Gates(
                store.link,
                lease=config.delivery.claim,
                worker=self.worker,
                schedules=make_schedules(config),
            ),
            router=router,
            ending=Ending(config, store, events),
            opener=make_opener(config, store, router.policies, tally, events),
            events=events,
            worker=self.worker,
            sources=ours,
            egresses=make_egresses(ours.values()),
            suspensions=Suspensions(store.link),
            reporter=Reporter(
                config,
                Standings(store.link, config),
                events,
                find_rate=lambda site: find_rate(router.sites.find(site)),
            ),
            tenant_rates={t.name: t.rate.windows for t in config.tenant if t.rate},
        )
        self._lanes: dict[tuple[str, str], Lane] = {}  # by source and host group
        self._feeders: dict[tuple[str, str, str], Feeder] = {}  # by pool, pin and site
        self.berths: dict[tuple[str, str], Berth] = {}  # by source and site
        self._room = Room(config.delivery.in_flight)
        self._claims = 0
        self._look_ups = trio.Semaphore(_LOOK_UPS)
        self._rounds = Rounds(self.desk, self)
        self._unbegun = Unbegun(self.desk, self.held, self._finish)
        self._nursery: trio.Nursery | None = None  # while we work

    def __repr__(self) -> str:
        return (
            f"<Pool {' '.join(self.desk.sources)}: {len(self.held)} held, {len(self._lanes)} lanes>"
        )

    def ring(self, news: str) -> None:
        """Hear what was published.

        "lane TAG LANE", "site SITE", "again SITE" (an operator will have it tried), "closed SOURCE
        MS SITE" (it is silent there until then), "present" (somebody has come or gone),
        "suspensions", or "" (now we hear what is published).
        """
        kind, _, rest = news.partition(" ")
        if kind == "lane":
            tag, _, lane = rest.partition(" ")
            if tag in _TAGS:
                self.note(_TAGS[tag], lane)
        elif kind in ("site", "again"):
            if kind == "again":
                self._forget_rests(rest)
            for feeder in self._feeders.values():
                if feeder.site == rest:
                    feeder.ring()
        elif kind == "closed":
            source, until, site = rest.split(" ", 2)
            self.desk.close(source, site, int(until) / 1000 - _EARLY)
            self.hold_back(site, source=source)
            self.desk.reporter.watch(site, source)
        elif kind == "present":
            self._rounds.announce_now()
        else:
            self._rounds.announce_now()
            self._rounds.scan_now()

    def hold_back(self, site: str, *, source: str = "", tenant: str = "") -> None:
        """Give back what a source, or a tenant, has to be silent with at a site."""
        for lane in self._lanes.values():
            if source in ("", lane.source.name) and lane.path.site == site:
                lane.hold_back(tenant)

    def _forget_rests(self, site: str) -> None:
        for lane in self._lanes.values():
            if lane.path.site == site:
                lane.rest.forget()

    async def run(self, stop: trio.Event) -> None:
        """Work until ``stop`` is set, then finish what is held."""
        await self._rounds.announce_first()
        async with trio.open_nursery() as background:
            background.start_soon(self._rounds.run)
            background.start_soon(self.desk.watch_sources)
            background.start_soon(self.desk.reporter.run)
            background.start_soon(self.desk.shares.run)
            background.start_soon(
                take_in_signals, self.desk.store.link, self.desk.reporter, self.desk.shares
            )
            try:
                async with trio.open_nursery() as deliveries:
                    self._nursery = deliveries
                    await self._take_in(stop)
                    await self._drain(deliveries)
            finally:
                self._nursery = None
            background.cancel_scope.cancel()
        with trio.move_on_after(self._settings.grace):
            await self.desk.reporter.flush(everything=True)
            await self.desk.shares.finish()
        await self.desk.leave()

    async def _take_in(self, stop: trio.Event) -> None:
        async with trio.open_nursery() as intake:
            intake.start_soon(self._rounds.scan)
            intake.start_soon(self._rounds.promote)
            intake.start_soon(Sweep(self.desk, self).run)
            await stop.wait()
            self.stopping = True
            intake.cancel_scope.cancel()

    async def _drain(self, deliveries: trio.Nursery) -> None:
        deliveries.cancel_scope.deadline = trio.current_time() + self._settings.grace
        for feeder in self._feeders.values():
            feeder.ring()
        left = [claim for lane in self._lanes.values() for claim in lane.stop()]
        await self._unbegun.give_back_all(left)

    # -- feeders ------------------------------------------------------------------------------

    def note(self, shard: int, lane: str) -> None:
        """A lane has something ready: let its feeder know, if it is ours to feed."""
        name = read_lane(lane)
        if self._nursery is None or self.stopping or not self._serves(name.pool, name.source):
            return
        key = (name.pool, name.source, name.site)
        feeder = self._feeders.get(key)
        if feeder is None:
            feeder = self._feeders[key] = self._make_feeder(*key)
        if feeder.add((shard, lane)):
            self._spawn(self._feed, key, feeder)

    def _serves(self, pool: str, source: str) -> bool:
        members = self.desk.config.pool.get(pool, {})
        if source:
            return source in self.desk.sources and source in members
        return any(weight and name in self.desk.sources for name, weight in members.items())

    def _make_feeder(self, pool: str, pin: str, site: str) -> Feeder:
        if site == UNKNOWN:
            return Surveyor(
                pool, pin, site, desk=self.desk, hands=self,
                start=self._spawn, look_ups=self._look_ups,
            )  # fmt: skip
        kind = {NOWHERE: Nowhere, SHUT: Shut}.get(site, Feeder)
        return kind(pool, pin, site, desk=self.desk, hands=self)

    async def _feed(self, key: tuple[str, str, str], feeder: Feeder) -> None:
        await feeder.run()
        # News that came after its last look has started a task of its own, or a new feeder.
        if not feeder.places and self._feeders.get(key) is feeder:
            del self._feeders[key]

    def count_sessions(self) -> dict[str, int]:
        """Return how many SMTP sessions are open from each of our sources."""
        counts = dict.fromkeys(self.desk.sources, 0)
        for lane in self._lanes.values():
            counts[lane.source.name] += lane.connected
        return counts

    def list_feeders(self) -> list[Feeder]:
        """Return those that know of something to feed."""
        return list(self._feeders.values())

    def find_room(self, *, proven: bool) -> int:
        """Return how many deliveries more the process can hold."""
        return self._room.find(proven=proven)

    def find_berth(self, source: str, pool: str, site: str) -> Berth:
        """Return what a source has at a site."""
        berth = self.berths.get((source, site))
        if berth is None:

            def find_share() -> float:
                weights = self.desk.find_weights(pool)
                return weights.get(source, 1) / max(1, sum(weights.values()))

            berth = self.berths[source, site] = Berth(
                source,
                self.desk.router.sites.find(site),
                self.desk.gates,
                worker=self.worker,
                find_share=find_share,
            )
            self._forget_idle()
        return berth

    def _forget_idle(self) -> None:
        """Keep what is remembered of sites and host groups within bounds."""
        if len(self.berths) > 2 * self._settings.in_flight:
            self._lanes = {k: lane for k, lane in self._lanes.items() if not lane.is_idle}
            self.berths = {k: b for k, b in self.berths.items() if b.held or b.connections}

    def expect(self, count: int) -> None:
        """So many deliveries may come (negative: have come, or will not)."""
        self._room.expect(count)

    def starve(self, feeder: Feeder) -> None:
        """Ring the feeder when the process has room again."""
        self._room.starve(feeder)

    def make_token(self) -> str:
        """Return a token that was never used."""
        self._claims += 1
        return f"{self.worker}-{self._claims}"

    # -- in hand ------------------------------------------------------------------------------

    def take(self, claim: Claim, feeder: Feeder, lane: str, source: str) -> None:
        """Take a delivery in hand, and find its way."""
        # It may be one that we held before: its claim ran out, and it came back to us.
        if claim.delivery.id in self.held:
            self._finish(self.held[claim.delivery.id].claim)
        berth = self.find_berth(source, feeder.pool, feeder.site) if source else None
        if berth is not None:
            berth.held += 1
        proven = berth is not None and berth.is_proven
        self._room.take(proven=proven)
        now = trio.current_time()
        self.held[claim.delivery.id] = Held(claim, feeder, lane, berth, proven, now)
        self._place(claim, self.desk.sources.get(source))

    def _finish(self, claim: Claim) -> None:
        """A claim has ended: there is room for another."""
        held = self.held.get(claim.delivery.id)
        if held is None or held.claim is not claim:
            return
        del self.held[claim.delivery.id]
        if held.berth is not None:
            held.berth.held -= 1
        # Not the one that claimed it: that may have had nothing more, and another come after it.
        feeder = held.feeder
        feeder = self._feeders.get((feeder.pool, feeder.pin, feeder.site), feeder)
        feeder.make_room()
        self._room.leave(proven=held.proven)

    def _place(self, claim: Claim, source: Source | None) -> None:
        """Give a claim to a lane: now if the path is known, otherwise as soon as it is."""
        delivery = claim.delivery
        if self.stopping:
            self._start(self._unbegun.give_back, claim)
            return
        if is_expired(delivery.accepted, self.desk.now(), self._settings.expire):
            self._start(self._unbegun.end_expired, claim)
        elif self.desk.ending.withholds:
            self._start(self._withhold, claim, source)
        else:
            self._send_off(claim, source)

    async def _withhold(self, claim: Claim, source: Source | None) -> None:
        """Take out the recipients that are not tried any more (``delivery.suppress_after``)."""
        left = await self.desk.ending.withhold(claim)
        if left is None:
            self._finish(claim)
            return
        self.held[claim.delivery.id].claim = left
        self._send_off(left, source)

    def _send_off(self, claim: Claim, source: Source | None) -> None:
        delivery = claim.delivery
        family = find_family(source.address) if source else None
        path = self.desk.router.find_now(delivery.domain, family, delivery.envelope.tls_demand)
        if path is not None:
            self._follow(claim, source, path)
        else:
            self._start(self._place_slowly, claim, source)

    async def _place_slowly(self, claim: Claim, source: Source | None) -> None:
        family = find_family(source.address) if source else None
        delivery = claim.delivery
        found = await self.desk.router.find(delivery.domain, family, delivery.envelope.tls_demand)
        if isinstance(found, Unprotected):
            self.desk.opener.note_unfit(delivery.domain, found)
        if isinstance(found, Path):
            self._follow(claim, source, found)
        elif isinstance(found, NoAddress) and source and self._unbegun.has_family(claim, found):
            await self._unbegun.leave_to_other_family(claim, source)
        else:
            await self._unbegun.end_for_all(claim, found)

    def _follow(self, claim: Claim, source: Source | None, path: Path) -> None:
        held = self.held[claim.delivery.id]
        if source is None or held.berth is None or path.site != held.feeder.site:
            self._start(self._unbegun.move, claim, path.site)
            return
        lane = self._find_lane(source, path, held.berth)
        rest = lane.rest.left
        if rest > 0 or (path.is_shared and not lane.has_room):
            self._start(self._unbegun.pause, claim, max(rest, _CROWDED))
        else:
            lane.put(claim)

    def _find_lane(self, source: Source, path: Path, berth: Berth) -> Lane:
        lane = self._lanes.get((source.name, path.key))
        if lane is None:
            lane = self._lanes[source.name, path.key] = Lane(
                source, path, berth, desk=self.desk, spawn=self._spawn,
                done=self._finish, misplaced=self._misplace,
            )  # fmt: skip
        elif lane.path is not path:
            lane.path = path
        return lane

    def _misplace(self, claims: Sequence[Claim], wait: float) -> None:
        """What a lane cannot carry now goes back, without an attempt."""
        self._spawn(self._unbegun.give_back_all, claims, wait)

    def _start(self, role: Callable[..., Awaitable[None]], claim: Claim, *more: object) -> None:
        self._spawn(self._attend, role, claim, *more)

    def _spawn(self, role: Callable[..., Awaitable[None]], *arguments: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(role, *arguments)

    async def _attend(
        self, role: Callable[..., Awaitable[None]], claim: Claim, *more: object
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
