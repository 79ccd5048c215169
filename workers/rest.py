"""A rest: a source leaves a host group alone that would not have it, for longer each time.

What waits is not tried one by one: that would keep workers busy for as long as the site is down, and
would tell nothing new. A site that is one host group rests at its gate, for all workers (berth.py).
Where several groups share a site's limits, the others may well be reached: then only this group does,
here.
"""

import math
import time

import trio

from relay.events import EventLog, encode_event
from relay.model import Outcome
from workers.berth import Berth, find_rests
from workers.route import Path


class Rest:
    """Of one source at one host group, in this process."""

    def __init__(self, path: Path, berth: Berth, events: EventLog) -> None:
        self._path = path
        self._berth = berth
        self._events = events
        self._failures = 0  # sessions in a row that were not to be had
        self._ends = -math.inf  # trio time; of a group of many

    @property
    def left(self) -> float:
        """Seconds that this group still rests by itself; not more than 0 when it does not."""
        return self._ends - trio.current_time()

    async def begin(self, outcome: Outcome) -> float:
        """No host would have us: rest, and say so. Returns for how many seconds.

        Raises StoreUnavailable, StoreError.
        """
        self._failures += 1
        # The host is there, and is not what one domain or message demands: nobody else's trouble.
        is_own = self._path.is_demanding and outcome.command == "STARTTLS"
        if not self._path.is_shared and not is_own:
            rest = await self._berth.fail(outcome.text)
        else:
            first, most = find_rests(self._berth.terms)
            rest = min(first * 2.0 ** min(self._failures - 1, 30), most)
            self._ends = trio.current_time() + rest
        if not is_own:
            self._tell(rest, outcome)
        return rest

    def recover(self) -> None:
        """A host was met."""
        self._failures = 0
        self._berth.recover()

    def forget(self) -> None:
        """Try at once: somebody knows that it is back."""
        self._ends = -math.inf

    def _tell(self, rest: float, outcome: Outcome) -> None:
        event = {
            "time": time.time(),
            "event": "resting",
            "site": self._path.site,
            "source": self._berth.source,
            "wait": round(rest, 1),
            "text": outcome.text,
        }
        self._events.write(encode_event(event))
