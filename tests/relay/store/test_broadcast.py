"""Telling events as they happen: only to who listens, in order, bounded, and never waiting."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from relay.counters import Counters
from relay.events import EventLog, decode_event
from relay.store import broadcast
from relay.store.broadcast import Broadcast
from relay.store.keys import EVENTS_CHANNEL
from relay.store.link import Bell, Link
from relay.store.opening import make_link
from tests.kit.cluster import open_cluster
from tests.kit.proxy import Proxy, open_proxy
from tests.kit.redis import Server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PROBES", "_PAUSE"):
        monkeypatch.setattr(broadcast, name, 0.02)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with open_proxy(server.socket) as proxy:
        yield proxy


class Ear:
    """A listener: what it heard, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._news = trio.Event()

    def hear(self, text: str) -> None:
        self.heard.append(text)
        self._news.set()

    async def wait(self, text: str) -> None:
        """Until it has heard this."""
        with trio.fail_after(30):
            while not any(text in one for one in self.heard):
                self._news = trio.Event()
                await self._news.wait()


@asynccontextmanager
async def open_ear(server: Server) -> AsyncIterator[Ear]:
    ear = Ear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bell(server.url, EVENTS_CHANNEL, ear.hear).run)
        await ear.wait("")
        yield ear
        nursery.cancel_scope.cancel()


async def insist(ear: Ear, offer: Broadcast, text: str) -> None:
    """Offer until it is heard: who has just come is not known at once."""
    with trio.fail_after(30):
        while not any(text in one for one in ear.heard):
            offer.offer(text.encode())
            await trio.sleep(0.01)


async def test_who_listens_hears_batches_in_order(link: Link, server: Server) -> None:
    one = Broadcast(link)
    async with open_ear(server) as ear, trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await insist(ear, one, "begin")
        del ear.heard[:]
        for number in range(20):
            one.offer(b'{"n":%d}' % number)
        await ear.wait('{"n":19}')
        nursery.cancel_scope.cancel()

    told = [text for text in ear.heard if text.startswith("{")]
    assert told == [f'{{"n":{number}}}' for number in range(20)]


async def test_without_a_listener_nothing_is_published(link: Link, server: Server) -> None:
    one = Broadcast(link)
    with server.client() as client:
        client.config_resetstat()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            for _ in range(50):
                one.offer(b"x" * 100_000)
                await trio.sleep(0.002)
            nursery.cancel_scope.cancel()

        assert "cmdstat_publish" not in client.info("commandstats")
    assert not one._batches  # nothing is kept for who is not there


async def test_nothing_is_published_to_who_has_gone(link: Link, server: Server) -> None:
    one = Broadcast(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        async with open_ear(server) as ear:
            await insist(ear, one, "begin")
        with trio.fail_after(30):
            while one._listening:
                one.offer(b"{}")
                await trio.sleep(0.01)
        one.offer(b'"for nobody"')
        async with open_ear(server) as ear:
            await insist(ear, one, "again")
            assert '"for nobody"' not in ear.heard
        nursery.cancel_scope.cancel()


async def test_too_much_drops_the_oldest_and_says_so(
    link: Link, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "_MOST_OCTETS", 100)
    counters = Counters()
    one = Broadcast(link, counters=counters)
    async with open_ear(server) as ear, trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await insist(ear, one, "begin")
        for number in range(10):  # at once: the task has no turn meanwhile
            one.offer(b'{"n":%d}\n{"more":"%s"}' % (number, b"x" * 20))
        await ear.wait('{"n":9}')
        nursery.cancel_scope.cancel()

    lines = "\n".join(text for text in ear.heard if text.startswith("{")).split("\n")
    events = [decode_event(line.encode()) for line in lines]
    told = [event["n"] for event in events if "n" in event]
    assert told == list(range(told[0], 10))
    assert [e["count"] for e in events if e.get("event") == "dropped"] == [2 * told[0]]
    assert counters.take()["events_dropped", ()] == 2 * told[0]


async def test_a_batch_that_may_have_been_heard_is_not_told_twice(
    server: Server, proxy: Proxy
) -> None:
    shaky = Link(proxy.url, timeout=5)
    one = Broadcast(shaky)
    async with open_ear(server) as ear, trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await insist(ear, one, "begin")
        proxy.cut_reply(b"doubtful")
        one.offer(b'"doubtful"')
        one.offer(b'"after"')
        await ear.wait('"after"')
        nursery.cancel_scope.cancel()

    text = "\n".join(ear.heard)
    assert text.count("doubtful") == 1
    assert '"event":"dropped","count":1' in text
    await shaky.aclose()


async def test_the_log_is_never_held_up(tmp_path: object, autojump_clock: MockClock) -> None:
    """The store is nowhere: lines are written all the same."""
    link = Link(f"unix://{tmp_path}/nobody", timeout=5)
    one = Broadcast(link)
    log = EventLog(f"{tmp_path}/events", publisher=one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for _ in range(3):
            log.write(b"{}")
            await trio.sleep(10)
        nursery.cancel_scope.cancel()
    await link.aclose()

    with open(f"{tmp_path}/events", "rb") as file:
        assert file.read() == b"{}\n" * 3


async def test_the_log_hands_on_what_it_writes_to_the_last(
    link: Link, server: Server, tmp_path: object
) -> None:
    one = Broadcast(link)
    log = EventLog(f"{tmp_path}/events", publisher=one)
    async with open_ear(server) as ear:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            await insist(ear, one, "begin")
            log.write(b'{"last":1}')
            log.write(b'{"last":2}')
            nursery.cancel_scope.cancel()
        await ear.wait('{"last":1}\n{"last":2}')


@pytest.mark.slow
async def test_who_listens_on_another_node_of_a_cluster_hears_it_too() -> None:
    """A publish counts who listens on its own node; here one at a time does, on each."""
    with open_cluster(replicas=0) as cluster:
        link = make_link(cluster.url, timeout=10)
        one = Broadcast(link)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            for number, server in enumerate(cluster.servers):
                async with open_ear(server) as ear:
                    await insist(ear, one, f"to {number}")
                    one.offer(b'"and on"')
                    await ear.wait("and on")
            nursery.cancel_scope.cancel()
        await link.aclose()
