"""The link behind Sentinels: who is master is asked at each connection, and believed with care."""

from collections.abc import AsyncIterator, Iterator

import pytest
import redis
import trio

from relay.config import Config
from relay.config.storeurl import read_store_url
from relay.errors import StoreUnavailable
from relay.store.keys import WAKE_CHANNEL
from relay.store.link import Bell, Link
from relay.store.opening import make_link
from relay.store.queue import Store
from relay.store.sentinel import find_master
from tests.kit.audit import check
from tests.kit.messages import EVENT, Claims, make_delivery
from tests.kit.ports import find_free_port
from tests.kit.redis import Server
from tests.kit.sentinel import SERVICE, Watched, open_watched, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.heavy]


@pytest.fixture(scope="module")
def group() -> Iterator[Watched]:
    with open_watched() as watched:
        yield watched


@pytest.fixture
def watched(group: Watched) -> Watched:
    """All of them well, and empty; who is master may have changed."""
    for server in group.servers:
        if server.process is None:
            server.start()
    group.wait_for_replicas(len(group.servers) - 1)
    group.find_master().fresh()
    return group


@pytest.fixture
async def link(watched: Watched) -> AsyncIterator[Link]:
    link = make_link(watched.url, timeout=2)
    yield link
    await link.aclose()


async def insist(link: Link, *parts: str) -> tuple[object, list[StoreUnavailable]]:
    """Ask until there is an answer; return it, and what was heard before."""
    errors = []
    with trio.fail_after(90):
        while True:
            try:
                return await link.call(*parts), errors
            except StoreUnavailable as error:
                errors.append(error)
                await trio.sleep(0.02)


async def test_master_that_was_killed(watched: Watched, link: Link, config: Config) -> None:
    store = Store(link, config)
    for _ in range(20):
        await store.accept([make_delivery()], EVENT, b"hello")
    await link.call("WAIT", 2, 5000)
    old = watched.find_master()

    old.kill()
    _, errors = await insist(link, "SET", "k", "v")

    assert errors[0].executed is True  # it was sent to who died
    assert all(error.executed is False for error in errors[1:])
    new = await trio.to_thread.run_sync(watched.wait_for_failover, old)
    claims = Claims(store)
    taken = 0
    while found := await claims.take():
        for claim in found:
            assert await store.settle(claim, EVENT)
            taken += 1
    assert taken == 20
    await link.call("DEL", "k")
    check(new)


async def test_fail_over_that_was_asked_for(watched: Watched, link: Link) -> None:
    """Without the pause the old master would acknowledge a little more, and nobody would know of it."""
    await link.call("SET", "k", "v")
    old = watched.find_master()

    with old.client() as client:
        client.execute_command("CLIENT PAUSE", 20_000, "WRITE")
        client.execute_command("WAIT", 2, 5000)
    with watched.sentinels[0].client() as client:
        client.execute_command("SENTINEL FAILOVER", SERVICE)
    written, _ = await insist(link, "APPEND", "k", "w")

    assert written == 2
    new = await trio.to_thread.run_sync(watched.wait_for_failover, old)
    with new.client() as client:
        assert client.get("k") == b"vw"


async def test_demoted_master_is_left_at_its_first_refusal(watched: Watched, link: Link) -> None:
    """As it is between its demotion and the moment when Sentinels cut its clients off."""
    await link.call("PING")
    old = watched.find_master()
    other = next(one for one in watched.servers if one is not old)
    with old.client() as client:
        client.replicaof("127.0.0.1", other.port)
    try:
        with pytest.raises(StoreUnavailable, match="READONLY") as caught:
            await link.call("SET", "k", "v")
        assert caught.value.executed is False
        # The Sentinels still name it, and it says itself what it is.
        with pytest.raises(StoreUnavailable, match="no master") as caught:
            await link.call("SET", "k", "v")
        assert caught.value.executed is False
    finally:
        with old.client() as client:
            client.replicaof("NO", "ONE")
    await insist(link, "SET", "k", "v")


async def test_master_that_hangs_and_comes_back(watched: Watched, link: Link) -> None:
    await link.call("SET", "k", "v")
    await link.call("WAIT", 2, 5000)
    old = watched.find_master()

    old.pause()
    try:
        with trio.fail_after(10), pytest.raises(StoreUnavailable) as caught:
            await link.call("INCR", "n")
        assert caught.value.executed is True
        await insist(link, "SET", "k", "w")
        new = await trio.to_thread.run_sync(watched.wait_for_failover, old)
    finally:
        old.go_on()

    assert await link.call("GET", "k") == b"w"
    await trio.to_thread.run_sync(wait_until, lambda: is_replica(old), "it does not come to know")
    with new.client() as client:
        assert client.get("k") == b"w"


def is_replica(server: Server) -> bool:
    with server.client() as client:
        return bool(client.role()[0] != b"master")


async def test_bell_leaves_a_master_that_hangs(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.store.link._RING_IDLE", 0.3)
    heard: list[str] = []
    old = watched.find_master()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bell(watched.url, WAKE_CHANNEL, heard.append).run)
        with trio.fail_after(120):
            while "" not in heard:  # noqa: ASYNC110
                await trio.sleep(0.01)
            await trio.sleep(1)
            assert heard == [""]  # silence is no reason to leave who answers
            old.pause()
            try:
                new = await trio.to_thread.run_sync(watched.wait_for_failover, old)
                with new.client() as client:
                    while "news" not in heard:
                        client.publish(WAKE_CHANNEL, "news")
                        await trio.sleep(0.02)
            finally:
                old.go_on()
        nursery.cancel_scope.cancel()
    await trio.to_thread.run_sync(wait_until, lambda: is_replica(old), "it does not come to know")


def test_newest_of_a_majority_is_believed(watched: Watched) -> None:
    """The first Sentinel was away during the fail-over, and is asked before it has heard of it."""
    first, *others = watched.sentinels
    old = watched.find_master()
    assert first.process is not None
    first.process.send_signal(19)  # SIGSTOP
    try:
        with others[0].client() as client:
            client.execute_command("SENTINEL FAILOVER", SERVICE)
        wait_until(lambda: ask(others[0]) != old.port, "there is no fail-over")
        wait_until(lambda: ask(others[1]) != old.port, "there is no fail-over")
        assert find_master(read_store_url(watched.url), 5)[1] == ask(others[0])
    finally:
        first.process.send_signal(18)
    watched.wait_for_failover(old)


def ask(sentinel: object) -> int:
    with sentinel.client() as client:  # type: ignore[attr-defined]
        return int(client.sentinel_master(SERVICE)["port"])


def test_some_sentinels_are_away(watched: Watched) -> None:
    there = watched.sentinels[-1].port
    address = read_store_url(
        f"redis+sentinel://127.0.0.1:{find_free_port()},127.0.0.1:{there}/{SERVICE}"
    )
    assert find_master(address, 5) == ("127.0.0.1", watched.find_master().port)


async def test_nobody_knows(watched: Watched) -> None:
    there = watched.sentinels[0].port
    for url, said in (
        (f"redis+sentinel://127.0.0.1:{find_free_port()}/{SERVICE}", "Connection refused"),
        (f"redis+sentinel://127.0.0.1:{there}/other", "no Sentinel knows a master 'other'"),
    ):
        link = make_link(url, timeout=1)
        with pytest.raises(StoreUnavailable, match=said) as caught:
            await link.call("PING")
        assert caught.value.executed is False
        await link.aclose()
    with pytest.raises(redis.ConnectionError):
        find_master(read_store_url(f"redis+sentinel://127.0.0.1:{find_free_port()}/x"), 1)
