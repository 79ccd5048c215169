"""``store.replicas``: what is acknowledged has reached replicas, and who does not have them is told so."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from relay.config import Config
from relay.errors import StoreFull, StoreUnavailable
from relay.store.durability import find_risks, require_durability
from relay.store.keys import make_key
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.messages import EVENT, Claims, make_delivery
from tests.kit.ports import find_free_port
from tests.kit.redis import Server, open_server
from tests.kit.sentinel import wait_until


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A master and its replica."""
    with open_server(port=str(find_free_port())) as master, open_server() as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", master.port)
        wait_until(lambda: follows(replica), "the replica does not follow")
        yield master, replica


def follows(replica: Server) -> bool:
    with replica.client() as client:
        return bool(client.info("replication")["master_link_status"] == "up")


@pytest.fixture
def master(pair: tuple[Server, Server]) -> Server:
    pair[0].fresh()
    return pair[0]


@pytest.fixture
def replica(pair: tuple[Server, Server], master: Server) -> Server:
    return pair[1]


@contextlib.contextmanager
def settings(server: Server, **values: object) -> Iterator[None]:
    """Set some until the block ends."""
    with server.client() as client:
        names = {name.replace("_", "-"): value for name, value in values.items()}
        before = {name: client.config_get(name)[name] for name in names}
        for name, value in names.items():
            client.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


@pytest.fixture
async def link(master: Server) -> AsyncIterator[Link]:
    link = make_link(master.url, timeout=1, replicas=1)
    yield link
    await link.aclose()


async def test_what_is_acknowledged_is_on_the_replica(
    master: Server, replica: Server, link: Link, config: Config
) -> None:
    store = Store(link, config)
    with replica.client() as client:
        for number in range(50):
            delivery = make_delivery()
            await store.accept([delivery], EVENT, b"hello")
            assert client.exists(make_key(delivery.home, "story", delivery.message_id)), number
    for claim in await Claims(store).take():
        await store.settle(claim, EVENT)
    check(master)


async def test_replica_that_hangs(replica: Server, link: Link) -> None:
    await link.call("SET", "k", "v")
    replica.pause()
    try:
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas") as caught:
            await link.call("SET", "k", "w")
        assert caught.value.executed is True
        assert await link.call("GET", "k") == b"w"
    finally:
        replica.go_on()
    await link.call("SET", "k", "x")


async def test_reads_beside_a_write_that_is_not_acknowledged(replica: Server, link: Link) -> None:
    await link.call("SET", "k", "v")
    replica.pause()
    try:
        written, read = link.send("SET", "k", "w"), link.send("GET", "k")
        assert await read.wait() == b"w"
        with pytest.raises(StoreUnavailable):
            await written.wait()
    finally:
        replica.go_on()


async def test_repeated_call_that_writes_nothing_waits_for_what_the_first_wrote(
    master: Server, replica: Server, config: Config
) -> None:
    """The first reply was lost, with its connection: the second call finds the message there."""
    first = make_link(master.url, timeout=1)
    delivery = make_delivery()
    replica.pause()
    try:
        assert await Store(first, config).accept([delivery], EVENT, b"hello") is True
        second = make_link(master.url, timeout=1, replicas=1)
        with trio.move_on_after(3):
            await Store(second, config).accept([delivery], EVENT, b"hello")
            pytest.fail("no replica has it")
    finally:
        replica.go_on()
    assert await Store(second, config).accept([delivery], EVENT, b"hello") is False
    await first.aclose()
    await second.aclose()


async def test_many_calls_wait_once(master: Server, link: Link) -> None:
    await link.call("PING")
    with master.client() as client:
        client.config_resetstat()
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(link.call, "SET", f"k{number}", "v")
        calls = client.info("commandstats")
    assert calls["cmdstat_set"]["calls"] >= 500
    assert calls["cmdstat_wait"]["calls"] < 20


async def test_reads_do_not_wait(master: Server, link: Link) -> None:
    with master.client() as client:
        client.config_resetstat()
        await link.call("GET", "k")
        await link.call("INFO", "memory")
        assert "cmdstat_wait" not in client.info("commandstats")


async def test_scripts_that_the_server_has_lost(master: Server, link: Link, config: Config) -> None:
    store = Store(link, config)
    with master.client() as client:
        client.script_flush()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(store.accept, [make_delivery()], EVENT, b"hello")
    assert check(master).total("ledger")["accepted"] == 50


async def test_server_that_wants_replicas_itself_has_executed_nothing(
    master: Server, link: Link, config: Config
) -> None:
    store = Store(link, config)
    with settings(master, min_replicas_to_write=2):
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="NOREPLICAS") as caught:
                await store.accept([make_delivery()], EVENT, b"hello")
            assert caught.value.executed is False
    await store.accept([make_delivery()], EVENT, b"hello")
    assert check(master).total("ledger")["accepted"] == 1


async def test_full_server_lets_pass_what_makes_room(
    master: Server, config: Config, link: Link
) -> None:
    store = Store(link, config)
    await store.accept([make_delivery()], EVENT, b"hello")
    claim = await Claims(store).take_one()
    with settings(master, maxmemory=1):
        other = make_link(master.url, timeout=1, replicas=1)
        with pytest.raises(StoreFull):
            await Store(other, config).accept([make_delivery()], EVENT, b"hello")
        with trio.fail_after(5):
            assert await Store(other, config).settle(claim, EVENT)
        await other.aclose()


# -- what is said of it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replicas", "least", "said"),
    [
        (0, 0, "a fail-over forgets what the old master acknowledged"),
        (0, 1, "of a master that was cut off up to 10 s of it"),
        (1, 0, "min-replicas-to-write is 0"),
        (2, 1, "there are 1 replicas of the 2"),
        (1, 1, ""),
    ],
)
async def test_risks(master: Server, link: Link, replicas: int, least: int, said: str) -> None:
    with settings(master, min_replicas_to_write=least):
        risks = await find_risks(link, replicas)

    assert bool(risks) == bool(said)
    assert all(said in risk for risk in risks), risks


async def test_start_is_told_and_not_refused(master: Server, link: Link) -> None:
    (risk,) = await require_durability(link, level="require")

    assert risk.startswith("min-replicas-to-write is 0")


async def test_server_without_replicas_has_no_such_risk(server: Server) -> None:
    link = make_link(server.url, timeout=5)
    assert await find_risks(link, 0) == []
    await link.aclose()
