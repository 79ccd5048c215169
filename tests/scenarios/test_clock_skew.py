"""A worker whose clock is five minutes off: leases, rates, retries and expiry go by the store's."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio

import workers.rounds
from relay.store.suspension import Suspension, Suspensions
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, Works, make_config, open_works

_ahead = ContextVar("ahead", default=0.0)  # of the tasks of one worker


@pytest.fixture(autouse=True)
def skewed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    right = time.time
    monkeypatch.setattr(workers.rounds, "ANNOUNCE", 0.1)
    monkeypatch.setattr(time, "time", lambda: right() + _ahead.get())


@asynccontextmanager
async def open_off(
    server: Server, base: Path, skew: float, **settings: Any
) -> AsyncIterator[Works]:
    """Works whose clock is so far ahead: all their tasks inherit our context."""
    _ahead.set(skew)
    async with open_works(server, base, **settings) as works:
        _ahead.set(0.0)
        yield works


@pytest.mark.parametrize("skew", [300.0, -300.0])
async def test_two_workers_agree(server: Server, tmp_path: Path, skew: float) -> None:
    """Two greylisted messages, and a hundred that are shared."""
    async with open_host("\n".join(f"RCPT{n} 451 4.7.1 greylisted" for n in (1, 2))) as host:
        config = make_config(
            tmp_path,
            routes={"y.test": [host.make_host()]},
            addresses={name: SOURCES[name] for name in "ab"},
            expire="10m",
            claim="1s",
        )
        async with (
            open_works(server, tmp_path, config=config, names=("a",)) as right,
            open_off(server, tmp_path, skew, config=config, names=("b",)) as off,
        ):
            with trio.fail_after(5):
                while not all(len(w.pool.desk.find_weights("default")) == 2 for w in (off, right)):  # noqa: ASYNC110
                    await trio.sleep(0.02)
            await off.post_many(100)
            await off.wait_for(delivered=100, queued=0, bounced=0, unknown=0, seconds=8)
            await off.finish()
            await right.finish()
        off.check()
        assert {message.client for message in host.messages} == {SOURCES["a"], SOURCES["b"]}
        assert len([m for m in host.messages if m.recipients]) == 100
    retried = [e["attempt"] for e in off.read_events("delivered") if e["attempt"] > 1]
    assert retried == [2, 2]


@pytest.mark.parametrize("skew", [300.0, -300.0])
async def test_leases_and_suspensions_end_in_their_time(
    server: Server, tmp_path: Path, skew: float
) -> None:
    async with open_host(".1 wait") as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "claim": "1s"}
        async with open_off(server, tmp_path, skew, **settings) as off:
            await off.post()
            await host.wait_for(1)
            await trio.sleep(1.7)  # more than a lease, renewed
            host.gate.set()
            await off.wait_for(delivered=1, unknown=0)

            suspensions = Suspensions(off.store.link)
            until = await suspensions.read_clock() + 1.0
            await suspensions.suspend(Suspension(source="a", until=until))
            await trio.sleep(0.1)
            await off.post()
            await trio.sleep(0.4)
            assert len(host.messages) == 1
            await host.wait_for(2, seconds=3)
            assert await suspensions.read_clock() >= until
            await off.wait_for(delivered=2, queued=0)
            await off.finish()
        off.check()
    assert len(host.messages) == 2
