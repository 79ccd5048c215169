"""Feeders: what one pool may send to one site, from the lanes' queues into the hands of sources.

A feeder knows the lanes of its site that have something ready. It asks the gate how much each of its
sources may take now, claims that from the lanes in fair turns, and gives back what it did not
find. When the gate says no, it sleeps until the time that the gate named, or until it is rung.

Fair turns: between tenants, and between priorities, by a stride schedule as the gate's; a million
of one tenant's bulk mail does not keep another's three messages. Each process does so for itself,
and all of them together are as fair as each.
"""

import heapq
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.events import encode_event
from relay.model import Claim
from relay.store.gate import Reserved, Want
from relay.store.keys import read_lane
from workers.berth import Berth, make_limits
from workers.desk import Desk

_log = logging.getLogger("outgate.worker")

Place = tuple[int, str]  # shard and lane

MOST = 100  # deliveries of one claim
_BATCH = 4  # of so many in hand, one part must have ended before more is claimed
_OCTETS = 4 << 20  # bodies of one claim
_INLINE = 32 * 1024  # bodies up to this size come with the claim; Lua copies them twice
# A claim at the first word of news would bring one message: a pause lets more gather, s.
PAUSE = 0.010
# News can be missed (it is published once, to whoever listens): look anyway, s.
LOOK = 30.0
_FRESH = 20  # deliveries that a lane in the news may hold, if nobody else has a right to some
_RECOUNTED = 32  # lanes; with more there is so much that the count does not matter
_TURN = 0.4  # who has a turn takes it within this time, if it has any room, s
TROUBLE = 1.0  # after the store did not answer, s
# Virtual time that a delivery costs is 1 over this.
_WEIGHTS = {"urgent": 16, "normal": 4, "bulk": 1}
_CREDIT = 10.0  # virtual time that a group may be behind the one that had the most
_ROUNDS = 2
# Words of the gate for a source that sends nothing for longer than a pinned delivery should wait.
CLOSED = frozenset({"rest", "quarantine", "all quarantined", "probe", "warm-up"})
_PATIENCE = 60.0  # s; or that sends so slowly that it would have to


class Hands(Protocol):
    """Who takes what a feeder brings: the pool of the process."""

    stopping: bool

    def find_room(self, *, proven: bool) -> int:
        """Return how many deliveries more the process can hold."""

    def starve(self, feeder: "Feeder") -> None:
        """Ring the feeder when the process has room again."""

    def find_berth(self, source: str, pool: str, site: str) -> Berth:
        """Return what a source has at a site."""

    def take(self, claim: Claim, feeder: "Feeder", lane: str, source: str) -> None:
        """Take a delivery in hand, for a source ("" for none)."""

    def hold_back(self, site: str, *, tenant: str) -> None:
        """A site will not have a tenant's mail: give back what has not been begun."""

    def expect(self, count: int) -> None:
        """So many deliveries may come (negative: have come, or will not)."""

    def make_token(self) -> str:
        """Return a token that was never used."""


class Feeder:
    """One pool (or one source of it, for what is pinned) and one site, in this process."""

    def __init__(self, pool: str, pin: str, site: str, *, desk: Desk, hands: Hands) -> None:
        self.pool = pool
        self.pin = pin
        self.site = site
        self.why = ""  # what it waits for: "suspended", or the gate's word
        self._desk = desk
        self._hands = hands
        self._lanes: dict[Place, int] = {}  # how often they were in the news
        self._left: dict[Place, int] = {}  # deliveries, about; of lanes that we have claimed from
        self._times: dict[tuple[str, str], float] = {}  # virtual, by tenant and priority
        self._last: dict[Place, int] = {}  # when a lane had its turn, counted
        self._used_up: dict[str, float] = {}  # tenant whose rate is -> until when, trio time
        self._put_off: dict[str, float] = {}  # tenant that the site will not have -> until when
        self._turn = 0
        self._running = False
        self._waits_for_room = False
        self._asked = -math.inf  # trio time
        self._bell = trio.Event()

    def __repr__(self) -> str:
        return (
            f"<Feeder {self.key} -> {self.site}: {len(self._lanes)} lanes, {self.why or 'at work'}>"
        )

    @property
    def key(self) -> str:
        """The pool as the store names it, with the source for what is pinned."""
        return f"{self.pool}@{self.pin}" if self.pin else self.pool

    @property
    def places(self) -> list[Place]:
        """The lanes that have something ready, as far as we know."""
        return list(self._lanes)

    def add(self, place: Place) -> bool:
        """Hear that a lane has something ready; True when ``run`` is to be started."""
        self._lanes[place] = self._lanes.get(place, 0) + 1
        self.ring()
        was_running, self._running = self._running, True
        return not was_running

    def ring(self) -> None:
        """Look again: something has changed."""
        self._bell.set()

    def make_room(self) -> None:
        """One delivery fewer is in hand."""
        if self._waits_for_room:
            self._bell.set()

    async def run(self) -> None:
        """Feed until there is nothing left to feed."""
        await trio.sleep(PAUSE)
        while self._lanes and not self._hands.stopping:
            self._bell = trio.Event()  # before the look: what rings during it counts
            self._waits_for_room = False
            try:
                wait = await self._feed()
            except (StoreUnavailable, StoreError) as error:
                _log.warning("%s; trying again", error)
                wait = TROUBLE
            except Exception:
                # A fault of ours, with one site, must not stop the others.
                _log.exception("site %s: trying again", self.site)
                wait = TROUBLE
            if wait > 0:
                with trio.move_on_after(min(wait, LOOK)):
                    await self._bell.wait()
        self._times.clear()
        self._running = False

    # -- asking -------------------------------------------------------------------------------

    async def _feed(self) -> float:
        """Bring what may go now; return the seconds to wait before the next look."""
        berths = self._find_berths()
        if not berths:
            self.why = "suspended"
            return await self._let_go()
        hold = self._find_hold()
        if hold is not None:
            return hold
        proven = any(berth.is_proven for berth in berths)
        room = min(MOST, self._hands.find_room(proven=proven))
        wants = [
            Want(berth.source, min(berth.room, room), len(berth.connections), berth.most)
            for berth in berths
        ]
        # Not for each one that has ended: a claim costs the same for one as for ten.
        enough = max(1, sum(berth.held for berth in berths) // _BATCH)
        free = min(room, sum(want.room for want in wants))
        if not free or (free < enough and not self._is_overdue()):
            self.why, self._waits_for_room = "", True
            if room <= 0:
                self._hands.starve(self)
            return _TURN if free else LOOK
        return await self._reserve(berths, wants, room)

    def _find_hold(self) -> float | None:
        """Return the seconds until a tenant with mail here may send again; None: one may now.

        To ask the gate for what no tenant may use would be asked again at once, and rings others.
        """
        waits = []
        for tenant in {read_lane(lane).tenant for _, lane in self._lanes}:
            left = self._used_up.get(tenant, -math.inf) - trio.current_time()
            if self._desk.is_suspended(tenant=tenant, site=self.site):
                self.why, end = self._desk.find_why(tenant), self._desk.find_end()
                waits.append(LOOK if end is None else max(0.0, end) + PAUSE)
            elif left > 0:
                self.why = "tenant rate"
                waits.append(left)
            elif self._is_put_off(tenant):
                self.why = "tenant put off"
                waits.append(self._put_off[tenant] - trio.current_time())
            else:
                return None
        return min(waits, default=None)

    def _is_overdue(self) -> bool:
        """A slow source takes its turns one by one, or it would be passed over (gate.reserve)."""
        return trio.current_time() - self._asked > _TURN

    async def _reserve(self, berths: Sequence[Berth], wants: Sequence[Want], room: int) -> float:
        weights = self._find_weights()
        limits = make_limits(self._desk.router.sites.find(self.site))
        alone = weights.keys() <= {want.source for want in wants}
        if not alone:
            await self._recount()
        backlog = self._find_backlog(fresh=_FRESH if alone else 1)
        most = min(room, backlog)
        self._asked = trio.current_time()
        self._hands.expect(most)
        try:
            reserved = await self._desk.gates.reserve(
                limits, self.key, backlog, wants, weights, most=most
            )
            granted = {grant.source: grant.count for grant in reserved.grants if grant.count}
            for berth, grant in zip(berths, reserved.grants, strict=True):
                berth.failures = grant.failures
            self._hear(reserved, granted)
            if granted:
                await self._bring(granted)
        finally:
            self._hands.expect(-most)
        unused = {name: count for name, count in granted.items() if count}
        if unused or (granted and not alone):
            self._desk.gates.refund(limits, self.key, unused, weights)
        if granted:
            return self._find_pause()
        if self.pin and is_too_long(reserved, backlog):
            return await self._let_go()
        if reserved.why == "turn":
            # It may be the turn of one of ours that has no room: then something has to end here, and
            # nobody else would wake us. Not for each one that ends.
            self._waits_for_room = True
            await trio.sleep(PAUSE)
        return LOOK if reserved.wait is None else reserved.wait

    def _hear(self, reserved: Reserved, granted: dict[str, int]) -> None:
        """Take in what the gate said of others than our sources."""
        now = trio.current_time()
        known = self._put_off
        self._put_off = {tenant: now + wait for tenant, wait in reserved.put_off.items()}
        for tenant in self._put_off.keys() - known.keys():
            self._hands.hold_back(self.site, tenant=tenant)
        if reserved.why in CLOSED or reserved.why == "throttled":
            for source in {one.source for one in reserved.grants if not one.count}:
                self._desk.reporter.watch(self.site, source)
        before, self.why = self.why, "" if granted else reserved.why
        if self.why == "all quarantined" != before and not self.pin:
            event = {"time": time.time(), "event": "all-quarantined", "site": self.site}
            text = (
                f"no source of pool {self.pool} may send: its mail waits until one has been probed"
            )
            self._desk.events.write(encode_event(event | {"pool": self.pool, "text": text}))

    def _is_put_off(self, tenant: str) -> bool:
        return self._put_off.get(tenant, -math.inf) > trio.current_time()

    def _find_berths(self) -> list[Berth]:
        """Return what our sources have here, of those that may send."""
        if self._desk.is_suspended(site=self.site):
            return []
        names = [self.pin] if self.pin else self._desk.list_ours(self.pool)
        return [
            self._hands.find_berth(name, self.pool, self.site)
            for name in names
            if self._may_send(name)
        ]

    def _may_send(self, source: str) -> bool:
        return (
            self._desk.is_usable(source)
            and self._desk.reaches(source, self.site)
            and not self._desk.is_suspended(site=self.site, source=source)
        )

    def _find_weights(self) -> dict[str, int]:
        """Return the weights of those among whom turns are dealt out."""
        everybody = self._desk.find_weights(self.pool)
        if self.pin:
            return {self.pin: everybody.get(self.pin, 1)}
        return {
            name: weight
            for name, weight in everybody.items()
            if self._desk.reaches(name, self.site)
            and not self._desk.is_suspended(site=self.site, source=name)
        }

    async def _recount(self) -> None:
        """See what is left now: since we last looked, others have claimed from the same lanes.

        Turns that are dealt out for what is gone would be others'.
        """
        places = self.places[:_RECOUNTED]
        for place, count in zip(places, await self._desk.store.count_ready(places), strict=True):
            if place in self._lanes:
                self._left[place] = count

    def _find_backlog(self, *, fresh: int) -> int:
        """Return how many deliveries are in sight; ``fresh``: in a lane that we know nothing of."""
        return sum(self._left.get(place, fresh) or fresh for place in self._lanes)

    def _find_pause(self) -> float:
        """Return 0 while there is more to claim; else let something gather."""
        return 0.0 if any(self._left.get(place, 1) for place in self._lanes) else PAUSE

    async def _let_go(self) -> float:
        """Nobody of ours may send: what is pinned to such a source is for anybody then."""
        if self.pin:
            for shard, lane in self.places:
                await self._desk.store.unpin(shard, lane)
                self._lanes.pop((shard, lane), None)
        end = self._desk.find_end()
        return LOOK if end is None else max(0.0, end) + PAUSE

    # -- claiming -----------------------------------------------------------------------------

    async def _bring(self, granted: dict[str, int]) -> None:
        """Claim from the lanes, in turns; ``granted`` is left with what was not used."""
        for _ in range(_ROUNDS):  # the second for what the first's shares left over
            for place, share in self._deal(sum(granted.values())).items():
                if total := sum(granted.values()):
                    await self._claim_from(place, granted, min(share, total))
            if not any(granted.values()):
                return

    def _deal(self, total: int) -> dict[Place, int]:
        """Deal turns out, one by one, to whoever had the least; lanes of one group take them in turn.

        By group, not by lane: a tenant's lanes are as many as its domains' shards.
        """
        places: dict[tuple[str, str], deque[Place]] = {}
        for place in self._order():
            places.setdefault(self._find_group(place), deque()).append(place)
        heap = [(self._times[group] + _find_cost(group), group) for group in places]
        heapq.heapify(heap)
        shares: dict[Place, int] = {}
        for _ in range(total if heap else 0):
            time, group = heap[0]
            place = places[group][0]
            shares[place] = shares.get(place, 0) + 1
            places[group].rotate(-1)
            heapq.heapreplace(heap, (time + _find_cost(group), group))
        return shares

    def _order(self) -> list[Place]:
        """Return the lanes that may go, whoever had the least first."""
        first = min(self._times.values(), default=0.0)
        groups = {place: self._find_group(place) for place in self._lanes}
        # Who had nothing to send, or could not, has no claim on all that it missed.
        least = max(self._times.values(), default=0.0) - _CREDIT
        for group in groups.values():
            self._times[group] = max(self._times.get(group, first), least)
        open_places = [
            place
            for place, (tenant, _) in groups.items()
            if not self._desk.is_suspended(tenant=tenant, site=self.site)
            and not self._is_put_off(tenant)
        ]
        if len(open_places) < len(groups):
            self.why = "suspended"
        return sorted(open_places, key=lambda p: (self._times[groups[p]], self._last.get(p, 0)))

    @staticmethod
    def _find_group(place: Place) -> tuple[str, str]:
        lane = read_lane(place[1])
        return lane.tenant, lane.priority

    async def _claim_from(self, place: Place, granted: dict[str, int], share: int) -> None:
        tenant, _ = group = self._find_group(place)
        rates = self._desk.find_tenant_rates(tenant)
        if rates:
            share, wait = await self._desk.gates.charge_tenant(tenant, rates, share)
            if not share:
                self.why = "tenant rate"
                self._used_up[tenant] = trio.current_time() + min(wait, LOOK)
                return
        counts = _split(granted, share)
        if not counts or self._hands.stopping:
            return
        shard, lane = place
        news = self._lanes.get(place)
        # Shielded: what a claim has brought must be known, or it lies idle until its lease ends.
        # The link's patience is bounded.
        with trio.CancelScope(shield=True):
            claimed = await self._desk.store.claim(
                shard,
                lane,
                list(counts.values()),
                token=self._hands.make_token(),
                octets=_OCTETS,
                inline=_INLINE,
            )
        names = list(counts)
        for number, claim in claimed.claims:
            granted[names[number]] -= 1
            self._hands.take(claim, self, lane, names[number])
        found = len(claimed.claims)
        if rates and found < share:
            self._desk.gates.refund_tenant(tenant, rates, share - found)
        self._times[group] += found * _find_cost(group)
        self._turn += 1
        self._last[place] = self._turn
        self._note_left(place, claimed.left, news)

    def _note_left(self, place: Place, left: int, news: int | None) -> None:
        """A lane is forgotten when it is empty, unless it was in the news after we asked."""
        self._left[place] = left
        if left == 0 and self._lanes.get(place) == news:
            for known in (self._lanes, self._left, self._last):
                known.pop(place, None)


def is_too_long(reserved: Reserved, backlog: int) -> bool:
    """Tell whether what is pinned to a source would wait for it for longer than the pin is worth."""
    wait = reserved.wait or 0.0
    return (
        reserved.why in CLOSED
        or (reserved.why == "throttled" and wait > _PATIENCE)
        # The wait is for one of them.
        or (reserved.why == "pace" and wait * backlog > _PATIENCE)
    )


def _find_cost(group: tuple[str, str]) -> float:
    """Return the virtual time that a delivery of a tenant and priority costs."""
    return 1 / _WEIGHTS.get(group[1], 1)


def _split(granted: dict[str, int], share: int) -> dict[str, int]:
    """Return how many of ``share`` each source takes: at least one each, as far as it goes."""
    counts: dict[str, int] = {}
    left = share
    total = sum(granted.values())
    for name, count in granted.items():
        if count and left:
            part = min(left, count, -(-count * share // total))
            counts[name] = part
            left -= part
    return counts
