"""A Cluster of real servers on loopback: masters that share the slots, and replicas.

with open_cluster() as cluster:
    link = make_link(cluster.url, timeout=1)
    cluster.find_master(slot).kill()
    cluster.wait_until_well()
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from relay.store.keys import SHARDS, make_tag
from tests.kit.ports import find_free_port
from tests.kit.redis import Server
from tests.kit.sentinel import wait_until

SLOTS = 16_384
NODE_TIMEOUT = 1500  # ms without an answer after which nodes take another for dead
TAG_SLOTS = [key_slot(make_tag(shard).encode()) for shard in range(SHARDS)]


class Cluster:
    """``masters`` servers that have slots, and for each of them so many replicas."""

    def __init__(self, base: Path, masters: int, replicas: int, **settings: str) -> None:
        self.masters = masters
        self.servers = []
        for number in range(masters * (1 + replicas)):
            (base / f"n{number}").mkdir()
            self.servers.append(
                Server(
                    base / f"n{number}",
                    port=str(find_free_port()),
                    **{
                        "cluster_enabled": "yes",
                        "cluster_port": str(find_free_port()),
                        "cluster_node_timeout": str(NODE_TIMEOUT),
                        # Whoever was away for long may be elected all the same: tests are impatient.
                        "cluster_replica_validity_factor": "0",
                    }
                    | settings,
                )
            )

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{hosts}"

    @property
    def socket(self) -> Path:
        """Skip the test: it puts something between the link and the socket of its one server."""
        pytest.skip("a Cluster has many sockets; tests/relay/store/test_cluster_link.py cuts them")

    def start(self) -> None:
        """Start everybody, introduce them, deal out the slots."""
        for server in self.servers:
            server.start()
        for number, server in enumerate(self.servers):
            # Different from the start, or they would have to find out.
            self.command(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        first, *others = self.servers
        for server in others:
            bus = server.settings["cluster-port"]
            self.command(first, "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        for number, server in enumerate(self.servers[: self.masters]):
            begin, end = (SLOTS * (number + n) // self.masters for n in (0, 1))
            self.command(server, "CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        wait_until(lambda: all(map(self._knows_all, self.servers)), "the nodes do not meet")
        for number, server in enumerate(self.servers[self.masters :]):
            master = self.find_id(self.servers[number % self.masters])
            self.command(server, "CLUSTER", "REPLICATE", master)
        self.wait_until_well()

    def _knows_all(self, server: Server) -> bool:
        with server.client() as client:
            return int(client.cluster("info")["cluster_known_nodes"]) == len(self.servers)

    def wait_until_well(self, *, seconds: float = 90) -> None:
        """Wait until all that run say that the Cluster is well, and replicas are up to date."""
        wait_until(
            lambda: all(is_well(server) for server in self.servers if server.process is not None),
            "the Cluster is not well",
            seconds=seconds,
        )

    @staticmethod
    def command(server: Server, *parts: object) -> object:
        with server.client() as client:
            return client.execute_command(" ".join(map(str, parts[:2])), *parts[2:])  # type: ignore[no-untyped-call]

    def find_id(self, server: Server) -> str:
        return str(self.command(server, "CLUSTER", "MYID").decode())  # type: ignore[attr-defined]

    def find_master(self, slot: int, *, but: Server | None = None) -> Server:
        """Return who has a slot, as another than ``but`` says."""
        asked = next(one for one in self.servers if one.process is not None and one is not but)
        with asked.client() as client:
            for first, last, master, *_ in client.execute_command("CLUSTER SLOTS"):
                if first <= slot <= last:
                    return next(server for server in self.servers if server.port == master[1])
        raise AssertionError(f"slot {slot} is nowhere")

    def find_replica(self, master: Server) -> Server:
        """Return a replica of a master."""
        for server in self.servers:
            if server is not master and server.process is not None:
                with server.client() as client:
                    role = client.role()
                if role[0] == b"slave" and role[2] == master.port:
                    return server
        raise AssertionError("it has no replica")

    def wait_for_failover(self, old: Server, slot: int) -> Server:
        """Wait until somebody else has a slot; return who."""
        wait_until(lambda: self.find_master(slot, but=old) is not old, "there is no fail-over")
        return self.find_master(slot, but=old)

    def client(self) -> redis.RedisCluster:
        """Return redis-py's own client, which finds every key wherever it is."""
        server = next(one for one in self.servers if one.process is not None)
        return redis.RedisCluster(host="127.0.0.1", port=server.port)

    def fresh(self) -> None:
        """Empty all of it."""
        for server in self.servers[: self.masters]:
            server.fresh()

    # -- a slot that moves ----------------------------------------------------------------------

    def begin_move(self, slot: int, source: Server, target: Server) -> None:
        """From now on a slot is on the way."""
        self.command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.find_id(source))
        self.command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.find_id(target))

    def move_keys(self, slot: int, source: Server, target: Server, *, most: int = 1 << 30) -> int:
        """Move up to so many keys of a slot; return how many there were."""
        moved = 0
        with source.client() as client:
            while moved < most:
                keys = client.execute_command("CLUSTER GETKEYSINSLOT", slot, min(10, most - moved))
                if not keys:
                    break
                client.execute_command(
                    *("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS"), *keys
                )
                moved += len(keys)
        return moved

    def end_move(self, slot: int, source: Server, target: Server) -> None:
        """All its keys have moved: tell everybody who has it."""
        identity = self.find_id(target)
        for server in (target, source, *self.servers):
            with contextlib.suppress(redis.RedisError):  # replicas hear of it from their masters
                self.command(server, "CLUSTER", "SETSLOT", slot, "NODE", identity)

    def stop(self) -> None:
        """End everybody."""
        for server in self.servers:
            if server.process is not None:
                server.kill()


def is_well(server: Server) -> bool:
    """Tell whether a node says that the Cluster is well and, a replica, that it follows."""
    with server.client() as client:
        if client.cluster("info")["cluster_state"] != "ok":
            return False
        info = client.info("replication")
        return info["role"] == "master" or info["master_link_status"] == "up"


@contextlib.contextmanager
def open_cluster(*, masters: int = 3, replicas: int = 1, **settings: str) -> Iterator[Cluster]:
    """Run a Cluster until the block ends."""
    with tempfile.TemporaryDirectory(prefix="og-", dir=os.environ.get("TMPDIR", "/tmp")) as name:
        cluster = Cluster(Path(name), masters, replicas, **settings)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
