"""A store over its memory limit: takes nothing new, and everything that makes room still works."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from relay.config import Config, Rate
from relay.errors import StoreFull
from relay.model import Delivery
from relay.store.gate import Gates, SiteLimits, Want
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.queue import Store
from relay.store.scripts import SCRIPTS
from tests.kit.audit import check, expire_claims
from tests.kit.messages import EVENT, Claims, find_domains, make_deliveries, make_delivery
from tests.kit.proxy import open_proxy
from tests.kit.redis import Server, open_server


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    with open_server() as server:
        yield server


@pytest.fixture
def server(own_server: Server) -> Iterator[Server]:
    limit(own_server, 0)
    own_server.fresh()
    yield own_server
    check(own_server, leftover=True)


@pytest.fixture
async def link(server: Server) -> AsyncIterator[Link]:
    link = Link(server.url, timeout=10)
    yield link
    await link.aclose()


@pytest.fixture
def claims(store: Store) -> Claims:
    return Claims(store)


def limit(server: Server, octets: int) -> None:
    with server.client() as client:
        client.config_set("maxmemory", octets)


def fill(server: Server) -> None:
    """Let the server be over its limit by far."""
    limit(server, 1 << 20)
    with server.client() as client:
        assert client.info("memory")["used_memory"] > 1 << 20


async def put(store: Store, *deliveries: Delivery) -> None:
    for delivery in deliveries:
        await store.accept([delivery], EVENT, b"x" * 200_000)


async def test_nothing_new_is_accepted(server: Server, store: Store, claims: Claims) -> None:
    await put(store, *(make_delivery() for _ in range(8)))
    fill(server)
    refused = make_delivery()

    for body in (b"hello", b"x" * 50_000, b"x" * 100_000):
        with pytest.raises(StoreFull):
            await store.accept([refused], EVENT, body)
    with pytest.raises(StoreFull):
        await store.store_part(0, refused.message_id, 0, b"hello")

    assert len(await claims.take()) == 8
    assert await store.read_story(refused.message_id) == []


async def test_everything_that_makes_room_works(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, *(make_delivery() for _ in range(8)))
    fill(server)

    settled, bounced, deferred, dead, *others = await claims.take()
    for claim in (settled, bounced, deferred, dead):
        assert await store.record_attempt(claim, EVENT * 10).wait() == 1
    assert await store.settle(settled, EVENT)
    assert await store.bounce(bounced, EVENT, delivered=0)
    assert await store.defer(deferred, EVENT, wait=60, rest=deferred.delivery)
    limit(server, 0)
    expire_claims(server, dead.delivery.id)
    fill(server)
    await store.renew(others)
    assert len(await store.reclaim(find_shard("a.test"))) == 1
    assert await store.hurry("acme/a.test", ahead=100) == 1

    for claim in [*others, *await claims.take()]:
        assert await store.settle(claim, EVENT)
    books = (await store.read_ledger())["ledger"]
    assert (books["accepted"], books["delivered"], books["bounced"]) == (8, 7, 1)
    assert books["queued"] == 0


async def test_lanes_are_kept(server: Server, store: Store, claims: Claims) -> None:
    await put(store, *(make_delivery() for _ in range(8)))
    shard = find_shard("a.test")
    queue, lane = "acme/a.test", "default/normal/acme/"
    fill(server)

    assert (await store.survey(shard, lane, limit=9, patience=1))[0] == [queue]
    assert await store.count_ready([(shard, lane)]) == [8]
    await store.assign(shard, queue, lane, "x")
    assert await store.adopt(shard, f"{lane}x", "new") == 1
    await store.pause(shard, queue, "new/normal/acme/x", 0.001)
    while await store.promote_all() < 1:
        pass
    await store.adopt(shard, f"{lane}x", "default")
    pinned, due, *_ = await claims.take(most=2)
    await store.defer(pinned, EVENT, wait=0, source="gone")
    await store.defer(due, EVENT, wait=60)
    assert await store.unpin(shard, "default@gone/normal/acme/x") == 1
    seized = (await store.seize(queue, token="s"))[0] + (await store.seize_due(queue, token="t"))[0]
    assert len(seized) == 8
    assert await store.reopen(shard, f"{lane}!") == 0
    for claim in seized:
        assert await store.bounce(claim, EVENT, delivered=0)


async def test_gates_let_mail_out(server: Server, store: Store) -> None:
    await put(store, *(make_delivery() for _ in range(8)))
    fill(server)
    gates = Gates(store.link, lease=60)
    rates = (Rate(100, 1), Rate(1000, 86_400))
    limits = SiteLimits("x", 5, rates, rates)
    wants = [Want("a", 5, 0, 5)]

    assert await gates.announce("source:a") == {"source:a"}
    assert (await gates.reserve(limits, "default", 3, wants, {"a": 1})).grants[0].count == 3
    await store.link.run(
        "refund", make_key(find_shard("x"), "rests", "x"), "default", "x", "", "", ""
    )
    assert (await gates.charge_tenant("t", rates, 3))[0] == 3
    assert await gates.take_slot(limits, "a", "c", 2)
    assert await gates.renew_slots("x", [("a", "c")]) == []
    assert await gates.fail("x", "a", first=1, most=9) == (1, 1.0)
    key = make_key(find_shard("x"), "rests", "x")
    assert await store.link.run("recover", key, "x", "a") == 1
    assert await store.link.run("free_slot", key, "x", "a", "c", 5) == 1


async def test_notices_are_accepted_because_a_bounce_makes_room(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, *(make_delivery() for _ in range(8)))
    fill(server)

    with trio.fail_after(5):
        assert await store.accept_notice(make_delivery("b.test", notice=True), EVENT, b"sorry")

    assert len(await claims.take("b.test")) == 1


async def test_accepted_message_reaches_its_shard(
    server: Server, store: Store, claims: Claims, config: Config
) -> None:
    here, there = find_domains(2)
    with open_proxy(server.socket) as proxy:
        proxy.cut_request(SCRIPTS["enqueue"].digest)
        link = Link(proxy.url, timeout=5)
        await Store(link, config).accept(make_deliveries(here, there), EVENT, b"x" * 250_000)
        await link.aclose()
    await put(store, *(make_delivery() for _ in range(8)))
    fill(server)

    (left,) = await store.read_outbox(find_shard(here))
    await store.forward(left)

    assert len(await claims.take(there)) == 1


async def test_message_that_was_accepted_is_never_refused(
    server: Server, store: Store, claims: Claims, config: Config
) -> None:
    """The reply to `accept` was lost, and the repetition finds the server full."""
    delivery = make_delivery()
    await put(store, *(make_delivery() for _ in range(8)))
    assert await store.accept([delivery], EVENT, b"hello")
    fill(server)

    assert await store.accept([delivery], EVENT, b"hello") is False
