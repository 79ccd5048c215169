"""Idle: what ``outgate up`` uses while ten thousand queues wait for a gate, and nothing happens."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from relay.config import load
from tests.bench.filling import fill, spread, wait_until_quiet
from tests.bench.process import count_cpu, name_outgate
from tests.bench.progress import Progress
from tests.bench.promise import Promise
from tests.bench.system import BenchFailed
from tests.kit.gateway import Gateway
from tests.kit.tally import Tally
from workers.cli.asking import open_store

_SITES = 100
_LIMIT = 0.03  # of a core
_SETTLING = 10.0  # seconds: what each site may have is used up, sessions end


@dataclass(frozen=True, slots=True)
class Gated:
    """CPU in ``seconds``, by process."""

    queues: int
    seconds: float
    cpu: dict[str, float]  # seconds

    @property
    def share(self) -> float:
        """Of one core."""
        return sum(self.cpu.values()) / self.seconds

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        yield Promise(
            f"{self.queues:,} queues behind a gate: {self.share:.1%} of a core "
            f"(less than {_LIMIT:.0%})",
            self.share < _LIMIT,
        )

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        yield f"Idle, {self.queues:,} queues behind a gate, {self.seconds:.0f} s of CPU: " + (
            ", ".join(f"{name} {seconds:.2f}" for name, seconds in sorted(self.cpu.items()))
        )


def measure_gated(progress: Progress, *, queues: int, seconds: float) -> Gated:
    """Fill queues of sites that may have one message a day, and look. Raises BenchFailed."""
    with Tally() as tally, Gateway({"*": tally.port}, tables=_configure()) as gateway:
        trio.run(_fill, gateway, queues)
        before = count_cpu(gateway.pid, name_outgate)
        begun = time.monotonic()
        while (done := time.monotonic() - begun) < seconds:
            progress.show(int(done), int(seconds), done)
            time.sleep(0.5)
        spent: Counter[str] = count_cpu(gateway.pid, name_outgate)
        spent.subtract(before)
        queued = gateway.read_ledger().queued
    if queued < queues - _SITES:  # each may have had one
        raise BenchFailed(f"only {queued:,} of {queues:,} wait: the gates did not hold them")
    return Gated(queues, done, dict(spent))


def _configure() -> str:
    return "\n".join(
        f'[[site]]\nname = "s{number}"\ndomains = ["*.s{number}.example"]\nrate = "1/d"'
        for number in range(_SITES)
    )


async def _fill(gateway: Gateway, queues: int) -> None:
    each = queues // _SITES
    async with open_store(load(str(gateway.config))) as store:
        for number in range(_SITES):
            await fill(store, spread(f"d{{}}.s{number}.example", each, each))
        await wait_until_quiet(store)
    await trio.sleep(_SETTLING)
