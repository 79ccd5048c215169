"""A whole ``outgate up`` in a temporary directory: ingress, worker and embedded store."""

import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from relay.config import Config, load
from relay.errors import OutgateError
from tests.kit.housed import Housed
from workers.cli.asking import open_store
from workers.views.status import read_status

_ROOT = Path(__file__).parents[2]

# Everything else has its default, [store] durability and fsync included.
_CONFIG = """\
state_dir = "state"
checks.interval = 0
[store]
{store}
[ingress]
listen = ["127.0.0.1:{port}"]
hostname = "gateway.example.net"
processes = 1
{ingress}
[[tenant]]
name = "acme"
domains = ["acme.example"]
networks = ["127.0.0.0/8"]
{tenant}
[[source]]
name = "a"
address = "127.0.0.11"
ehlo = "a.out.example.net"
[[source]]
name = "b"
address = "127.0.0.12"
ehlo = "b.out.example.net"
[[source]]
name = "c"
address = "127.0.0.13"
ehlo = "c.out.example.net"
[pool.default]
a = 1
b = 1
c = 1
[delivery]
{delivery}
[admin]
{admin}
{routes}
{tables}
"""
_ROUTE = '[[route]]\ndomains = ["{pattern}"]\nhosts = ["127.0.0.1:{port}"]\n'


@dataclass(frozen=True, slots=True)
class Ledger:
    """What ``outgate status`` says of messages from outside, counted in recipients."""

    accepted: int
    delivered: int
    bounced: int
    queued: int
    unknown: int

    @property
    def is_closed(self) -> bool:
        """Nothing waits, and everything accepted has ended in one of two ways."""
        return self.queued == 0 and self.accepted == self.delivered + self.bounced


class Gateway(Housed):
    """One running ``outgate up``; also a context manager.

    ``routes`` maps a recipient domain (or pattern) to a port on 127.0.0.1. ``ingress``, ``store``,
    ``delivery``, ``admin`` and ``tenant`` are lines for those tables, ``tables`` whole tables, all TOML. The
    tenant is acme.example, from loopback; the sources are 127.0.0.11 to 13.
    """

    name = "outgate up"
    starts_within = 30.0
    stops_within = 45.0  # its children end first

    def __init__(
        self,
        routes: Mapping[str, int],
        *,
        ingress: str = "",
        store: str = "",
        delivery: str = "processes = 1",
        tenant: str = "",
        admin: str = "enabled = false",
        tables: str = "",
    ) -> None:
        super().__init__("outgate-")
        self.config = self.directory / "outgate.toml"
        self.config.write_text(
            _CONFIG.format(
                port=self.port,
                ingress=ingress,
                store=store,
                delivery=delivery,
                tenant=tenant,
                admin=admin,
                tables=tables,
                routes="".join(_ROUTE.format(pattern=d, port=p) for d, p in routes.items()),
            )
        )

    def _launch(self) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "up", "-c", self.config],
                cwd=_ROOT, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, process_group=0,
            )  # fmt: skip

    def read_ledger(self) -> Ledger:
        """Look at what ``outgate status`` shows. Raises RuntimeError where that would fail.

        A process for each look would take half a second of what the gateway needs to go on.
        """
        with ThreadPoolExecutor(1) as thread:  # the caller may be in an event loop
            try:
                state = thread.submit(trio.run, _read_status, load(str(self.config))).result()
            except OutgateError as error:
                raise RuntimeError(f"outgate status would fail: {error}") from error
        if not state["adds_up"]:
            raise RuntimeError(f"outgate status would fail: {state}")
        return Ledger(**{name: state["ledger"][name] for name in Ledger.__slots__})

    def wait_ledger(self, accepted: int, *, seconds: float = 20) -> Ledger:
        """Wait until ``accepted`` recipients are on the ledger and it closes; return the last."""
        deadline = time.monotonic() + seconds
        while True:
            ledger = self.read_ledger()
            if (ledger.accepted >= accepted and ledger.is_closed) or time.monotonic() > deadline:
                return ledger
            time.sleep(0.1)


async def _read_status(config: Config) -> dict[str, Any]:
    async with open_store(config) as store:
        return await read_status(store, config)
