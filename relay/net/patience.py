"""How long we wait for a peer: limits that are set anew with every line, and hardly ever reached.

To move the deadline of a ``trio.CancelScope`` costs as much as to read a command (10 us a message, and
as much for the scope itself). Here it is an assignment and a comparison: a system task sleeps until
the first of all limits that it has seen, and looks again at who is late by then.
"""

import math
from collections.abc import Callable

import trio

# Seconds between two looks, at least: each looks at all, and thousands may come due one by one.
_LOOK = 0.25


class Patience:
    """With one peer. ``expire`` is called, once for each limit, when that has passed.

    It comes on time, or up to ``_LOOK`` late where another has come just before. It must not raise.
    """

    __slots__ = ("_expire", "_watch", "due")

    def __init__(self, expire: Callable[[], object]) -> None:
        """Only within trio; without a limit at first. Needs an ``end``."""
        self.due = math.inf  # trio time
        self._expire = expire
        self._watch = _find_watch()
        self._watch.all.add(self)

    def allow(self, seconds: float, *, at_most: float = math.inf) -> None:
        """Give what follows this much time, instead of what was said before.

        ``at_most``: until then, trio time, however much that is.
        """
        self.allow_until(min(self._watch.now() + seconds, at_most))

    def allow_until(self, due: float) -> None:
        """Give what follows until then, trio time; ``math.inf``: as long as it takes."""
        self.due = due
        if due < self._watch.next:
            self._watch.hasten(due)

    def end(self) -> None:
        """Watch no more."""
        self._watch.all.discard(self)

    def lose(self) -> None:
        """The limit has passed."""
        self.due = math.inf
        self._expire()


class _Watch:
    """All of one run of trio."""

    def __init__(self) -> None:
        self.all: set[Patience] = set()
        # trio.current_time, without its layers.
        self.now = trio.lowlevel.current_clock().current_time
        self.next = math.inf  # no limit that is closer has been seen
        self._sleep = trio.CancelScope()

    async def run(self) -> None:
        while True:
            with self._sleep:
                await trio.sleep_forever()
            now = self.now()
            for patience in [one for one in self.all if one.due <= now]:
                if patience in self.all:  # another may have ended it
                    patience.lose()
            first = min((one.due for one in self.all), default=math.inf)
            self.next = max(first, now + _LOOK)
            self._sleep = trio.CancelScope(deadline=self.next)

    def hasten(self, due: float) -> None:
        self.next = self._sleep.deadline = due


_watch: trio.lowlevel.RunVar[_Watch] = trio.lowlevel.RunVar("patience")


def _find_watch() -> _Watch:
    try:
        return _watch.get()
    except LookupError:
        watch = _Watch()
        _watch.set(watch)
        trio.lowlevel.spawn_system_task(watch.run)
        return watch
