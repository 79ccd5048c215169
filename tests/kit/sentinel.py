"""A master, its replicas, and Sentinels that watch them: all of them real, on loopback.

with open_watched() as watched:
    link = make_link(watched.url, timeout=1)
    watched.find_master().kill()
    watched.wait_for_failover()
"""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from relay.store.binary import find_binary
from tests.kit.ports import find_free_port
from tests.kit.redis import Server

SERVICE = "mail"
_DOWN_AFTER = 700  # ms without an answer after which a Sentinel takes the master for dead


class Sentinel:
    """One Sentinel process."""

    def __init__(self, directory: Path, master: int, quorum: int) -> None:
        self.port = find_free_port()
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir()
        self._file = directory / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\nlogfile {directory}/log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
            f"sentinel parallel-syncs {SERVICE} 1\n"
        )

    def start(self) -> None:
        """Start it; ``client`` tells when it answers."""
        self.process = subprocess.Popen(
            [find_binary().path, str(self._file), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5, decode_responses=True)

    def kill(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Watched:
    """Servers of which one is the master, and the Sentinels that say which."""

    def __init__(self, base: Path, replicas: int, sentinels: int, **settings: str) -> None:
        self.servers = []
        for number in range(1 + replicas):
            (base / f"s{number}").mkdir()
            self.servers.append(Server(base / f"s{number}", port=str(find_free_port()), **settings))
        quorum = sentinels // 2 + 1
        self.sentinels = [
            Sentinel(base / f"w{number}", self.servers[0].port, quorum)
            for number in range(sentinels)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def start(self) -> None:
        """Start everybody, and wait until each Sentinel knows of all others and all replicas."""
        for server in self.servers:
            server.start()
        for server in self.servers[1:]:
            with server.client() as client:
                client.replicaof("127.0.0.1", self.servers[0].port)
        self.wait_for_replicas(len(self.servers) - 1)
        for sentinel in self.sentinels:
            sentinel.start()
        wait_until(lambda: all(map(self._knows_all, self.sentinels)), "the Sentinels do not meet")

    def _knows_all(self, sentinel: Sentinel) -> bool:
        with sentinel.client() as client:
            state = client.sentinel_master(SERVICE)
        return (
            int(state["num-slaves"]) == len(self.servers) - 1
            and int(state["num-other-sentinels"]) == len(self.sentinels) - 1
            and str(state["flags"]) == "master"
        )

    def ask(self) -> int:
        """Return the master's port, by what the first Sentinel that runs says."""
        sentinel = next(one for one in self.sentinels if one.process is not None)
        with sentinel.client() as client:
            return int(client.sentinel_master(SERVICE)["port"])

    def find_master(self) -> Server:
        """Return the master, by what the Sentinels say."""
        port = self.ask()
        return next(server for server in self.servers if server.port == port)

    def wait_for_failover(self, old: Server) -> Server:
        """Wait until all Sentinels name another master, and it says so itself; return it."""

        def has_moved() -> bool:
            for sentinel in self.sentinels:
                if sentinel.process is not None:
                    with sentinel.client() as client:
                        if int(client.sentinel_master(SERVICE)["port"]) == old.port:
                            return False
            with self.find_master().client() as client:
                return bool(client.role()[0] == b"master")

        wait_until(has_moved, "there is no fail-over")
        return self.find_master()

    def wait_for_replicas(self, count: int) -> None:
        """Wait until the master has so many replicas, each of them up to date."""

        def has_replicas() -> bool:
            begun = self.sentinels[0].process is not None
            master = self.find_master() if begun else self.servers[0]
            with master.client() as client:
                info = client.info("replication")
            states = [info.get(f"slave{number}", {}) for number in range(count)]
            return all(
                state.get("state") == "online" and state["offset"] == info["master_repl_offset"]
                for state in states
            )

        wait_until(has_replicas, "the replicas do not follow")

    def stop(self) -> None:
        """End everybody."""
        for sentinel in self.sentinels:
            sentinel.kill()
        for server in self.servers:
            if server.process is not None:
                server.kill()


def wait_until(condition: object, complaint: str, *, seconds: float = 90) -> None:
    """Wait until something holds; whoever does not answer yet counts as no."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if condition():  # type: ignore[operator]
                return
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


@contextlib.contextmanager
def open_watched(*, replicas: int = 2, sentinels: int = 3, **settings: str) -> Iterator[Watched]:
    """Run them all until the block ends."""
    with tempfile.TemporaryDirectory(prefix="og-", dir=os.environ.get("TMPDIR", "/tmp")) as name:
        watched = Watched(Path(name), replicas, sentinels, **settings)
        try:
            watched.start()
            yield watched
        finally:
            watched.stop()
