"""A bucket's other end: moto's S3 server, a process of its own on loopback.

    with S3Server() as server:
        make_bucket(server, "mail")
        config = read({"archive": {"s3": server.settings(tmp_path)}}, ...)

What it keeps is in its memory. It believes any key. ``Silent`` is a server that takes connections
and never answers.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.kit.ports import find_free_port
from tests.kit.program import Program

BUCKET = "mail"


def find_obstacle() -> str:
    """Say what is missing, for tests to skip with; "" when nothing is."""
    missing = [name for name in ("boto3", "moto") if find_spec(name) is None]
    return f"needs {' and '.join(missing)}: pip install '.[dev]'" if missing else ""


class S3Server(Program):
    """The server; it has one bucket, which ``fresh`` empties."""

    name = "moto"

    def _launch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MOTO_S3_CUSTOM_ENDPOINTS": ""},
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, base: Path, **more: object) -> dict[str, object]:
        """Return ``[archive.s3]`` for this server; writes a file of credentials."""
        return make_settings(base, self.endpoint, **more)

    def fresh(self) -> None:
        """Make the bucket anew."""
        import httpx2

        with httpx2.Client(trust_env=False) as client:
            client.post(f"{self.endpoint}/moto-api/reset").raise_for_status()
            client.put(f"{self.endpoint}/{BUCKET}").raise_for_status()


def make_settings(base: Path, endpoint: str, **more: object) -> dict[str, object]:
    """Return ``[archive.s3]``; writes a file of credentials."""
    file = base / "s3.credentials"
    file.write_text("testing\ntesting\n")
    return {
        "bucket": BUCKET,
        "endpoint": endpoint,
        "region": "us-east-1",
        "credentials_file": str(file),
        **more,
    }


@contextmanager
def open_silent() -> Iterator[str]:
    """Yield the endpoint of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def find_closed() -> str:
    """Return an endpoint where nobody is."""
    return f"http://127.0.0.1:{find_free_port()}"
