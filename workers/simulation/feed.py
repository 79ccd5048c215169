"""One pool (or one source of it, for what is pinned) and one site, in one worker: workers/feeder.py.

It asks the gate how much its sources may take, takes that from the backlog, and hands it to them; told
to wait it comes back at that time, or when it is rung.
"""

import math
from functools import partial
from typing import Protocol

from relay.store.gate import Gates, Reserved, SiteLimits, Want
from workers.feeder import CLOSED, is_too_long
from workers.simulation.agenda import Agenda
from workers.simulation.line import Line
from workers.simulation.mail import Backlog
from workers.simulation.mix import POOL

# As in workers/feeder.py.
_MOST = 100
_BATCH = 4
PAUSE = 0.010
_LOOK = 30.0
_TURN = 0.4
# To the store and back. Here calls take no time; without it, questions could be without end at one moment.
_TRIP = 0.001


class Host(Protocol):
    """The post that it belongs to."""

    site: str
    agenda: Agenda
    backlog: Backlog
    gates: Gates
    limits: SiteLimits
    weights: dict[str, int]

    def find_lines(self, pin: str) -> list[Line]:
        """Return the lines of all sources, or of the one that is pinned to."""

    def watch(self, source: str) -> None:
        """A source has to be silent: what it delivers afterwards is news."""

    def give_back(self, tenant: str) -> None:
        """A tenant's mail must not be sent: what has not been begun goes back."""

    def let_go(self, pin: str) -> None:
        """What is pinned to a source is for anybody."""


class Feed:
    """Wakes at times of its own."""

    def __init__(self, host: Host, pin: str) -> None:
        self._host = host
        self._agenda = host.agenda
        self._pin = pin
        self._key = f"{POOL}@{pin}" if pin else POOL
        self._weights = {pin: host.weights[pin]} if pin else host.weights
        self._due = math.inf
        self._waits_for_room = False
        self._asked = -math.inf
        self._put_off: dict[str, float] = {}  # tenant -> until

    def ring(self) -> None:
        """Something has changed: look again."""
        self._wake(self._agenda.now + PAUSE)

    def make_room(self) -> None:
        """One delivery fewer is in hand."""
        if self._waits_for_room:
            self._wake(self._agenda.now)

    def _wake(self, time: float) -> None:
        if time < self._due:
            self._due = time
            self._agenda.put(time, partial(self._look, time))

    async def _look(self, time: float) -> None:
        if time != self._due:
            return  # an earlier look has taken its place
        self._due = math.inf
        self._waits_for_room = False
        wait = await self._feed()
        if wait is not None:
            self._wake(self._agenda.now + min(wait, _LOOK))

    async def _feed(self) -> float | None:
        """Bring what may go now; return the seconds until the next look. None: when it is rung."""
        now = self._agenda.now
        self._put_off = {tenant: end for tenant, end in self._put_off.items() if end > now}
        backlog = self._host.backlog.count_for(self._pin, self._put_off)
        if not backlog:
            return min(self._put_off.values()) - now if self._put_off else None
        lines = self._host.find_lines(self._pin)
        wants = [
            Want(
                line.source,
                min(line.berth.room, _MOST),
                len(line.berth.connections),
                line.berth.most,
            )
            for line in lines
        ]
        free = sum(want.room for want in wants)
        enough = max(1, sum(line.berth.held for line in lines) // _BATCH)
        if not free or (free < enough and now - self._asked <= _TURN):
            self._waits_for_room = True
            return _TURN if free else _LOOK
        self._asked = now
        reserved = await self._host.gates.reserve(
            self._host.limits, self._key, backlog, wants, self._weights, most=min(_MOST, backlog)
        )
        self._hear(reserved)
        return self._take(reserved, lines, backlog)

    def _hear(self, reserved: Reserved) -> None:
        now, known = self._agenda.now, self._put_off
        self._put_off = {tenant: now + wait for tenant, wait in reserved.put_off.items()}
        for tenant in self._put_off.keys() - known.keys():
            self._host.give_back(tenant)
        if reserved.why in CLOSED or reserved.why == "throttled":
            for grant in reserved.grants:
                if not grant.count:
                    self._host.watch(grant.source)

    def _take(self, reserved: Reserved, lines: list[Line], backlog: int) -> float | None:
        unused = {}
        granted = 0
        for line, grant in zip(lines, reserved.grants, strict=True):
            line.berth.failures = grant.failures
            granted += grant.count
            for number in range(grant.count):
                mail = self._host.backlog.take(self._pin, self._put_off)
                if mail is None:
                    unused[line.source] = grant.count - number
                    break
                line.put(mail)
        if unused:
            self._host.gates.refund(self._host.limits, self._key, unused, self._weights)
        if granted:
            return PAUSE if unused else _TRIP
        if self._pin and is_too_long(reserved, backlog):
            self._host.let_go(self._pin)
            return None
        if reserved.why == "turn":
            self._waits_for_room = True
        return _LOOK if reserved.wait is None else max(reserved.wait, _TRIP)
