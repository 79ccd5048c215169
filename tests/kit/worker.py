"""A worker process of its own, to be killed, stopped and continued.

with open_worker(server, tmp_path, routes={"y.test": 2600}) as worker:
    ...
    worker.kill()
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.redis import Server

_ROOT = Path(__file__).parents[2]


@contextmanager
def open_worker(
    server: Server,
    base: Path,
    *,
    routes: Mapping[str, int],
    addresses: Mapping[str, str],
    names: tuple[str, ...] = (),
    tables: str = "",
    **delivery: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``outgate worker`` until the block ends, then kill it.

    ``routes``: domain -> port; ``tables``: more of the configuration, TOML.
    """
    base.mkdir(exist_ok=True)
    path = base / "worker.toml"
    path.write_text(_write(server, routes, addresses, delivery) + tables)
    chosen = [option for name in names for option in ("--source", name)]
    with subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "worker", "-c", path, *chosen],
        cwd=_ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _write(
    server: Server,
    routes: Mapping[str, int],
    addresses: Mapping[str, str],
    delivery: Mapping[str, Any],
) -> str:
    lines = ['state_dir = "state"', "checks.interval = 0", f"store.url = {json.dumps(server.url)}"]
    lines += ["[delivery]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in delivery.items()]
    lines += ["[[tenant]]", 'name = "acme"', 'domains = ["acme.example"]']
    for name, address in addresses.items():
        lines += ["[[source]]", f'name = "{name}"', f'address = "{address}"']
        lines += [f'ehlo = "{name}.out.test"']
    lines += ["[pool.default]", *(f"{name} = 1" for name in addresses)]
    for domain, port in routes.items():
        lines += ["[[route]]", f'domains = ["{domain}"]', f'hosts = ["127.0.0.1:{port}"]']
    return "\n".join(lines) + "\n"
