"""Limits hold over all workers together, by what the host counts."""

from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import workers.rounds
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, Works, make_config, open_works

_HALVES = (("a",), ("b",))


@asynccontextmanager
async def open_two(
    server: Server, base: Path, host: ScriptedHost, **tables: Any
) -> AsyncIterator[list[Works]]:
    """Two workers with a source each, which know of each other."""
    config = make_config(
        base,
        routes={"y.test": [host.make_host()]},
        addresses={name: SOURCES[name] for name in "ab"},
        tables=tables,
    )
    async with AsyncExitStack() as stack:
        works = [
            await stack.enter_async_context(open_works(server, base, config=config, names=names))
            for names in _HALVES
        ]
        with trio.fail_after(5):
            while not all(len(one.pool.desk.find_weights("default")) == 2 for one in works):  # noqa: ASYNC110
                await trio.sleep(0.02)
        yield works


@pytest.fixture(autouse=True)
def quick_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.rounds, "ANNOUNCE", 0.1)


def find_most(times: Sequence[float], seconds: float) -> int:
    """Return the most of ``times`` in any window of so many seconds."""
    times = sorted(times)
    return max(bisect_left(times, first + seconds) - n for n, first in enumerate(times))


async def finish(works: Sequence[Works]) -> None:
    for one in works:
        await one.finish()
    works[0].check()


@pytest.mark.parametrize("limit", [1, 3])
async def test_connections_to_a_site(server: Server, tmp_path: Path, limit: int) -> None:
    site = {"name": "small", "domains": ["y.test"], "connections": limit}
    async with open_host() as host:
        async with open_two(server, tmp_path, host, site=[site]) as works:
            await works[0].post_many(400)
            await works[0].wait_for(delivered=400, queued=0)
            await finish(works)
    assert host.most <= limit
    # Both have a part in it; one does not sit on all of them. Of a single one it may.
    assert limit == 1 or set(host.clients) == {SOURCES["a"], SOURCES["b"]}


async def test_connections_of_each_source(server: Server, tmp_path: Path) -> None:
    site = {"name": "small", "domains": ["y.test"], "source": {"connections": 2}}
    async with open_host() as host:
        async with open_two(server, tmp_path, host, site=[site]) as works:
            await works[0].post_many(300)
            await works[0].wait_for(delivered=300, queued=0)
            await finish(works)
    assert host.most <= 4


async def test_a_lease_whose_worker_has_died_ends(server: Server, tmp_path: Path) -> None:
    site = {"name": "small", "domains": ["y.test"], "connections": 1}
    async with open_host(".1 silence") as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "tables": {"site": [site]}}
        async with open_works(server, tmp_path, claim="1s", **settings) as works:
            await works.post()
            await host.wait_for(1)
        async with open_works(server, tmp_path, claim="1s", **settings) as works:
            await works.wait_for(delivered=1, queued=0, unknown=1, seconds=8)
            await works.finish()
            works.check()


async def test_rate_of_a_site(server: Server, tmp_path: Path) -> None:
    site = {"name": "slow", "domains": ["y.test"], "rate": "50/s"}
    async with open_host() as host:
        async with open_two(server, tmp_path, host, site=[site]) as works:
            start = trio.current_time()
            await works[0].post_many(120)
            await works[0].wait_for(delivered=120, queued=0)
            await finish(works)
    burst = works[0].pool.desk.router.sites.find("slow").rates[0].burst
    # What was granted at the end of one second may arrive at the beginning of the next.
    assert find_most(host.times, 1.0) <= 50 + burst + 5
    assert find_most(host.times, 2.0) <= 100 + burst + 5
    # Not from the first arrival, which may be late: its session had to be opened.
    assert host.times[-1] - start >= (120 - burst) / 50 - 0.05
    assert host.times[-1] - host.times[0] <= (120 - burst) / 50 + 1


async def test_rate_of_each_source(server: Server, tmp_path: Path) -> None:
    site = {"name": "slow", "domains": ["y.test"], "source": {"rate": "25/s"}}
    async with open_host() as host:
        async with open_two(server, tmp_path, host, site=[site]) as works:
            await works[0].post_many(100)
            await works[0].wait_for(delivered=100, queued=0)
            await finish(works)
    burst = works[0].pool.desk.router.sites.find("slow").source_rates[0].burst
    for address in (SOURCES["a"], SOURCES["b"]):
        pairs = zip(host.times, host.messages, strict=True)
        times = [time for time, message in pairs if message.client == address]
        assert find_most(times, 1.0) <= 25 + burst + 3
        assert len(times) > 30


async def test_rate_of_a_tenant(server: Server, tmp_path: Path) -> None:
    """Over all its sites; another tenant's mail passes."""
    tenants = [
        {"name": "acme", "domains": ["acme.example"], "rate": "40/s"},
        {"name": "other", "domains": ["other.example"]},
    ]
    async with open_host() as host:
        async with open_two(server, tmp_path, host, tenant=tenants) as works:
            start = trio.current_time()
            await works[0].post_many(120)
            await works[0].post_many(50, tenant="other", sender=b"o@other.example")
            await works[0].wait_for(delivered=170, queued=0)
            assert trio.current_time() - start < 6  # 2.8 s, were all the rest free
            await finish(works)
    (rate,) = works[0].config.tenant[0].rate.windows  # type: ignore[union-attr]
    times = {
        sender: [
            time
            for time, message in zip(host.times, host.messages, strict=True)
            if message.sender.startswith(sender)
        ]
        for sender in (b"alice@", b"o@")
    }
    assert find_most(times[b"alice@"], 1.0) <= 40 + rate.burst + 5
    assert times[b"alice@"][-1] - start >= (120 - rate.burst) / 40 - 0.05
    assert times[b"o@"][-1] - times[b"alice@"][0] < 1.5
