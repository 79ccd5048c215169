"""Mail to a hundred healthy domains, each with a host of its own, while something else goes on.

A process of its own sends (tests/bench/sender.py), the tally is the hosts.
"""

import subprocess
import sys
import time
from pathlib import Path

from tests.bench.progress import Progress
from tests.bench.system import BenchFailed
from tests.kit.gateway import Gateway
from tests.kit.tally import Tally, select_messages

_ROOT = Path(__file__).parents[2]
HEALTHY = 100  # domains, and hosts
HOSTS = tuple(f"127.0.1.{number + 1}" for number in range(HEALTHY))
_STALL = 30.0  # seconds without an arrival: give up


def name_routes(port: int) -> dict[str, str]:
    """Return domain -> host of the healthy ones."""
    return {f"d{number}.well.example": f"{host}:{port}" for number, host in enumerate(HOSTS)}


def write_routes(routes: dict[str, str]) -> str:
    """Return the tables for ``Gateway``."""
    return "\n".join(
        f'[[route]]\ndomains = ["{domain}"]\nhosts = ["{host}"]' for domain, host in routes.items()
    )


def find_rate(arrived: list[tuple[float, float]]) -> float:
    """Return messages a second, from the first one sent to the last one there."""
    return len(arrived) / (max(at for at, _ in arrived) - min(sent for _, sent in arrived))


class Visits:
    """Sends to the healthy domains, and looks at what arrives."""

    def __init__(self, gateway: Gateway, tally: Tally, progress: Progress) -> None:
        self._gateway = gateway
        self._tally = tally
        self._progress = progress

    def send(self, count: int, *, pace: float = 0) -> list[tuple[float, float]]:
        """Send, and return for each message when it arrived and when it was sent."""
        domains = [f"d{number}.well.example" for number in range(HEALTHY)]
        begun = time.monotonic()
        first = len(self._tally.records)
        arrived: list[tuple[float, float]] = []
        command = [
            sys.executable, "-m", "tests.bench.sender",
            str(self._gateway.port), str(count), str(pace), *domains,
        ]  # fmt: skip
        with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL) as sender:
            try:
                latest = begun
                while len(arrived) < count:
                    time.sleep(0.05)
                    # The throttled site's mail says nothing of when it was sent.
                    fresh = [one for one in select_messages(self._tally.read()) if one.sent]
                    arrived += [(one.time, one.sent) for one in fresh]
                    now = time.monotonic()
                    latest = now if fresh else latest
                    self._progress.show(len(arrived), count, now - begun)
                    if sender.poll() or now - latest > _STALL:
                        raise BenchFailed(
                            f"{len(arrived)} of {count} messages arrived, of "
                            f"{len(self._tally.records) - first} events at the sink; "
                            f"outgate said:\n{self._gateway.read_output()[-3000:]}"
                        )
            finally:
                sender.kill()
        return arrived
