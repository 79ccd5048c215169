"""Feeders of lanes whose site is not a place, and which need no gate (relay/store/keys.py).

Unknown sites are looked up (Surveyor); queues without a route are brought to their end (Nowhere);
suspended queues wait until they are not (Shut).
"""

import logging
from collections.abc import Callable

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.store.keys import NOWHERE, read_queue
from workers.desk import Desk
from workers.feeder import LOOK, MOST, PAUSE, TROUBLE, Feeder, Hands, Place
from workers.route import Path

_log = logging.getLogger("outgate.worker")

_LOOK_UP_TIME = 30.0  # others leave a queue alone for this long while we look its site up, s


class Nowhere(Feeder):
    """What has no route: it is taken without a gate, and its outcome found by looking again."""

    async def _feed(self) -> float:
        hold = self._find_hold()
        if hold is not None:
            return hold
        room = min(MOST, self._hands.find_room(proven=False))
        if room <= 0:
            self._waits_for_room = True
            self._hands.starve(self)
            return LOOK
        self._hands.expect(room)
        try:
            await self._bring({"": room})
        finally:
            self._hands.expect(-room)
        return self._find_pause()


class Surveyor(Feeder):
    """Queues of which nobody knows the site: it is looked up, and they change lanes."""

    def __init__(
        self,
        pool: str,
        pin: str,
        site: str,
        *,
        desk: Desk,
        hands: Hands,
        start: Callable[..., None],
        look_ups: trio.Semaphore,
    ) -> None:
        """``start``: runs a task; ``look_ups``: how many there may be at a time."""
        super().__init__(pool, pin, site, desk=desk, hands=hands)
        self._start = start
        self._look_ups = look_ups

    async def run(self) -> None:
        """Look sites up until there is none left to look up."""
        while self._lanes and not self._hands.stopping:
            self._bell = trio.Event()
            try:
                waits = [await self._survey(place) for place in self.places]
            except (StoreUnavailable, StoreError) as error:
                _log.warning("%s; trying again", error)
                waits = [TROUBLE]
            except Exception:
                _log.exception("sites are not looked up; trying again")
                waits = [TROUBLE]
            if self._lanes and (wait := min(waits, default=0.0)) > 0:
                with trio.move_on_after(min(wait, LOOK)):
                    await self._bell.wait()
        self._running = False

    async def _survey(self, place: Place) -> float:
        shard, lane = place
        news = self._lanes.get(place)
        queues, wait = await self._desk.store.survey(
            shard, lane, limit=MOST, patience=_LOOK_UP_TIME
        )
        for queue in queues:
            await self._look_ups.acquire()
            self._start(self._look_up, shard, lane, queue)
        if wait is None:
            self._note_left(place, 0, news)
            return 0.0
        return wait

    async def _look_up(self, shard: int, lane: str, queue: str) -> None:
        try:
            # What TLS must be does not matter for the site. A policy that its web server takes half a
            # minute for holds up its own domain's mail, and no look-ups of others.
            found = await self._desk.router.find(read_queue(queue).domain, asked="optional")
            site = found.site if isinstance(found, Path) else NOWHERE
            await self._desk.store.assign(shard, queue, lane, site)
        except (StoreUnavailable, StoreError) as error:
            _log.warning("%s: %s; it is looked up again", queue, error)
        except Exception:
            # A fault of ours, with one domain, must not stop the others.
            _log.exception("%s: its site is looked up again", queue)
        finally:
            self._look_ups.release()


class Shut(Feeder):
    """Queues that an operator has suspended: they go back to their lanes when that ends."""

    async def _feed(self) -> float:
        for shard, lane in self.places:
            news = self._lanes.get((shard, lane))
            left = await self._desk.store.reopen(shard, lane)
            self._note_left((shard, lane), left, news)
        self.why = "suspended"
        end = self._desk.find_end()
        return LOOK if end is None else max(0.0, end) + PAUSE
