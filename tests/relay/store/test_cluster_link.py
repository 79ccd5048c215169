"""The link to a Cluster: commands find their master, also while slots and masters change."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio
from redis.crc import key_slot

from relay.config import Config
from relay.errors import StoreError, StoreUnavailable
from relay.store.chart import SLOTS, find_slot
from relay.store.cluster import ClusterLink
from relay.store.durability import find_risks, find_weaknesses
from relay.store.keys import SHARDS, WAKE_CHANNEL, make_key
from relay.store.link import Bell
from relay.store.opening import make_link
from relay.store.queue import Store
from relay.store.scripts import make_scripts
from relay.store.view import View
from tests.kit.audit import assert_sound
from tests.kit.cluster import TAG_SLOTS, Cluster, open_cluster
from tests.kit.messages import EVENT, Claims, find_domains, make_delivery
from tests.kit.ports import find_free_port
from tests.kit.redis import Server

SHARD = 5
KEYS = [make_key(shard, "ledger") for shard in range(SHARDS)]


@pytest.fixture(scope="module")
def whole() -> Iterator[Cluster]:
    with open_cluster(replicas=0) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole: Cluster) -> Cluster:
    whole.fresh()
    return whole


@pytest.fixture
async def link(cluster: Cluster) -> AsyncIterator[ClusterLink]:
    link = make_link(cluster.url, timeout=10)
    assert isinstance(link, ClusterLink)
    yield link
    await link.aclose()


@pytest.fixture
async def store(link: ClusterLink, config: Config) -> Store:
    return Store(link, config)


@pytest.fixture
def ends(cluster: Cluster) -> tuple[int, Server, Server]:
    """A slot of ours, the master that has it, and one that has it not."""
    slot = TAG_SLOTS[SHARD]
    source = cluster.find_master(slot)
    return slot, source, next(one for one in cluster.servers if one is not source)


async def post(store: Store, shard: int = SHARD, body: bytes = b"hello") -> None:
    (domain,) = find_domains(1, shard=shard)
    await store.accept([make_delivery(domain)], EVENT, body)


# -- finding the way ----------------------------------------------------------------------------


def test_slots_are_those_of_redis() -> None:
    for key in [*KEYS, "n", "{x}y", "no{tag", "{}empty"]:
        assert find_slot(key) == find_slot(key.encode()) == key_slot(key.encode()) < SLOTS


async def test_each_key_is_found_at_once(link: ClusterLink) -> None:
    """Four hundred in each, before there is any chart: all wait for it, and none is mixed up."""
    asked = [(key, n, link.send("HSET", key, str(n), n)) for n in range(400) for key in KEYS]
    for _, _, reply in asked:
        assert await reply.wait() == 1
    read = [(n, link.send("HGET", key, str(n))) for key, n, _ in asked]
    for n, reply in read:
        assert await reply.wait() == str(n).encode()


async def test_commands_without_a_key(cluster: Cluster, link: ClusterLink) -> None:
    assert await link.call("PING") == b"PONG"
    assert len(await link.call("TIME")) == 2
    masters = {f"127.0.0.1:{cluster.find_master(slot).port}" for slot in TAG_SLOTS}
    assert dict(await link.call_each("PING")) == dict.fromkeys(masters, b"PONG")


async def test_memory_is_that_of_the_fullest_master(cluster: Cluster, link: ClusterLink) -> None:
    fullest = cluster.find_master(TAG_SLOTS[3])
    for server in cluster.servers:
        with server.client() as client:
            client.config_set("maxmemory", 200 << 20 if server is fullest else 900 << 20)
    try:
        used, limit = await View(link, ()).read_memory()
    finally:
        for server in cluster.servers:
            with server.client() as client:
                client.config_set("maxmemory", 0)
    assert (limit, used > 0) == (200 << 20, True)


async def test_an_error_is_that_of_its_own_call(link: ClusterLink) -> None:
    await link.call("SET", "k", "v")

    with pytest.raises(StoreError, match="not an integer"):
        await link.call("INCR", "k")
    assert await link.call("GET", "k") == b"v"


async def test_bell_hears_what_any_master_says(cluster: Cluster, link: ClusterLink) -> None:
    heard: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bell(cluster.url, WAKE_CHANNEL, heard.append).run)
        with trio.fail_after(10):
            while "" not in heard:  # noqa: ASYNC110
                await trio.sleep(0.01)
            for server in cluster.servers:
                with server.client() as client:
                    client.publish(WAKE_CHANNEL, str(server.port))
            while len(heard) < 1 + len(cluster.servers):  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_nobody_there() -> None:
    link = make_link(f"redis+cluster://127.0.0.1:{find_free_port()}", timeout=1)

    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="no node of the Cluster") as caught:
            await link.call("PING")
        assert caught.value.executed is False
    with pytest.raises(StoreUnavailable):
        await link.call_each("PING")
    await link.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await link.call("PING")


# -- a slot that moves --------------------------------------------------------------------------


async def test_moved_slot_is_followed_in_order(
    cluster: Cluster, link: ClusterLink, ends: tuple[int, Server, Server]
) -> None:
    slot, source, target = ends
    key = make_key(SHARD, "decisions")
    await link.call("RPUSH", key, 0)
    cluster.begin_move(slot, source, target)
    cluster.move_keys(slot, source, target)
    cluster.end_move(slot, source, target)
    try:
        pushed = [link.send("RPUSH", key, n) for n in range(1, 2000)]
        await pushed[-1].wait()
        pushed = [link.send("RPUSH", key, n) for n in range(2000, 3000)]
        await pushed[-1].wait()

        assert [int(n) for n in await link.call("LRANGE", key, 0, -1)] == list(range(3000))
    finally:
        cluster.begin_move(slot, target, source)
        cluster.move_keys(slot, target, source)
        cluster.end_move(slot, target, source)


async def test_scripts_wait_while_their_slot_moves_and_nothing_is_half_done(
    cluster: Cluster, store: Store, ends: tuple[int, Server, Server]
) -> None:
    slot, source, target = ends
    await post(store)

    cluster.begin_move(slot, source, target)
    refused = 0
    moved = 1
    while moved:  # after each key: some are here, some are there
        for body in (b"hello", b"x" * 100_000):
            with pytest.raises(StoreUnavailable, match="moves to another node") as caught:
                await post(store, body=body)
            assert caught.value.executed is False
            refused += 1
        moved = cluster.move_keys(slot, source, target, most=1)
        # What is one key is found, wherever it is.
        assert (await store.read_ledger())["ledger"]["queued"] == 1
    cluster.end_move(slot, source, target)
    await post(store)
    await post(store, body=b"x" * 100_000)

    assert refused > 6
    with cluster.client() as client:
        assert assert_sound(client, leftover=True).total("ledger")["accepted"] == 3
    claims = Claims(store)
    for claim in await claims.take(find_domains(1, shard=SHARD)[0]):
        assert await store.settle(claim, EVENT)
    cluster.begin_move(slot, target, source)
    cluster.move_keys(slot, target, source)
    cluster.end_move(slot, target, source)


async def test_without_its_guard_a_script_would_be_cut_off_half_done(
    cluster: Cluster,
    store: Store,
    ends: tuple[int, Server, Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the guard is for; when a server does not do this any more, it can go."""
    slot, source, target = ends
    await post(store)
    for name, script in make_scripts().items():
        monkeypatch.setitem(ClusterLink.scripts, name, script)  # type: ignore[arg-type]
    await store.link.call("SCRIPT", "FLUSH")
    other = make_link(cluster.url, timeout=10)
    cluster.begin_move(slot, source, target)
    try:
        with pytest.raises(StoreError, match="non local key"):
            await post(Store(other, Config()))
    finally:
        await other.aclose()
        cluster.command(source, "CLUSTER", "SETSLOT", slot, "STABLE")
        cluster.command(target, "CLUSTER", "SETSLOT", slot, "STABLE")


async def test_long_body_reaches_the_new_master_before_its_accept(
    cluster: Cluster, store: Store, ends: tuple[int, Server, Server]
) -> None:
    """It is long and the script behind it is short: sent on, they must not overtake each other."""
    slot, source, target = ends
    await post(store)
    for first, second in ((source, target), (target, source)):
        cluster.begin_move(slot, first, second)
        cluster.move_keys(slot, first, second)
        cluster.end_move(slot, first, second)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(post, store, SHARD, b"x" * 100_000)
                nursery.start_soon(post, store, SHARD, b"hello")
    with cluster.client() as client:
        assert assert_sound(client).total("ledger")["accepted"] == 21


# -- what it can lose -----------------------------------------------------------------------------


async def test_every_master_is_asked_whether_it_can_forget(
    cluster: Cluster, link: ClusterLink
) -> None:
    careless = cluster.find_master(TAG_SLOTS[3])
    assert await find_weaknesses(link) == []
    with careless.client() as client:
        client.config_set("appendfsync", "everysec")
    try:
        (weakness,) = await find_weaknesses(link)
    finally:
        with careless.client() as client:
            client.config_set("appendfsync", "always")
    assert weakness.startswith(f"127.0.0.1:{careless.port}: appendfsync is 'everysec'")


async def test_cluster_without_replicas_is_a_risk(cluster: Cluster, link: ClusterLink) -> None:
    risks = await find_risks(link, 0)

    assert len(risks) == len({cluster.find_master(slot).port for slot in TAG_SLOTS})
    assert all("a fail-over forgets" in risk for risk in risks)


# -- masters that go ------------------------------------------------------------------------------


@pytest.mark.heavy
async def test_another_master_takes_over_and_the_old_one_comes_back(config: Config) -> None:
    with open_cluster() as cluster:
        link = make_link(cluster.url, timeout=1, replicas=1)
        store = Store(link, config)
        for shard in range(SHARDS):
            await post(store, shard)
        old = cluster.find_master(TAG_SLOTS[SHARD])
        old.kill()
        with trio.fail_after(60):
            # What it may have run is asked for until somebody answers: the new master, and it has no
            # replica yet, so that it is acknowledged only when the old one follows.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(post, store)
                new = await trio.to_thread.run_sync(
                    cluster.wait_for_failover, old, TAG_SLOTS[SHARD]
                )
                assert new is not old
                await wait_for_accepted(store, SHARDS + 1)
                await trio.to_thread.run_sync(old.start)

        with cluster.client() as client:
            assert assert_sound(client).total("ledger")["accepted"] == SHARDS + 1
        await link.aclose()


async def wait_for_accepted(store: Store, count: int) -> None:
    while True:
        try:
            if (await store.read_ledger())["ledger"]["accepted"] == count:
                return
        except StoreUnavailable:
            pass
        await trio.sleep(0.05)
