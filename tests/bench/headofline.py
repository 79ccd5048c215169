"""Head of line: do queues that cannot go delay those that can?

One ``outgate up``; messages to a hundred healthy domains, each with a host of its own, first
through empty queues, then with hundreds of thousands of deliveries in front of a site that refuses
connections, of one that does not answer, and of one that is limited to ten a second.
"""

import contextlib
import socket
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from relay.config import load
from tests.bench.filling import fill, spread, wait_until_quiet
from tests.bench.progress import Progress
from tests.bench.promise import Promise
from tests.bench.system import BenchFailed
from tests.bench.visits import HOSTS, Visits, find_rate, name_routes, write_routes
from tests.kit.gateway import Gateway
from tests.kit.ports import find_free_port
from tests.kit.tally import Tally, find_percentile
from workers.cli.asking import open_store

_THROUGHPUT, _LATENCY = 0.9, 1.5  # behind : empty, at least and at most
_PACE = 300  # messages a second, where time to delivery is measured
_SETTLING = 5.0  # seconds after filling: the sites that are down have been found to be
_MEMORY = 'max_memory = "4GiB"'  # bodies are in the store's memory
_GRACE = 'grace = "2s"'  # at the end nobody waits for hosts that do not answer


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    dead: int = 200_000  # half refused, half without an answer
    slow: int = 200_000
    warm: int = 4_000  # messages before the first round
    fast: int = 8_000  # messages of a round at full speed
    paced: int = 3_000  # messages of a round at _PACE
    rounds: int = 3


QUICK = Size(dead=4_000, slow=4_000, warm=1_500, fast=2_000, paced=600, rounds=1)


@dataclass(frozen=True, slots=True)
class Round:
    """What the healthy domains saw. Messages a second; seconds from sender to final dot."""

    rate: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class HeadOfLine:
    """The same with empty queues, and behind ``backlog`` deliveries that cannot go."""

    backlog: int
    empty: list[Round] = field(default_factory=list)
    behind: list[Round] = field(default_factory=list)

    @property
    def throughput(self) -> float:
        """Behind the backlog to empty: medians of the rounds."""
        return _median(self.behind, "rate") / _median(self.empty, "rate")

    @property
    def latency(self) -> float:
        """The same for the 99th percentile of the time to delivery."""
        return _median(self.behind, "p99") / _median(self.empty, "p99")

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        behind = f"behind {self.backlog:,} deliveries that cannot go"
        yield Promise(
            f"{behind}: {self.throughput:.2f} x the throughput (at least {_THROUGHPUT})",
            self.throughput >= _THROUGHPUT,
        )
        yield Promise(
            f"{behind}: {self.latency:.2f} x the p99 of time to delivery (at most {_LATENCY})",
            self.latency <= _LATENCY,
        )

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        for name, rounds in (("empty queues", self.empty), ("behind the backlog", self.behind)):
            yield (
                f"Head of line, {name}: "
                + " ".join(f"{one.rate:,.0f}" for one in rounds)
                + f" msg/s; at {_PACE}/s p50 "
                + " ".join(f"{one.p50 * 1000:.1f}" for one in rounds)
                + ", p99 "
                + " ".join(f"{one.p99 * 1000:.1f}" for one in rounds)
                + " ms"
            )


def measure_head_of_line(progress: Progress, size: Size) -> HeadOfLine:
    """Measure both in one run. Raises BenchFailed."""
    with (
        Tally(*HOSTS) as tally,
        _open_abyss() as abyss,
        Gateway(
            {}, store=_MEMORY, delivery=_GRACE, tables=_configure(tally.port, abyss)
        ) as gateway,
    ):
        visits = Visits(gateway, tally, progress)
        found = HeadOfLine(size.dead + size.slow)
        found.empty.extend(_measure_rounds(visits, size))
        trio.run(_fill, gateway, size, progress)
        found.behind.extend(_measure_rounds(visits, size))
        _check_backlog(gateway, size)
    return found


def _configure(port: int, abyss: int) -> str:
    routes = name_routes(port)
    routes["*.refused.example"] = f"127.0.0.1:{find_free_port()}"
    routes["*.silent.example"] = f"127.0.0.1:{abyss}"
    routes["*.slow.example"] = f"127.0.0.1:{port}"
    slow = '[[site]]\nname = "slow"\ndomains = ["*.slow.example"]\nrate = "10/s"'
    return f"{write_routes(routes)}\n{slow}"


@contextlib.contextmanager
def _open_abyss() -> Iterator[int]:
    """Yield a port where connections are neither accepted nor refused, as behind a firewall."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # Linux lets one more than the backlog in; whoever comes after that waits.
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def _measure_rounds(visits: Visits, size: Size) -> Iterator[Round]:
    """Yield one round after the other: full speed, then paced."""
    visits.send(size.warm)  # everybody imports, connects, finds its hosts
    for _ in range(size.rounds):
        rate = find_rate(visits.send(size.fast))
        delays = [at - sent for at, sent in visits.send(size.paced, pace=_PACE)]
        yield Round(rate, find_percentile(delays, 0.5), find_percentile(delays, 0.99))


async def _fill(gateway: Gateway, size: Size, progress: Progress) -> None:
    """Put the backlog there, while the gateway runs, and let it find out what it is."""
    begun = trio.current_time()
    total = size.dead + size.slow

    def show(done: int) -> None:
        progress.show(done, total, trio.current_time() - begun)

    async with open_store(load(str(gateway.config))) as store:
        half = size.dead // 2
        backlog = [
            *spread("d{}.refused.example", 10, half),
            *spread("d{}.silent.example", 10, size.dead - half),
            *spread("d{}.slow.example", 10, size.slow),
        ]
        await fill(store, backlog, show=show)
        await wait_until_quiet(store)
    await trio.sleep(_SETTLING)


def _check_backlog(gateway: Gateway, size: Size) -> None:
    """It must have been there all the time, or it was no obstacle."""
    queued = gateway.read_ledger().queued
    if queued < 0.9 * (size.dead + size.slow):
        raise BenchFailed(f"only {queued:,} of the backlog are left: it was not in the way")


def _median(rounds: list[Round], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in rounds))
