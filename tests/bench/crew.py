"""Worker processes of our own choice over one store: ``outgate worker --source NAME``, several.

async with open_crew({"a": 5, "b": 2}, port=tally.port, site='rate = "200/s"') as crew:
    await crew.start("a", "b")
    await crew.post(1000)
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import trio

from relay.config import load
from relay.ready import VARIABLE
from relay.store.embedded import open_embedded
from relay.store.link import Link
from relay.store.queue import Store
from tests.bench.filling import fill, spread
from tests.bench.system import BenchFailed

_ROOT = Path(__file__).parents[2]
_STARTS_WITHIN, _STOPS_WITHIN = 30.0, 15.0
# Workers tell each other every five seconds that they are there, and share by what they know.
_ACQUAINTED = 8.0

# All domains are one site, and its host is the sink.
_CONFIG = """\
state_dir = "state"
[ingress]
hostname = "gateway.example.net"
[[tenant]]
name = "acme"
domains = ["acme.example"]
[delivery]
grace = "5s"
[[route]]
domains = ["*"]
hosts = ["127.0.0.1:{port}"]
[[site]]
name = "counted"
domains = ["*"]
{site}
{sources}
[pool.default]
{weights}
"""
_SOURCE = '[[source]]\nname = "{name}"\naddress = "{address}"\nehlo = "{name}.out.example.net"\n'


class Crew:
    """Workers, and the store that they share. ``addresses``: of each source, by name."""

    def __init__(self, store: Store, url: str, directory: Path, addresses: dict[str, str]) -> None:
        self.store = store
        self.addresses = addresses
        self._url = url
        self._directory = directory
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self, *names: str, nice: Mapping[str, int] | None = None) -> None:
        """Start a worker for each of these sources, and return when they know each other.

        ``nice``: sources whose worker gets less of the processor.
        """
        readers = [self._launch(name, (nice or {}).get(name, 0)) for name in names]
        for name, reader in zip(names, readers, strict=True):
            async with trio.lowlevel.FdStream(reader) as pipe:
                with trio.move_on_after(_STARTS_WITHIN):
                    if await pipe.receive_some(16):
                        continue
            raise BenchFailed(f"worker {name} did not start:\n{self.read_output()}")
        await trio.sleep(_ACQUAINTED)

    def _launch(self, name: str, nice: int) -> int:
        """Start one; return the end of a pipe that something comes from when it is ready."""
        reader, writer = os.pipe()
        with (self._directory / "output").open("ab") as output:
            self._workers[name] = subprocess.Popen(
                [
                    "nice", "-n", str(nice), sys.executable, "-m", "workers.cli", "worker",
                    "-c", str(self._directory / "outgate.toml"), "--source", name,
                ],
                cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "OUTGATE_STORE_URL": self._url, VARIABLE: str(writer)},
                pass_fds=[writer], process_group=0,
            )  # fmt: skip
        os.close(writer)
        return reader

    def halt(self, name: str) -> None:
        """Let a worker stand still, as on a machine that has hung."""
        self._workers[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._workers[name].send_signal(signal.SIGCONT)

    async def post(self, count: int, *, octets: int = 1024) -> None:
        """Put so many messages into the queue, to ten domains of the one site."""
        await fill(self.store, spread("d{}.counted.example", 10, count), octets=octets)

    def read_output(self) -> str:
        """Return what the workers have printed so far."""
        return (self._directory / "output").read_text("utf-8", "replace")

    def stop(self) -> None:
        """End the workers."""
        for worker in self._workers.values():
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
        for worker in self._workers.values():
            try:
                worker.wait(_STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


@contextlib.asynccontextmanager
async def open_crew(weights: Mapping[str, int], *, port: int, site: str) -> AsyncIterator[Crew]:
    """Run an embedded store, and no worker yet. ``site``: lines for its ``[[site]]``, TOML.

    The sources have the addresses 127.0.0.11 and following.
    """
    addresses = {name: f"127.0.0.{11 + number}" for number, name in enumerate(weights)}
    with tempfile.TemporaryDirectory(prefix="outgate-") as name:
        directory = Path(name)
        path = directory / "outgate.toml"
        path.write_text(
            _CONFIG.format(
                port=port,
                site=site,
                sources="".join(_SOURCE.format(name=n, address=a) for n, a in addresses.items()),
                weights="\n".join(f"{name} = {weight}" for name, weight in weights.items()),
            )
        )
        config = load(str(path))
        async with open_embedded(config) as server:
            link = Link(server.url, timeout=config.store.timeout)
            crew = Crew(Store(link, config), server.url, directory, addresses)
            try:
                yield crew
            finally:
                crew.stop()
                await link.aclose()
