"""Hash tags: a server that has one shard's slot and no other runs every transition of that shard.

One node with all the slots proves nothing: scripts may touch whatever is on their node. Here any
key outside the shard's slot is on another node, and touching it is an error.
"""

import time
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest
import redis
from redis.crc import key_slot

from relay.config import Config, Rate
from relay.errors import StoreError, StoreUnavailable
from relay.store.counters import Books
from relay.store.feedback import Feedback
from relay.store.gate import Gates, SiteLimits, Want
from relay.store.keys import SHARDS, SHUT, make_key, make_tag
from relay.store.link import Link, Part, Pending
from relay.store.queue import Store
from relay.store.scripts import SCRIPTS
from relay.store.share import Counts, Shares
from relay.store.standing import PutOff, Report, Standings
from relay.store.suspension import Suspension, Suspensions
from tests.kit.messages import EVENT, Claims, find_domains, make_deliveries, make_delivery
from tests.kit.redis import Server, open_server


@pytest.fixture(scope="module")
def node() -> Iterator[Server]:
    """A Cluster of one node that does not mind that most slots are nowhere."""
    with open_server(
        cluster_enabled="yes", cluster_require_full_coverage="no", cluster_node_timeout="500"
    ) as server:
        with server.client() as client:
            # One slot that nobody uses: a node without any counts as cut off, and stays so a while.
            client.execute_command("CLUSTER ADDSLOTS", find_slot(client, "{unused}"))
            deadline = time.monotonic() + 20
            while client.cluster("info")["cluster_state"] != "ok":
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield server


def find_slot(client: redis.Redis, key: str) -> int:
    return int(client.execute_command("CLUSTER KEYSLOT", key))


@pytest.fixture(params=range(SHARDS))
def shard(request: pytest.FixtureRequest, node: Server) -> Iterator[int]:
    """The only shard whose slot the node has."""
    shard: int = request.param
    with node.client() as client:
        slot = find_slot(client, make_tag(shard))
        client.execute_command("CLUSTER ADDSLOTS", slot)
        yield shard
        client.flushall()
        client.execute_command("CLUSTER DELSLOTS", slot)


class Noting(Link):
    """A link that notes which scripts were asked for."""

    seen: ClassVar[set[str]] = set()

    def start(
        self, script: str, shard_key: str, *arguments: Part, behind: Pending | None = None
    ) -> Pending:
        self.seen.add(script)
        return super().start(script, shard_key, *arguments, behind=behind)


@pytest.fixture
async def link(node: Server) -> AsyncIterator[Link]:
    link = Noting(node.url, timeout=10)
    yield link
    await link.aclose()


@pytest.fixture
async def store(link: Link, config: Config) -> Store:
    return Store(link, config)


async def test_transitions_keep_to_their_shard(node: Server, store: Store, shard: int) -> None:
    domain, other = find_domains(2, shard=shard)
    claims = Claims(store)
    for _ in range(4):
        await store.accept([make_delivery(domain)], EVENT, b"hello")
    await store.accept(make_deliveries(domain, other), EVENT, b"hello")
    large = make_delivery(domain, chunks=1)
    await store.store_part(shard, large.message_id, 0, b"hello")
    await store.accept([large], EVENT, b"")

    settled, bounced, deferred, *others = await claims.take(domain)
    assert len(others) == 4
    assert await store.record_attempt(settled, EVENT).wait() == 1
    assert await store.settle(settled, EVENT)
    assert await store.bounce(bounced, EVENT, delivered=0)
    assert await store.defer(deferred, EVENT, wait=60, source="b")
    assert await store.hurry(f"acme/{domain}@b", ahead=100) == 1
    assert await store.unpin(shard, "default@b/normal/acme/") == 1
    await store.renew(others)
    with node.client() as client:
        client.zadd(make_key(shard, "claims"), {others[0].delivery.id: 1})
        client.hset(make_key(shard, "watch"), mapping={"seen": 1 << 50, "since": 0})
    assert len(await store.reclaim(shard)) == 1
    feedback = Feedback(store.link, Config())
    assert await feedback.count(large.message_id, "abuse", EVENT)
    assert await feedback.count(large.message_id, "abuse", EVENT) is False
    for claim in [*others[1:], *await claims.take(domain)]:
        assert await store.settle(claim, EVENT)
    assert await claims.take(domain) == []


async def test_lanes_keep_to_their_shard(store: Store, shard: int) -> None:
    (domain,) = find_domains(1, shard=shard)
    queue, lane = f"acme/{domain}", "default/normal/acme/"
    for _ in range(3):
        await store.accept([make_delivery(domain)], EVENT, b"hello")
    assert await store.survey(shard, lane, limit=9, patience=30) == ([queue], 30.0)
    assert await store.count_ready([(shard, lane)]) == [3]
    await store.assign(shard, queue, lane, "x")
    assert await store.adopt(shard, f"{lane}x", "other") == 1
    await store.pause(shard, queue, "other/normal/acme/x", 0.0)
    await store.link.run("promote", make_key(shard, "ledger"), 100)
    ((claim,), _) = await store.seize(queue, token="s", limit=1)
    await store.defer(claim, EVENT, wait=60)
    assert len((await store.seize_due(queue, token="t"))[0]) == 1
    await store.link.call("HSET", make_key(shard, "closed"), f"acme/{domain}", 1 << 50)
    assert await Claims(store).take(domain) == []
    assert await store.reopen(shard, f"{lane}{SHUT}") == 1


async def test_gates_keep_to_the_shard_of_their_site(link: Link, shard: int) -> None:
    (site,) = find_domains(1, shard=shard)
    gates = Gates(link, lease=60)
    rates = (Rate(100, 1), Rate(1000, 86_400))
    limits = SiteLimits(site, 5, rates, rates)
    weights = {"a": 2, "b": 1}
    wants = [Want("a", 5, 0, 5), Want("b", 5, 0, 5)]
    assert (await gates.reserve(limits, "default", 3, wants, weights)).wait is None
    gates.refund(limits, "default", {"a": 1}, weights)
    assert await gates.charge_tenant(site, rates, 3) == (3, 0)
    gates.refund_tenant(site, rates, 2)
    assert await gates.take_slot(limits, "a", "c1", 2)
    assert await gates.renew_slots(site, [("a", "c1"), ("a", "c2")]) == ["c2"]
    gates.free_slot(limits, "a", "c1")
    assert await gates.fail(site, "a", first=1, most=9) == (1, 1.0)
    gates.recover(site, "a")
    assert (await gates.reserve(limits, "default", 3, wants, weights)).grants[0].failures == 0
    standings = Standings(link, Config())
    news = [Report("a", delivered=3, throttled=1), Report("b", blocked=1)]
    changes = await standings.report(site, news, [PutOff("acme")])
    assert [change.kind for change in changes] == ["slowed", "quarantined", "put_off"]
    assert await Shares(link, Config().reputation.tenant).add(site, Counts(1, 1, 0, 0))


async def test_what_is_for_all_keeps_to_the_first_shard(link: Link, shard: int) -> None:
    if shard:
        return
    assert await Gates(link, lease=60).announce("source:a") == {"source:a"}
    (domain,) = find_domains(1, shard=0)
    for suspension in (Suspension(domain=domain), Suspension(site="x")):
        await Suspensions(link).suspend(suspension)
        assert await Suspensions(link).resume(suspension)
    books = Books(link)
    await books.push({("messages", ("acme", "accepted")): 2}, "ingress:here:1", {"sessions": 1})
    assert (await books.read())["messages"] == {("acme", "accepted"): 2}


async def test_message_for_two_shards_is_two_calls_at_home_and_one_away(
    node: Server, store: Store, shard: int
) -> None:
    (home,) = find_domains(1, shard=shard)
    slot = key_slot(make_tag(shard).encode())
    # CRC16 puts some tags into the same slot; that is no harm.
    near = tuple(n for n in range(SHARDS) if key_slot(make_tag(n).encode()) == slot)
    (away,) = find_domains(1, but=near)
    await store.accept(make_deliveries(home, away), EVENT, b"hello")

    (waiting,) = await store.read_outbox(shard)  # its shard is not on this node

    assert waiting.domain == away
    incoming = make_deliveries(away, home)[1]
    with pytest.raises(StoreUnavailable, match="CLUSTERDOWN"):  # the outbox of the other shard
        await store.forward(incoming)
    assert {c.delivery.id for c in await Claims(store).take(home)} >= {incoming.id}


async def test_key_of_another_shard_would_be_an_error(store: Store, shard: int) -> None:
    other = make_key((shard + 1) % SHARDS, "ledger")
    script = f"return redis.call('HGET', '{other}', 'queued')"

    with pytest.raises(
        StoreError, match=r"EVAL: .*(non local|not hash|CLUSTERDOWN|same slot|slot not served)"
    ):
        await store.link.call("EVAL", script, 1, make_key(shard, "ledger"))


def test_every_script_was_run() -> None:
    """By the tests above; it means nothing when they are not."""
    assert Noting.seen == SCRIPTS.keys()
