"""The sweep: what waits where nobody serves it is ended when its time is over, or reported.

A lane that is served finds expired deliveries by itself: they stand at the head of their queues. One
that nothing leaves, because it is suspended, its site rests, or no source of its pool is alive, is
looked through here. And what *could* go, and was not touched for ``delivery.stalled``, is a fault
of ours that somebody must hear of: an event, and a line in the log.
"""

import logging
import time
from collections.abc import Mapping
from typing import Protocol

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.events import encode_event
from relay.model import Claim
from relay.store.keys import SHARDS, read_lane
from workers.desk import Desk
from workers.feeder import Feeder

_log = logging.getLogger("outgate.worker")

_LONGEST = 60.0  # between two looks, s
_QUEUES = 100  # of a lane, in a look; the next look begins where this one ended
_DELIVERIES = 100  # of a queue
_THOROUGH = 10  # looks; in one of so many, more than the head of a queue is looked at
_HELD = (
    3600.0  # a session may take so long for a message (three times ten minutes, and transfer), s
)


class Holder(Protocol):
    """What the sweep looks at beside the store: the pool of the process."""

    @property
    def held(self) -> Mapping[str, "InHand"]:
        """What is in hand, by delivery id."""

    def list_feeders(self) -> list[Feeder]:
        """Return those that know of something to feed."""

    def make_token(self) -> str:
        """Return a token that was never used."""


class InHand(Protocol):
    """A delivery in hand."""

    @property
    def claim(self) -> Claim:
        """The claim."""

    @property
    def since(self) -> float:
        """Since when, trio time."""


class Sweep:
    """Of one worker process; all do the same, and find what another has done already."""

    def __init__(self, desk: Desk, holder: Holder) -> None:
        self._desk = desk
        self._holder = holder
        self._settings = desk.config.delivery
        self._pause = min(_LONGEST, self._settings.expire / 4, self._settings.stalled / 2)
        self._rounds = 0
        self._places: dict[tuple[int, str], int] = {}  # lane -> queue to begin with
        self._reported: dict[str, float] = {}  # what was reported stalled -> trio time

    async def run(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            await trio.sleep(self._pause)
            self._rounds += 1
            try:
                for shard in range(SHARDS):
                    await self._look(shard)
            except (StoreUnavailable, StoreError) as error:
                _log.warning("%s; trying again", error)
            self._look_at_hands()

    async def _look(self, shard: int) -> None:
        for lane, served in await self._desk.store.list_unserved(shard, self._pause):
            await self._expire(shard, lane)
            age = self._desk.now() - served
            if age > self._settings.stalled and not self._find_reason(lane):
                self._report(lane, age, "it could go, and nobody takes it")

    # -- expiry -------------------------------------------------------------------------------

    async def _expire(self, shard: int, lane: str) -> None:
        first = self._places.pop((shard, lane), 0)
        queues = await self._desk.store.list_round(shard, lane, first, _QUEUES)
        if len(queues) == _QUEUES:
            self._places[shard, lane] = first + _QUEUES
        before = self._desk.now() - self._settings.expire
        site = read_lane(lane).site
        for queue in queues:
            # At the head is what came first, unless it was retried: mostly one look is enough.
            start, limit = "-", _DELIVERIES if self._rounds % _THOROUGH == 0 else 1
            while True:
                claims, start = await self._desk.store.seize(
                    queue,
                    token=self._holder.make_token(),
                    accepted_before=before,
                    start=start,
                    limit=limit,
                )
                reason = await self._desk.gates.read_reason(site) if claims else ""
                for claim in claims:
                    await self._desk.ending.end_expired(claim, reason)
                if not claims or not start:
                    break
                limit = _DELIVERIES

    # -- what does not move -------------------------------------------------------------------

    def _find_reason(self, lane: str) -> str:
        """Return why nothing of a lane goes, if that is as it should be; "stalled" is not."""
        name = read_lane(lane)
        # A feeder has one word for all of its lanes, and others' mail may go.
        if share := self._desk.shares.state(name.tenant).state:
            return share
        if self._desk.is_suspended(tenant=name.tenant, site=name.site):
            return "suspended"
        for feeder in self._holder.list_feeders():
            if (feeder.pool, feeder.pin, feeder.site) == (name.pool, name.source, name.site):
                return feeder.why
        return "" if not self._desk.is_served(name.pool, name.source) else "others serve it"

    def _look_at_hands(self) -> None:
        now = trio.current_time()
        for identity, held in self._holder.held.items():
            if now - held.since > max(_HELD, self._settings.stalled):
                self._report(identity, now - held.since, "a worker holds it, and it does not end")

    def _report(self, what: str, seconds: float, text: str) -> None:
        now = trio.current_time()
        self._reported = {
            k: t for k, t in self._reported.items() if now - t < self._settings.stalled
        }
        if what in self._reported:
            return
        self._reported[what] = now
        _log.error("%s: no progress for %d s: %s", what, seconds, text)
        event = {
            "time": time.time(),
            "event": "stalled",
            "what": what,
            "wait": round(seconds),
            "text": text,
            "worker": self._desk.worker,
        }
        self._desk.events.write(encode_event(event))
