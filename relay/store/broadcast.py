"""Events as they happen, to whoever listens just now: what `outgate tail` and the dashboard show.

The event log hands on what it writes anyway; a task of its own publishes that. It is not what mail waits
for, nor the log: what cannot be told in time is dropped, and that so much was dropped is told.

While nobody listens nothing is published: once a second the store is asked whether somebody does. So a
listener hears what happens from a second after it has come, and nothing of before. In a Cluster every
master is asked: what is published on one is heard on all, and only its own listeners are counted.
"""

import time
from collections import deque

import trio

from relay.counters import COUNTERS, Counters
from relay.errors import StoreError, StoreUnavailable
from relay.events import encode_event
from relay.store.keys import EVENTS_CHANNEL
from relay.store.link import Link

_PROBES = 1.0  # s between two questions whether somebody listens
_MOST_OCTETS = 4 << 20  # that wait to be published
_PAUSE = 1.0  # s before another try, when the store does not answer
_LAST = 1.0  # s, for the last of a process that ends


class Broadcast:
    """Publishes the events of one process. ``offer`` never waits; ``run`` does the rest."""

    def __init__(self, link: Link, *, counters: Counters = COUNTERS) -> None:
        self._link = link
        self._counters = counters
        self._listening = False  # somebody heard the last publish
        self._batches: deque[bytes] = deque()
        self._octets = 0
        self._dropped = 0  # events that listeners have not been told to be missing
        self._news = trio.Event()

    def offer(self, lines: bytes) -> None:
        """Take a batch of encoded events, joined by line ends. What is too much drops the oldest."""
        if not self._listening:
            return
        self._batches.append(lines)
        self._octets += len(lines)
        while self._octets > _MOST_OCTETS:
            oldest = self._batches.popleft()
            self._octets -= len(oldest)
            self._drop(oldest)
        self._news.set()

    def _drop(self, lines: bytes) -> None:
        count = lines.count(b"\n") + 1
        self._dropped += count
        self._counters.add("events_dropped", (), count)

    async def run(self) -> None:
        """Publish, until cancelled."""
        while True:
            if not self._listening:
                await trio.sleep(_PROBES)
            elif not self._batches:
                self._news = trio.Event()
                await self._news.wait()
            if not await self._tell():
                await trio.sleep(_PAUSE)

    async def finish(self) -> None:
        """Publish the last, in a moment or not at all. Where nobody listens there is nothing."""
        with trio.move_on_after(_LAST, shield=True):
            if self._batches:
                await self._tell()

    async def _tell(self) -> bool:
        """Publish what has gathered, or see for whom; False: the store does not answer."""
        if not self._listening:
            return await self._look()
        while self._batches:
            lines = self._batches.popleft()
            self._octets -= len(lines)
            if not await self._publish(lines):
                return False
        return True

    async def _publish(self, lines: bytes) -> bool:
        gap = [self._make_gap()] if self._dropped else []
        dropped, self._dropped = self._dropped, 0
        try:
            heard = int(await self._link.call("PUBLISH", EVENTS_CHANNEL, b"\n".join([*gap, lines])))
        except (StoreUnavailable, StoreError):
            # Perhaps it was heard. Twice would be worse: who listens may be counting.
            self._dropped += dropped
            self._drop(lines)
            return False
        return heard > 0 or await self._look()

    async def _look(self) -> bool:
        """See whether somebody listens, on any node; False: the store does not answer."""
        try:
            found = await self._link.call_each("PUBSUB", "NUMSUB", EVENTS_CHANNEL)
        except (StoreUnavailable, StoreError):
            return False
        self._listening = any(int(reply[1]) for _, reply in found)
        if not self._listening:
            self._batches.clear()
            self._octets = 0
        return True

    def _make_gap(self) -> bytes:
        return encode_event({"time": time.time(), "event": "dropped", "count": self._dropped})
