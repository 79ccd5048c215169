"""What waits, counted in the background: with ten thousand queues counting takes longer than a page may.

The more a count costs, the rarer it is made: it never takes more than about a fiftieth of a core.
"""

import time
from dataclasses import dataclass

import trio

from relay.errors import OutgateError
from relay.store.queue import Store
from workers.views.backlog import Backlog, read_backlog
from workers.views.selection import Selection

_LEAST = 2.0  # seconds between two counts
_MOST = 60.0
_SHARE = 0.02  # of a core
_RETRY = 1.0  # seconds, after a failure
_PATIENCE = 5.0  # seconds that somebody waits for the first count


@dataclass(frozen=True, slots=True)
class Picture:
    """All queues at a time, the largest first. ``complete``: False, there were too many to count."""

    at: float  # seconds since 1970
    backlog: list[Backlog]
    complete: bool


class Snapshot:
    """The last count. ``run`` keeps it fresh."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._picture: Picture | None = None
        self._error: OutgateError | None = None
        self._first = trio.Event()  # something is known: a count, or why there is none

    async def run(self) -> None:
        """Count again and again, until cancelled."""
        while True:
            spent = time.thread_time()
            try:
                await self.refresh()
                # Whatever else this thread did meanwhile is in it: rather too rare than too often.
                cost = time.thread_time() - spent
                wait = min(_MOST, max(_LEAST, cost / _SHARE))
            except OutgateError as error:
                self._error = error
                wait = _RETRY
            self._first.set()
            await trio.sleep(wait)

    async def refresh(self) -> None:
        """Count now. Raises StoreUnavailable, StoreError."""
        at = time.time()
        backlog, complete = await read_backlog(self._store, Selection())
        self._picture, self._error = Picture(at, backlog, complete), None

    async def read(self) -> Picture:
        """Return the last count. Raises what the last try raised, TooSlowError before the first."""
        with trio.fail_after(_PATIENCE):
            await self._first.wait()
        if self._error is not None:
            raise self._error
        assert self._picture is not None
        return self._picture
