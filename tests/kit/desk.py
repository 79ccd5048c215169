"""One ``outgate admin`` on a store of its own or somebody else's: what operators look at."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.kit.housed import Housed

_ROOT = Path(__file__).parents[2]
_CONFIG = """\
state_dir = "state"
checks.interval = 0
[store]
url = "{store}"
timeout = "1s"
[admin]
listen = ["127.0.0.1:{port}"]
{admin}
[ingress]
hostname = "gateway.example.net"
[[tenant]]
name = "acme"
domains = ["acme.example"]
networks = ["127.0.0.0/8"]
[[source]]
name = "a"
address = "127.0.0.11"
ehlo = "a.out.example.net"
[pool.default]
a = 1
"""


class Desk(Housed):
    """A running ``outgate admin`` that looks at ``store``; also a context manager.

    ``token``: who comes without it is not let in.
    """

    name = "outgate admin"
    starts_within = 30.0

    def __init__(self, store: str, *, token: str = "") -> None:
        super().__init__("outgate-desk-")
        (self.directory / "state").mkdir()
        admin = ""
        if token:
            (self.directory / "tokens").write_text(f"{token}\n")
            admin = 'token_file = "tokens"'
        self.config = self.directory / "outgate.toml"
        self.config.write_text(_CONFIG.format(store=store, port=self.port, admin=admin))

    @property
    def url(self) -> str:
        """Where the dashboard is."""
        return f"http://127.0.0.1:{self.port}/"

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "workers.cli", "admin", "-c", str(self.config)]
        with self.output.open("wb") as output:
            return subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )


def ask(url: str, path: str) -> Any:
    """Return what an admin service answers to GET of ``/api/v1/<path>``."""
    with urllib.request.urlopen(f"{url}api/v1/{path}", timeout=30) as answer:
        return json.load(answer)
