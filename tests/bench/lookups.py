"""DNS: ten thousand domains on twenty hosts, looked up by many at once.

Fresh: through router and resolver, several deliveries to each domain at the same time. Known: the
same again, from the resolver's cache. Bounded: a cache smaller than the number of names, first
full, then with several times as many names gone through it, then with answers as large as a
stranger could make them; its memory is what Python's allocator counts for the code of resolver and
dnspython. (What trio keeps for tasks and deadlines is neither little nor the cache's.)
"""

import gc
import itertools
import socket
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns
import trio

from relay.config import Config, read
from relay.model import Outcome
from relay.net import resolver
from relay.net.resolver import Resolver
from tests.bench.nameserver import Answers, Count, name_domain, name_wide
from tests.bench.progress import Progress
from tests.bench.promise import Promise
from tests.bench.system import BenchFailed
from workers.route import Router

_HOSTS = 20
_EACH = 5  # look-ups of a domain, at once
_TASKS = 500
_FEWER = 20  # tasks, for large answers
_TIMEOUT = 30.0  # seconds: on a busy machine this is not what is measured
_OCTETS = 1024  # of memory for an answer, at most
_TURNS = 5  # how often the small cache is filled; domains suffice for it
_GROWTH = 1.1  # memory after that, at most
_WIDE = 1.5  # KiB for each answer that the bound allows, at most, whatever the answers hold


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    domains: int = 10_000
    bound: int = 500  # of the small cache
    wide: int = 300  # names with seventy addresses


QUICK = Size(domains=1_000, bound=200, wide=80)


@dataclass(frozen=True, slots=True)
class Round:
    """Look-ups through the router: time in seconds, of one CPU for ours; what the server saw."""

    look_ups: int
    seconds: float
    cpu: float
    count: Count

    def describe(self) -> str:
        """Return it as half a line."""
        return (
            f"{self.look_ups:,} look-ups, {self.look_ups / self.seconds:,.0f} a second, "
            f"{self.cpu / self.look_ups * 1e6:.0f} µs CPU each; {self.count.asked:,} queries"
        )


@dataclass(frozen=True, slots=True)
class Bounded:
    """The small cache: answers in it at most, and octets of memory."""

    most: int
    full: int
    later: int
    wide: int


@dataclass(frozen=True, slots=True)
class LookUps:
    """All that was measured."""

    size: Size
    fresh: Round
    known: Round
    bounded: Bounded

    @property
    def octets(self) -> float:
        """Memory for one answer: MX, two records."""
        return self.bounded.full / self.size.bound

    @property
    def per_query(self) -> float:
        """Seconds of our CPU for a query: what the same look-ups cost more when it is needed."""
        return (self.fresh.cpu - self.known.cpu) / max(1, self.fresh.count.asked)

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        fresh, size, bounded = self.fresh.count, self.size, self.bounded
        yield Promise(
            f"{size.domains:,} domains on {_HOSTS} hosts, {_TASKS} look-ups at once: "
            f"{fresh.in_flight} query in flight for a name (at most 1)",
            fresh.in_flight == 1,
        )
        yield Promise(
            f"{fresh.asked:,} queries for {self.fresh.look_ups:,} look-ups: the same name "
            f"{fresh.most} time, and {self.known.count.asked} queries when all is known (1 and 0)",
            fresh.most == 1 and self.known.count.asked == 0,
        )
        yield Promise(
            f"{bounded.most:,} answers in a cache for {size.bound:,}, and {bounded.later / bounded.full:.2f} "
            f"x the memory after {_TURNS} times as many names (at most {_GROWTH})",
            bounded.most <= size.bound and bounded.later <= _GROWTH * bounded.full,
        )
        yield Promise(
            f"{self.octets:.0f} octets of memory for an answer (at most {_OCTETS})",
            self.octets <= _OCTETS,
        )
        yield Promise(
            f"{bounded.wide / 1024:,.0f} KiB when strangers fill it with large ones "
            f"(at most {_WIDE} for each of {size.bound:,})",
            bounded.wide <= _WIDE * 1024 * size.bound,
        )

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        yield (
            f"DNS, {self.size.domains:,} domains on {_HOSTS} hosts: {self.fresh.describe()}, "
            f"{self.per_query * 1e6:.0f} µs CPU each of them"
        )
        yield f"  known: {self.known.describe()}"
        bounded = self.bounded
        yield (
            f"  a cache for {self.size.bound:,}: {bounded.full / 1024:,.0f} KiB when full, "
            f"{bounded.later / 1024:,.0f} KiB later, {bounded.wide / 1024:,.0f} KiB with large answers"
        )


def measure_look_ups(progress: Progress, size: Size) -> LookUps:
    """Measure all three. Raises BenchFailed."""
    with Answers(size.domains, _HOSTS, size.wide) as answers, _make_directory() as base:
        return trio.run(_measure, progress, size, answers, base)


def _make_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="outgate-")


async def _measure(progress: Progress, size: Size, answers: Answers, base: str) -> LookUps:
    config = _configure(answers, base, cache=2 * size.domains)
    large = Resolver(config.dns)
    domains = [name_domain(number) for number in range(size.domains)]
    fresh = await _route(Router(config, large), domains, answers, progress)
    known = await _route(Router(config, large), domains, answers, progress)
    small = Resolver(_configure(answers, base, cache=size.bound).dns)
    return LookUps(size, fresh, known, await _weigh(small, size))


def _configure(answers: Answers, base: str, *, cache: int) -> Config:
    table = {"nameservers": [str(answers.endpoint)], "cache": cache, "timeout": _TIMEOUT}
    return read({"state_dir": "state", "dns": table}, base=Path(base), environment={})


async def _route(router: Router, domains: list[str], answers: Answers, progress: Progress) -> Round:
    answers.take()
    total = len(domains) * _EACH
    done = itertools.count(1)
    wall, cpu = time.monotonic(), time.process_time()

    async def find(domain: str) -> None:
        found = await router.find(domain, socket.AF_INET)
        if isinstance(found, Outcome):
            raise BenchFailed(f"no route to {domain}: {found.text}")
        progress.show(next(done), total, time.monotonic() - wall)

    # The look-ups of one domain stand side by side, so they go out at the same time.
    await _spread((domain for domain in domains for _ in range(_EACH)), find)
    cpu = time.process_time() - cpu
    return Round(total, time.monotonic() - wall, cpu, answers.take())


async def _weigh(small: Resolver, size: Size) -> Bounded:
    """Fill a small cache three times, and look at its memory."""
    most = 0

    async def find_mx(name: str) -> None:
        nonlocal most
        await small.find_mx(name)
        most = max(most, small.size)

    async def find_addresses(name: str) -> None:
        await small.find_addresses(name, socket.AF_INET)

    # What is made once, by dnspython and by trio, is no memory of the cache.
    await _spread([name_domain(0), name_wide(0)], find_addresses)
    tracemalloc.start()
    try:
        start = _read_memory()
        # Twice: tables that entries are taken out of grow once more.
        await _spread(map(name_domain, range(2 * size.bound)), find_mx)
        full = _read_memory() - start
        await _spread(map(name_domain, range(2 * size.bound, _TURNS * size.bound)), find_mx)
        later = _read_memory() - start
        await _spread(map(name_wide, range(size.wide)), find_addresses, tasks=_FEWER)
        return Bounded(most, full, later, _read_memory() - start)
    finally:
        tracemalloc.stop()


def _read_memory() -> int:
    gc.collect()
    # "<string>": where named tuples are made.
    files = (resolver.__file__, f"{Path(dns.__file__).parent}/*", "<string>")
    kept = [tracemalloc.Filter(inclusive=True, filename_pattern=file) for file in files]
    traces = tracemalloc.take_snapshot().filter_traces(kept)
    return sum(trace.size for trace in traces.traces)


async def _spread(
    names: Iterable[str], look_up: Callable[[str], Awaitable[None]], *, tasks: int = _TASKS
) -> None:
    """Look all of them up, many at a time, in order."""
    rest = iter(names)

    async def work() -> None:
        for name in rest:
            await look_up(name)

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(work)
