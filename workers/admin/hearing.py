"""Hears events as they happen (relay/store/broadcast.py), once, for all who want to know of them.

Who is too slow loses the oldest, and is told so: ``{"event": "missed", "count": N}``, without a count
where nobody knows how many, because the way to the store was cut, or none was there yet. A process that
could not tell its own says ``dropped`` (relay/events.py); that is handed on as any event.
"""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from relay.events import decode_event
from relay.store.keys import EVENTS_CHANNEL
from relay.store.link import Bell

Event = dict[str, Any]
Batch = list[Event]

_BATCHES = 64  # that wait for one listener; they are the same objects for all
_log = logging.getLogger("outgate.admin")


@dataclass(eq=False, slots=True)
class _Listener:
    send: trio.MemorySendChannel[Batch]
    receive: trio.MemoryReceiveChannel[Batch]
    missed: int = 0  # events that it has yet to be told of

    def put(self, batch: Batch) -> None:
        """Hand on a batch; the oldest goes when there is no room."""
        while True:
            told = [_make_gap(count=self.missed), *batch] if self.missed else batch
            try:
                self.send.send_nowait(told)
            except trio.WouldBlock:
                oldest = self.receive.receive_nowait()
                # Of a gap that it was to be told of, it has to be told still.
                self.missed += sum(
                    (event.get("count") or 0) if event.get("event") == "missed" else 1
                    for event in oldest
                )
            else:
                self.missed = 0
                return


class Hearing:
    """One subscription to the events of all processes. ``run`` it beside those who listen."""

    def __init__(self, url: str) -> None:
        """``url``: of the store. Raises ValueError for a bad one."""
        self._bell = Bell(url, EVENTS_CHANNEL, self._hear, lost=self._lose)
        self._listeners: set[_Listener] = set()
        self._since = 0.0  # when we heard something last
        self._said = False  # that nothing is heard
        self.trouble = "not connected yet"  # why nothing is heard, "" when all is well

    async def run(self) -> None:
        """Listen until cancelled; after a cut, again."""
        await self._bell.run()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[trio.MemoryReceiveChannel[Batch]]:
        """Listen: batches of decoded events, each never empty, until the block ends.

        Batches are shared: do not change them.
        """
        listener = _Listener(*trio.open_memory_channel[Batch](_BATCHES))
        self._listeners.add(listener)
        try:
            yield listener.receive
        finally:
            self._listeners.discard(listener)
            listener.send.close()
            listener.receive.close()

    # -- the bell's -----------------------------------------------------------------------------

    def _hear(self, text: str) -> None:
        """Something was published; "" when the subscription begins."""
        now = time.time()
        if not text:
            if self._said:
                _log.warning("events are heard again")
            self.trouble, self._said = "", False
            # Nobody was told of us yet: publishers see it within a second.
            self._put([_make_gap(since=self._since or now)])
        elif self._listeners and (batch := _decode(text)):
            self._put(batch)
        self._since = now

    def _lose(self, why: str) -> None:
        self.trouble = why or "the store does not answer"
        if not self._said:
            self._said = True
            _log.warning("events are not heard, and tried again: %s", self.trouble)

    def _put(self, batch: Batch) -> None:
        for listener in self._listeners:
            listener.put(batch)


def _decode(text: str) -> Batch:
    """What makes no sense (another version's) is left out. Not splitlines: JSON may hold U+2028."""
    batch = []
    for line in text.split("\n"):
        try:
            batch.append(decode_event(line.encode()))
        except msgspec.DecodeError:
            continue
    return batch


def _make_gap(*, count: int | None = None, since: float | None = None) -> Event:
    gap: Event = {"time": time.time(), "event": "missed", "count": count}
    if since is not None:
        gap["since"] = since
    return gap
