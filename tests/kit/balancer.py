"""HAProxy as a balancer in front of a gateway: it tells the client's address in a PROXY header."""

import subprocess

from tests.kit.egress import find_program
from tests.kit.housed import Housed

_CONFIG = """
defaults
    mode tcp
    retries 0
    timeout connect 5s
    timeout client 10s
    timeout server 10s
listen in
    bind 127.0.0.1:{port}
    source {source}
    server gateway 127.0.0.1:{gateway} {header}
"""


class Balancer(Housed):
    """Listens on ``port``, passes on to a gateway's port. Also a context manager.

    ``source``: the address that it comes from. ``header``: "send-proxy" or "send-proxy-v2".
    """

    name = "haproxy"

    def __init__(self, gateway: int, *, source: str, header: str) -> None:
        super().__init__("balancer-")
        self._config = self.directory / "haproxy.cfg"
        self._config.write_text(
            _CONFIG.format(port=self.port, source=source, gateway=gateway, header=header)
        )

    def _launch(self) -> subprocess.Popen[bytes]:
        program = find_program("haproxy")
        assert program is not None, "haproxy is not installed"
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [program, "-db", "-q", "-f", str(self._config)], stdout=output, stderr=output
            )
