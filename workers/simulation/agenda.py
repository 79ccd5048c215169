"""Virtual time: what is to happen when, and a clock that jumps from one to the next.

One trio task runs everything, in the order of time and then of being put down, and jumps trio's own
MockClock along. Tasks that sleep would be woken in an order that trio draws by lot: two runs would
differ.
"""

import heapq
import itertools
import threading
from collections.abc import Awaitable, Callable

import trio
import trio.testing

from relay.errors import OutgateError

# When the simulated world begins, seconds since 1970: a midnight (UTC), as days are counted by.
START = 1_700_006_400.0

Action = Callable[[], Awaitable[None]]


class Stopped(OutgateError):
    """Somebody has asked the simulation to end."""


class Agenda:
    """Actions by when they are due. ``now``: seconds since 1970, in the simulated world."""

    def __init__(
        self, clock: trio.testing.MockClock | None = None, stop: threading.Event | None = None
    ) -> None:
        """``clock``: trio's, to be taken along. ``stop``: set from another thread, ends ``run``."""
        self.now = START
        self._clock = clock
        self._stop = stop
        self._actions: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()

    def read_clock(self) -> float:
        """Return ``now``, for who wants a function."""
        return self.now

    def put(self, time: float, action: Action) -> None:
        """Do something at a time; at once (after what is due already) when it is over."""
        heapq.heappush(self._actions, (max(time, self.now), next(self._numbers), action))

    async def run(self, until: float) -> None:
        """Do what is due up to a time, and let it become that. Raises Stopped."""
        actions = self._actions
        while actions and actions[0][0] <= until:
            time, number, action = heapq.heappop(actions)
            self._pass_to(time)
            await action()
            if number & 1023 == 0 and self._stop is not None and self._stop.is_set():
                raise Stopped("the simulation was ended before its time")
        self._pass_to(until)

    def _pass_to(self, time: float) -> None:
        if time > self.now:
            if self._clock is not None:
                self._clock.jump(time - self.now)
            self.now = time
