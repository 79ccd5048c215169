"""A circuit breaker: who has failed several times in a row is left alone for a while.

Without one, each message would wait the whole time-out for a scanner that hangs, and so would its
sender. With it the first few do; the others hear at once that there is no answer to be had.

    closed ── so many failures in a row ──▶ open ── the pause is over ──▶ half open
      ▲                                      ▲                               │ one attempt, no more
      └──────────── an answer ───────────────┼──────────── an answer ────────┤
                                             └── a failure: twice the pause ─┘

Attempts that began before it opened may end after that. Their answers count (it does answer), their
failures do not: eight that time out together are one event, not a pause of two to the eighth.

There is nothing here but arithmetic on a clock.
"""

from collections.abc import Callable

import trio

FAILURES = 5  # in a row
FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 60.0  # seconds


class Attempt:
    """One attempt, from ``Breaker.begin`` to exactly one of succeed, fail and abandon."""

    __slots__ = ()


class Breaker:
    """One breaker; begins closed."""

    def __init__(
        self, *, failures: int = FAILURES, clock: Callable[[], float] = trio.current_time
    ) -> None:
        """``failures``: so many in a row open it. ``clock``: seconds, from wherever."""
        self._limit = failures
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until: float | None = None  # None: closed
        self._trial: Attempt | None = None  # what it is half open for

    @property
    def is_open(self) -> bool:
        """True from the failure that opened it to the next answer."""
        return self._until is not None

    @property
    def is_passable(self) -> bool:
        """True when an attempt that began now would be let through."""
        if self._until is None:
            return True
        return self._trial is None and self._clock() >= self._until

    def begin(self) -> Attempt | None:
        """Begin an attempt; None when there must not be one now."""
        if not self.is_passable:
            return None
        attempt = Attempt()
        if self.is_open:
            self._trial = attempt
        return attempt

    def succeed(self) -> bool:
        """Note an answer, of whichever attempt; True when that closed it."""
        was_open = self.is_open
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until = self._trial = None
        return was_open

    def fail(self, attempt: Attempt) -> bool:
        """Note a failure; True when that opened it, where it had been closed."""
        if not self.is_open:
            self._failures += 1
            if self._failures < self._limit:
                return False
            self._until = self._clock() + self._pause
            return True
        if attempt is self._trial:
            self._trial = None
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._until = self._clock() + self._pause
        return False

    def abandon(self, attempt: Attempt) -> None:
        """Note that an attempt was given up: it says nothing, and another may have its turn."""
        if attempt is self._trial:
            self._trial = None
