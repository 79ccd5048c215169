"""A crowd of workers that share one site's gate, in virtual time, each as workers/feeder.py does.

A worker asks, claims what it was granted, gives back what it did not find, and then waits: for as
long as it was told, or until it is rung, by an end of a delivery of its own, by news of the lane or
of the site. Between any two of these steps others get in. Only the gate is real.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.store.gate import Gates, Reserved, SiteLimits, Want
from relay.store.keys import find_shard
from tests.kit.clock import Clock

# As in workers/feeder.py.
_LOOK = 30.0
_TURN = 0.4
_PAUSE = 0.010
_MOST = 100
_BATCH = 4
_FRESH = 20


@dataclass
class Worker:
    """One process: its sources, and how it works."""

    sources: list[str]
    room: int = 100  # deliveries of the process
    berth: int = 25  # deliveries of a source at the site
    service: float = 0.1  # seconds for a delivery
    delay: float = 0.001  # seconds of a round trip
    # What follows moves.
    knows: bool = False  # that the lane has something
    left: int | None = None  # ... and how much, since the last claim
    held: Counter[str] = field(default_factory=Counter)
    busy: bool = False  # in a look
    rung: bool = False
    waits_for_room: bool = False
    asked: float = -1e9  # when, s
    gone: bool = False
    wake: float = 0.0  # asleep until then, s


@dataclass(frozen=True)
class Taken:
    """A delivery that was taken."""

    time: float
    source: str


class Crowd:
    """The workers, the lane, and what happened."""

    def __init__(
        self,
        gates: Gates,
        clock: Clock,
        workers: list[Worker],
        weights: dict[str, int],
        *,
        limits: SiteLimits | None = None,
        seed: int = 0,
    ) -> None:
        self.workers = workers
        self.weights = weights
        self.limits = limits or SiteLimits("site.example", 0)
        self.backlog = 0
        self.now = 0.0  # s
        self.taken: list[Taken] = []
        self.asked = 0
        self.random = random.Random(seed)
        self._gates = gates
        self._clock = clock
        self._begin = clock.now
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._rings = 0
        self._to_come = 0

    @property
    def counts(self) -> Counter[str]:
        """How many each source took."""
        return Counter(one.source for one in self.taken)

    def find_longest_gap(self) -> float:
        """Return the longest time that nothing was taken, s, from the beginning on."""
        times = [0.0, *(one.time for one in self.taken)]
        return max(after - before for before, after in itertools.pairwise(times))

    def at(self, time: float, role: Callable[..., object], *arguments: object) -> None:
        """Let something happen at a time, s."""
        heapq.heappush(self._events, (time, next(self._numbers), role, arguments))

    def put(self, time: float, count: int) -> None:
        """Let so many deliveries become ready at a time, s; workers are told if there were none."""
        self._to_come += 1
        self.at(time, self._arrive, count)

    def _arrive(self, count: int) -> None:
        self._to_come -= 1
        was_empty = not self.backlog
        self.backlog += count
        for worker in self.workers if was_empty else ():
            worker.knows = True
            # The news reach each in its own time.
            self.at(self.now + _PAUSE + self.random.random() * 0.003, self._ring, worker)

    async def run(self, *, until: float = 1e9) -> None:
        """Go on until nothing happens any more, or nothing is left and nothing is to come."""
        while self._events and self._events[0][0] <= until and (self._to_come or self.backlog):
            self.now, _, role, arguments = heapq.heappop(self._events)
            now = self._begin + self.now * 1000
            if int(now) != self._clock.now:
                await self._clock.set(now)
            result = role(*arguments)
            if result is not None:
                await result  # type: ignore[misc]
                await self._hear()

    async def _hear(self) -> None:
        """News of the site ring all."""
        rings = await self._clock.count_rings(find_shard(self.limits.site))
        if rings != self._rings:
            self._rings = rings
            for worker in self.workers:
                self.at(self.now + self.random.random() * 0.002, self._ring, worker)

    def _ring(self, worker: Worker) -> None:
        worker.rung = True
        if not worker.busy:
            self._sleep(worker, 0.0)

    def _sleep(self, worker: Worker, wait: float) -> None:
        if worker.knows and not worker.gone:
            worker.wake = self.now + min(wait, _LOOK)
            self.at(worker.wake, self._look, worker, worker.wake)

    async def _look(self, worker: Worker, due: float) -> None:
        if worker.busy or worker.gone or due != worker.wake or not worker.knows:
            return  # it has been woken since
        worker.wake, worker.rung, worker.waits_for_room = -1.0, False, False
        held = worker.held
        room = min(_MOST, worker.room - held.total())
        wants = [
            Want(name, min(worker.berth - held[name], room), min(1, held[name]), worker.berth)
            for name in worker.sources
        ]
        free = min(room, sum(want.room for want in wants))
        enough = max(1, held.total() // _BATCH)
        if free <= 0 or (free < enough and self.now - worker.asked <= _TURN):
            worker.waits_for_room = True
            self._sleep(worker, _TURN if free > 0 else _LOOK)
            return
        alone = self.weights.keys() <= set(worker.sources)
        backlog = (worker.left or _FRESH) if alone else max(1, self.backlog)
        worker.busy, worker.asked = True, self.now
        self.asked += 1
        wait = 0.0 if alone else worker.delay  # others are counted in another round trip
        self.at(self.now + wait, self._reserve, worker, wants, backlog, min(room, backlog))

    async def _reserve(self, worker: Worker, wants: list[Want], backlog: int, most: int) -> None:
        reserved = await self._gates.reserve(
            self.limits, "default", backlog, wants, self.weights, most=most
        )
        self.at(self.now + worker.delay, self._claim, worker, reserved)

    def _claim(self, worker: Worker, reserved: Reserved) -> None:
        granted = {grant.source: grant.count for grant in reserved.grants if grant.count}
        if not granted:
            pause = 0.0
            if reserved.why == "turn":
                worker.waits_for_room, pause = True, _PAUSE
            wait = _LOOK if reserved.wait is None else reserved.wait
            self.at(self.now + pause, self._end_look, worker, wait)
            return
        for name in itertools.cycle(list(granted)):
            if not self.backlog or not any(granted.values()):
                break
            if granted[name]:
                granted[name] -= 1
                self.backlog -= 1
                self._take(worker, name)
        worker.left = self.backlog
        if not self.backlog:
            worker.knows, worker.left = False, None
        self.at(self.now + worker.delay, self._refund, worker, granted)

    def _take(self, worker: Worker, name: str) -> None:
        self.taken.append(Taken(self.now, name))
        worker.held[name] += 1
        time = worker.service * (0.5 + self.random.random())
        self.at(self.now + time, self._finish, worker, name)

    async def _refund(self, worker: Worker, granted: dict[str, int]) -> None:
        unused = {name: count for name, count in granted.items() if count}
        if unused:
            self._gates.refund(self.limits, "default", unused, self.weights)
        self._end_look(worker, 0.0 if worker.left else _PAUSE)

    def _end_look(self, worker: Worker, wait: float) -> None:
        worker.busy = False
        self._sleep(worker, 0.0 if worker.rung else wait)

    def _finish(self, worker: Worker, name: str) -> None:
        worker.held[name] -= 1
        if worker.waits_for_room:
            self._ring(worker)
