"""Scale: what a transition costs with a thousand deliveries in the store, and with a million.

Two embedded stores, as ``outgate up`` runs them, side by side: one with few deliveries queued, one
with many, twenty to a domain in both. The same work goes through them in turn: so many accepted,
as many claimed and settled, the backlog stays as it is. A minute in which the machine is slow
hits both.
"""

import contextlib
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio

from relay.config import read
from relay.model import Delivery
from relay.store.embedded import EmbeddedServer, open_embedded
from relay.store.keys import make_key
from relay.store.link import Link
from relay.store.queue import Store
from tests.bench import process
from tests.bench.filling import fill, wait_until_quiet
from tests.bench.passage import Passage
from tests.bench.progress import Progress
from tests.bench.promise import Promise

_COST = 1.3  # many : few, at most
_OCTETS_EACH = 700  # memory of a queued delivery without its body, at most
_SAMPLE = 10_000  # bodies that are taken away to see what they took
_BODY = 256  # octets
_BATCH = 50  # messages that are under way together
_PER_SITE = 50  # domains


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    many: int = 1_000_000
    many_domains: int = 50_000
    few: int = 1_000
    few_domains: int = 50
    messages: int = 5_000  # of a round
    rounds: int = 5


QUICK = Size(many=30_000, many_domains=1_500, messages=2_000, rounds=3)


@dataclass(frozen=True, slots=True)
class Cost:
    """Accept, claim and settle of one message, in milliseconds."""

    store: float  # CPU of the server
    caller: float  # CPU of the process that calls it
    wall: float

    @property
    def cpu(self) -> float:
        """Both sides' CPU."""
        return self.store + self.caller


@dataclass(slots=True)
class Scale:
    """Costs by round, with few and with many; and what a queued delivery takes."""

    size: Size
    fill_seconds: float = 0.0
    octets: float = 0.0  # of memory for a queued delivery, body aside
    body_octets: float = 0.0  # of memory for its body of _BODY octets
    at_once: Cost | None = None  # with many, before the server's tables have grown to their size
    few: list[Cost] = field(default_factory=list)
    many: list[Cost] = field(default_factory=list)

    def ratio(self, name: str) -> float:
        """Many to few: medians of the rounds."""
        return _median(self.many, name) / _median(self.few, name)

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        for name, words in (("cpu", "CPU"), ("wall", "time")):
            ratio = self.ratio(name)
            yield Promise(
                f"accept + claim + settle with {self.size.many:,} queued: {ratio:.2f} x the "
                f"{words} with {self.size.few:,} (at most {_COST})",
                ratio <= _COST,
            )
        yield Promise(
            f"{self.octets:.0f} octets of memory for a queued delivery, body aside "
            f"(at most {_OCTETS_EACH})",
            self.octets <= _OCTETS_EACH,
        )

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        yield (
            f"Scale: {self.size.many:,} deliveries over {self.size.many_domains:,} domains "
            f"accepted in {self.fill_seconds:.0f} s; each takes {self.octets:.0f} octets and "
            f"{self.body_octets:.0f} for its body of {_BODY}"
        )
        for name, costs in ((self.size.few, self.few), (self.size.many, self.many)):
            yield f"  {name:>9,} queued, ms a message: " + ", ".join(
                f"{label} {_median(costs, label):.3f}" for label in ("store", "caller", "wall")
            )
        if self.at_once:
            yield (
                f"  right after filling (tables of keys may still be growing): store "
                f"{self.at_once.store:.3f}, caller {self.at_once.caller:.3f}, "
                f"wall {self.at_once.wall:.3f}"
            )


def measure_scale(progress: Progress, size: Size) -> Scale:
    """Fill two stores and measure in turn."""
    return trio.run(_measure, progress, size)


async def _measure(progress: Progress, size: Size) -> Scale:
    found = Scale(size)
    async with _open_store() as (few_server, few_store), _open_store() as (server, store):
        few = [f"d{n}.few.example" for n in range(size.few_domains)]
        many = [f"d{n}.many.example" for n in range(size.many_domains)]
        light = Passage(few_store, few, per_site=_PER_SITE)
        await light.assign()
        await fill(few_store, few * (size.few // len(few)), octets=_BODY)
        heavy = Passage(store, many, per_site=_PER_SITE)
        await _load(server, heavy, many, found, progress)
        chance = random.Random(3)
        for number in range(size.rounds + 1):
            fewer = await _measure_cost(few_server, light, chance.choices(few, k=size.messages))
            more = await _measure_cost(server, heavy, chance.choices(many, k=size.messages))
            if number:  # the first is to warm up
                found.few.append(fewer)
                found.many.append(more)
            progress.show(number * size.messages, size.rounds * size.messages, 0)
    return found


@contextlib.asynccontextmanager
async def _open_store() -> AsyncIterator[tuple[EmbeddedServer, Store]]:
    with tempfile.TemporaryDirectory(prefix="outgate-") as name:
        document: dict[str, object] = {
            "state_dir": "state",
            "store": {"max_memory": "8GiB"},
            "tenant": [{"name": "acme", "domains": ["acme.example"]}],
        }
        config = read(document, base=Path(name), environment={})
        async with open_embedded(config) as server:
            link = Link(server.url, timeout=60)
            try:
                yield server, Store(link, config)
            finally:
                await link.aclose()


async def _load(
    server: EmbeddedServer,
    passage: Passage,
    domains: list[str],
    found: Scale,
    progress: Progress,
) -> None:
    """Fill the large one, and look at its memory before and after."""
    store = passage.store
    size = found.size
    empty = await _read_memory(store)
    await passage.assign()
    begun = time.monotonic()

    def show(done: int) -> None:
        progress.show(done, size.many, time.monotonic() - begun)

    turns = itertools.islice(itertools.cycle(domains), size.many)
    sample = min(_SAMPLE, size.many // 10)
    deliveries = await fill(store, turns, octets=_BODY, show=show, keep=sample)
    found.fill_seconds = time.monotonic() - begun
    full = await _read_memory(store)
    some = random.Random(2).choices(domains, k=size.messages)
    found.at_once = await _measure_cost(server, passage, some)
    await _finish_tables(store)
    found.body_octets = await _weigh_bodies(store, deliveries)
    found.octets = (full - empty) / size.many - found.body_octets


async def _weigh_bodies(store: Store, deliveries: list[Delivery]) -> float:
    """Take some bodies away for a moment, and see what a body took.

    All that it took: the value, its key, its entries among keys and expiring keys. Only the two
    tables of keys do not shrink by it: their share is counted to the delivery.
    """
    bodies: dict[str, bytes] = {}
    for one in deliveries:
        key = make_key(one.home, "body", one.message_id, 0)
        if body := await store.link.call("GET", key):  # some were delivered meanwhile
            bodies[key] = body
    before = await _read_memory(store)
    for key in bodies:
        await store.link.call("DEL", key)
    freed = before - await _read_memory(store)
    for key, body in bodies.items():
        await store.link.call("SET", key, body, "PX", 7 * 86_400_000)
    return freed / len(bodies)


async def _read_memory(store: Store) -> int:
    """Return what the server uses when it has nothing else to do, octets."""
    await wait_until_quiet(store)
    await trio.sleep(1)  # buffers of the last replies
    used, _ = await store.read_memory()
    return used


async def _finish_tables(store: Store) -> None:
    """Let the server finish what it does when its tables of keys grow.

    At each power of two it moves to tables of twice the size, one bucket with each look-up, and
    each look-up costs more until it is done. That is a price of having got there, paid once for
    a million deliveries, not of being there; a million (two keys for each) is just past one.
    """
    keys = await store.link.call("DBSIZE")
    look = [make_key(0, "ledger")] * 1000
    for _ in range(2 * keys // len(look) + 1):
        await store.link.call("EXISTS", *look)


async def _measure_cost(server: EmbeddedServer, passage: Passage, domains: list[str]) -> Cost:
    store, caller, wall = _read_cpu(server.pid), time.process_time(), time.monotonic()
    for start in range(0, len(domains), _BATCH):
        await passage.carry(domains[start : start + _BATCH], octets=_BODY)
    return Cost(
        store=(_read_cpu(server.pid) - store) * 1000 / len(domains),
        caller=(time.process_time() - caller) * 1000 / len(domains),
        wall=(time.monotonic() - wall) * 1000 / len(domains),
    )


def _read_cpu(pid: int) -> float:
    found = process.read(pid)
    assert found is not None
    return found.cpu


def _median(costs: list[Cost], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in costs))
