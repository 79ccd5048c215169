"""A worker is cut off from the store until the leases of its connections have ended.

Then others may open as many as the site allows. What it can close without harm is closed by then:
all but sessions with a message that may be taken already, or counts as taken. Those wait for their
answer: a connection too many is better than a message too many, or none.
"""

import copy
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.config import Config
from tests.kit.peer import SMALL, ScriptedHost, open_host
from tests.kit.ports import count_open
from tests.kit.proxy import Proxy, open_proxy
from tests.kit.redis import Server, open_server
from tests.kit.works import SOURCES, Works, make_config, open_works

CLAIM = 2.0  # s
SITE = {"name": "small", "domains": ["y.test"], "connections": 1}
LARGE = b"Subject: x\r\n\r\n" + b"%s\r\n" % (b"x" * 76) * 80_000  # more than sockets hold
_WINDOW = 65536  # octets
_LOOK = 0.05


@pytest.fixture
def way(server: Server) -> Iterator[Proxy]:
    """The way to the store of the worker that is cut off."""
    with open_proxy(server.socket) as proxy:
        yield proxy


async def wait_until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(_LOOK)


def configure(
    base: Path, host: ScriptedHost, *, sites: Sequence[object] = (SITE,), **delivery: Any
) -> Config:
    return make_config(
        base,
        routes={"y.test": [host.make_host()]},
        addresses={name: SOURCES[name] for name in "ab"},
        claim=f"{CLAIM}s",
        tables={"site": list(sites), "store": {"timeout": "1s"}},
        **delivery,
    )


@asynccontextmanager
async def open_both(
    server: Server, base: Path, way: Proxy, config: Config
) -> AsyncIterator[tuple[Works, Works]]:
    """Two workers, of which the second does nothing yet; the first reaches the store over ``way``."""
    far = copy.copy(server)
    far.url = way.url
    async with (
        open_works(far, base, config=config, names="a") as cut,
        open_works(server, base, config=config, names="b", running=False) as other,
    ):
        yield cut, other


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "MAIL", "DATA"])
async def test_what_is_before_the_dot_is_closed_and_goes_elsewhere(
    server: Server, tmp_path: Path, way: Proxy, step: str
) -> None:
    async with open_host(f"{step}1 wait", window=_WINDOW) as host:
        config = configure(tmp_path, host)
        async with (
            open_both(server, tmp_path, way, config) as (cut, other),
            trio.open_nursery() as nursery,
        ):
            await cut.post()
            await host.wait_until(lambda: host.counts[step] == 1)
            way.cut_off()
            nursery.start_soon(other.run)
            await other.wait_for(delivered=1, queued=0)
            assert count_open(host.port) <= 1
            assert [message.client for message in host.messages] == [SOURCES["b"]]
            host.gate.set()

            way.away = False  # and it takes part again
            await cut.post()
            await other.wait_for(delivered=2, queued=0)
            # That its attempt began is on record, unless the cut was faster; then it counts as unknown.
            unknown = (await other.store.read_ledger())["ledger"]["unknown"]
            assert unknown <= int(step in ("MAIL", "DATA"))
            await cut.finish()
            await other.finish()
        other.check()
    assert len(host.messages) == 2
    assert cut.read_events("deferred") == [], "it was nobody's fault, and no attempt"


async def test_a_long_message_is_not_finished_beside_its_second_copy(
    server: Server, tmp_path: Path, way: Proxy
) -> None:
    async with open_host("CONTENT1 wait", window=_WINDOW) as host:
        host.discard = True
        config = configure(tmp_path, host)
        async with (
            open_both(server, tmp_path, way, config) as (cut, other),
            trio.open_nursery() as nursery,
        ):
            await cut.post_in_parts(LARGE)
            await host.wait_until(lambda: host.begun == 1)
            way.cut_off()
            nursery.start_soon(other.run)
            await other.wait_for(delivered=1, queued=0, unknown=1)
            assert count_open(host.port) <= 1
            host.gate.set()
            await host.wait_until(lambda: "eof" in host.ends)
            way.away = False
            await cut.finish()
            await other.finish()
        other.check()
    assert [message.client for message in host.messages] == [SOURCES["b"]]


async def test_what_counts_as_taken_is_finished(server: Server, tmp_path: Path, way: Proxy) -> None:
    """Others have written down that it is delivered: it must not be closed in the middle of it."""
    async with open_host("CONTENT1 wait", window=_WINDOW) as host:
        host.discard = True
        config = configure(tmp_path, host, unknown_outcome="assume-delivered")
        async with (
            open_both(server, tmp_path, way, config) as (cut, other),
            trio.open_nursery() as nursery,
        ):
            await cut.post(content=LARGE)
            await host.wait_until(lambda: host.begun == 1)
            way.cut_off()
            nursery.start_soon(other.run)
            await other.wait_for(delivered=1, queued=0, unknown=1)
            await trio.sleep(CLAIM / 2)
            assert count_open(host.port) == 1
            host.gate.set()
            await host.wait_for(1)
            await wait_until(lambda: count_open(host.port) == 0)
            way.away = False
            await cut.finish()
            await other.finish()
        other.check()
    assert [message.client for message in host.messages] == [SOURCES["a"]]


async def test_an_answer_that_cannot_be_told_keeps_no_connection(
    server: Server, tmp_path: Path, way: Proxy
) -> None:
    async with open_host(". wait", window=_WINDOW) as host:
        config = configure(tmp_path, host, unknown_outcome="hold")
        async with open_both(server, tmp_path, way, config) as (cut, _):
            await cut.post()
            await host.wait_for(1)
            way.cut_off()
            host.gate.set()
            await trio.sleep(CLAIM / 4)
            assert count_open(host.port) == 1, "it may be used again, if the store is back soon"
            await wait_until(lambda: count_open(host.port) == 0)
            way.away = False
            await cut.wait_for(delivered=1, queued=0, unknown=0)
            await cut.post()
            await cut.wait_for(delivered=2)
            await cut.finish()
        cut.check()
    assert host.sessions == 2
    assert len(host.messages) == 2


async def test_who_has_sent_the_dot_waits_for_its_answer(tmp_path: Path) -> None:
    """The store is away from all: nobody sends a second copy, if only the first has its answer."""
    with open_server() as server:
        async with open_host(".1 wait", window=_WINDOW) as host:
            config = configure(tmp_path, host)
            async with open_works(server, tmp_path, config=config, names="a") as works:
                await works.post()
                await host.wait_for(1)
                server.pause()
                await trio.sleep(1.5 * CLAIM)
                assert count_open(host.port) == 1, "closed, it would be sent twice"
                host.gate.set()
                await wait_until(
                    lambda: count_open(host.port) == 0
                )  # its lease is over: nothing more is begun
                server.go_on()
                await works.wait_for(delivered=1, queued=0, unknown=0)
                await works.post(content=b"X-Mark: 2\r\n" + SMALL)
                await works.wait_for(delivered=2, unknown=0)
                await works.finish()
            works.check()
    assert len(host.messages) == 2
    assert host.sessions == 2


async def test_a_session_without_work_is_closed(server: Server, tmp_path: Path, way: Proxy) -> None:
    async with open_host() as host:
        config = configure(tmp_path, host, sites=(), idle="1m")
        async with open_both(server, tmp_path, way, config) as (cut, _):
            await cut.post()
            await cut.wait_for(delivered=1)
            way.cut_off()
            await wait_until(lambda: count_open(host.port) == 0)
            way.away = False
            await cut.post()
            await cut.wait_for(delivered=2)
            assert [event["attempt"] for event in cut.read_events("delivered")] == [1, 1]
            await cut.finish()
        cut.check()
    assert host.sessions == 2
