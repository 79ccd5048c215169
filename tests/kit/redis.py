"""A real Redis-compatible server for tests: the one that ``outgate up`` would run.

One server serves a whole test run; ``fresh`` empties it. Tests about durability, crashes or memory
start one of their own.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from relay.store.binary import find_binary


class Server:
    """A server process with its own directory and socket; with ``port`` also on 127.0.0.1."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.socket = directory / "sock"
        self.port = int(settings.get("port", 0))
        self.url = f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"
        self.settings = {
            "port": "0",
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(directory),
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "save": "",
            "logfile": str(directory / "log"),
            "aof-load-truncated": "yes",
        } | {name.replace("_", "-"): value for name, value in settings.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = [str(find_binary().path)]
        for name, value in self.settings.items():
            arguments += [f"--{name}", value]
        self.process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError):
                with self.client() as client:
                    client.ping()
                    return
            time.sleep(0.01)
        raise RuntimeError(f"the test's server does not answer: see {self.directory}/log")

    def client(self) -> redis.Redis:
        password = self.settings.get("requirepass")
        return redis.Redis(unix_socket_path=str(self.socket), password=password)

    def fresh(self) -> None:
        """Empty the server."""
        with self.client() as client:
            client.flushall()

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def pause(self) -> None:
        """Let it hang: whoever is connected to it hears nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on where it was, with what it believed then."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def open_server(**settings: str) -> Iterator[Server]:
    """Run a server until the block ends."""
    with tempfile.TemporaryDirectory(prefix="og-", dir=os.environ.get("TMPDIR", "/tmp")) as name:
        server = Server(Path(name), **settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()
