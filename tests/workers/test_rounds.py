"""Rounds: signs of life for what a worker holds, shard by shard, and what comes of a silent store."""

from pathlib import Path

import trio

from relay.store.keys import find_shard, make_key
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.works import Works, open_works

CLAIM = 1.5  # s


def read_ends(server: Server, key: str) -> float:
    """Return until when the only lease, or claim, in a set is good: seconds from now."""
    with server.client() as client:
        seconds, microseconds = client.time()
        ((_, ends),) = client.zrange(key, 0, -1, withscores=True)
        return float(ends) / 1000 - seconds - microseconds / 1e6


def find_slots(works: Works, host: ScriptedHost) -> str:
    (site,) = {site for _, site in works.pool.berths}
    return make_key(find_shard(site), "slots", site)


async def test_a_shard_that_cannot_be_renewed_lets_nothing_else_lapse(
    server: Server, tmp_path: Path
) -> None:
    """In a Cluster one master may be away. Here one shard's claims are of a kind that no script knows."""
    assert find_shard("x.test") != find_shard("y.test")
    async with open_host(". wait") as host:
        routes = {domain: [host.make_host()] for domain in ("x.test", "y.test")}
        tables = {"site": [{"name": "one", "domains": ["x.test", "y.test"], "connections": 2}]}
        async with open_works(
            server, tmp_path, routes=routes, tables=tables, claim=f"{CLAIM}s"
        ) as works:
            await works.post(b"bob@x.test")
            await host.wait_for(1)
            await works.post(b"bob@y.test")
            with trio.fail_after(10):
                while len(works.pool.held) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            with server.client() as client:
                client.set(make_key(find_shard("x.test"), "claims"), "nonsense")
            await trio.sleep(1.5 * CLAIM)
            assert read_ends(server, make_key(find_shard("y.test"), "claims")) > 0
            assert read_ends(server, find_slots(works, host)) > 0
