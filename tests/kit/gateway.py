"""A whole ``outgate up`` in a temporary directory: ingress, worker and embedded store."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.kit.housed import Housed

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
    """What ``outgate status --json`` says of messages from outside, counted in recipients."""

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
                _command("up", self.config), cwd=_ROOT, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, process_group=0,
            )  # fmt: skip

    def read_ledger(self) -> Ledger:
        """Ask ``outgate status --json``."""
        command = [*_command("status", self.config), "--json"]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False, timeout=30)
        if done.returncode != 0:
            raise RuntimeError(f"outgate status failed: {done.stderr.decode('utf-8', 'replace')}")
        ledger = json.loads(done.stdout)["ledger"]
        return Ledger(**{name: ledger[name] for name in Ledger.__slots__})

    def wait_ledger(self, accepted: int, *, seconds: float = 20) -> Ledger:
        """Wait until ``accepted`` recipients are on the ledger and it closes; return the last."""
        deadline = time.monotonic() + seconds
        while True:
            ledger = self.read_ledger()
            if (ledger.accepted >= accepted and ledger.is_closed) or time.monotonic() > deadline:
                return ledger
            time.sleep(0.1)


def _command(name: str, config: Path) -> list[str]:
    return [sys.executable, "-m", "workers.cli", name, "-c", str(config)]
