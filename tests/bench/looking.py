"""Looking: what does it cost the mail when somebody looks, and how long does an answer take?

One ``outgate up`` with the admin service, a million deliveries in one queue whose host refuses
connections. Mail to a hundred healthy domains at full speed, in turns with the admin service stopped
(SIGSTOP), and with it running and asked four times a second (tests/bench/looker.py).
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio

from relay.config import load
from tests.bench.filling import fill, wait_until_quiet
from tests.bench.process import read, tree
from tests.bench.progress import Progress
from tests.bench.promise import Promise
from tests.bench.system import BenchFailed
from tests.bench.visits import HOSTS, Visits, find_rate, name_routes, write_routes
from tests.kit.gateway import Gateway
from tests.kit.ports import find_free_port
from tests.kit.tally import Tally, find_percentile
from workers.cli.asking import open_store

_ROOT = Path(__file__).parents[2]
_THROUGHPUT, _LONGEST = 0.95, 0.2  # of what it is without; seconds, 99th percentile
_DOMAIN = "million.refused.example"
_MEMORY = 'max_memory = "6GiB"'  # bodies are in the store's memory
_GRACE = 'grace = "2s"'
_SETTLING = 5.0
_CATCHING_UP, _IDLE = 60, 0.1  # seconds at most; of a core


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    queued: int = 1_000_000
    warm: int = 4_000
    messages: int = 12_000  # of a round
    rounds: int = 6  # some three hundred answers in all


QUICK = Size(queued=10_000, warm=1_000, messages=3_000, rounds=1)


@dataclass(frozen=True, slots=True)
class Looking:
    """Messages a second without and with somebody who looks; seconds of each answer, by path."""

    queued: int
    without: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    answers: dict[str, list[float]] = field(default_factory=dict)

    @property
    def throughput(self) -> float:
        """With to without: medians of the rounds."""
        return statistics.median(self.beside) / statistics.median(self.without)

    @property
    def longest(self) -> float:
        """The 99th percentile over all answers, seconds."""
        return find_percentile([one for took in self.answers.values() for one in took], 0.99)

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        yield Promise(
            f"looked at four times a second: {self.throughput:.2f} x the throughput "
            f"(at least {_THROUGHPUT})",
            self.throughput >= _THROUGHPUT,
        )
        yield Promise(
            f"with {self.queued:,} queued and mail at full speed, answers within "
            f"{self.longest * 1000:.0f} ms (p99; at most {_LONGEST * 1000:.0f})",
            self.longest <= _LONGEST,
        )

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        for name, rates in (("nobody looks", self.without), ("somebody looks", self.beside)):
            yield f"Looking, {name}: " + " ".join(f"{rate:,.0f}" for rate in rates) + " msg/s"
        for path, took in sorted(self.answers.items()):
            p50, p99 = find_percentile(took, 0.5), find_percentile(took, 0.99)
            yield (
                f"  {path}: {len(took)} answers, p50 {p50 * 1000:.0f}, p99 {p99 * 1000:.0f}, "
                f"max {max(took) * 1000:.0f} ms"
            )


def measure_looking(progress: Progress, size: Size) -> Looking:
    """Measure both in turns in one run. Raises BenchFailed."""
    port = find_free_port()
    admin = f'listen = ["127.0.0.1:{port}"]'
    with Tally(*HOSTS) as tally:
        routes = name_routes(tally.port)
        routes["*.refused.example"] = f"127.0.0.1:{find_free_port()}"
        tables = write_routes(routes)
        with Gateway({}, store=_MEMORY, delivery=_GRACE, admin=admin, tables=tables) as gateway:
            found = Looking(size.queued)
            message = trio.run(_fill, gateway, size, progress)
            visits = Visits(gateway, tally, progress)
            visits.send(size.warm)
            for _ in range(size.rounds):
                with _Stopped(gateway):
                    found.without.append(find_rate(visits.send(size.messages)))
                found.beside.append(_visit_beside(visits, size, port, message, found))
            return found


class _Stopped:
    """The admin service does nothing within the block."""

    def __init__(self, gateway: Gateway) -> None:
        pids = [one.pid for one in tree(gateway.pid) if _is_admin(one.pid)]
        if len(pids) != 1:
            raise BenchFailed(
                f"{len(pids)} admin services run; outgate said:\n{gateway.read_output()[-2000:]}"
            )
        (self._pid,) = pids

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGCONT)
        _wait_until_idle(self._pid)


def _wait_until_idle(pid: int) -> None:
    """Wait until it has read all that was told while it was stopped: nobody stops it in life."""
    spent = _read_cpu(pid)
    for _ in range(_CATCHING_UP):
        time.sleep(1)
        before, spent = spent, _read_cpu(pid)
        if spent - before < _IDLE:
            return


def _read_cpu(pid: int) -> float:
    found = read(pid)
    if found is None:
        raise BenchFailed("the admin service has ended")
    return found.cpu


def _is_admin(pid: int) -> bool:
    return b"\0admin\0" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _visit_beside(visits: Visits, size: Size, port: int, message: str, found: Looking) -> float:
    """One round with a looker beside it; returns messages a second."""
    command = [
        sys.executable, "-m", "tests.bench.looker", f"http://127.0.0.1:{port}", "3600", message,
        f"/api/v1/queues/acme/{_DOMAIN}",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as looker:
        try:
            rate = find_rate(visits.send(size.messages))
            looker.send_signal(signal.SIGINT)
            said, _ = looker.communicate(timeout=30)
        finally:
            looker.kill()
    if looker.returncode != 0:
        raise BenchFailed("who looked was not answered")
    for path, took in json.loads(said).items():
        found.answers.setdefault(path, []).extend(took)
    return rate


async def _fill(gateway: Gateway, size: Size, progress: Progress) -> str:
    """Put the queue there, and let the gateway find out what it is; returns a message of it."""
    begun = trio.current_time()

    def show(done: int) -> None:
        progress.show(done, size.queued, trio.current_time() - begun)

    async with open_store(load(str(gateway.config))) as store:
        backlog = (_DOMAIN for _ in range(size.queued))
        (last,) = await fill(store, backlog, octets=512, show=show, keep=1)
        await wait_until_quiet(store)
    await trio.sleep(_SETTLING)
    return last.message_id
