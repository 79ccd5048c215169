"""What the scripts decide on their own: windows, limits of a claim, leases, wake-ups."""

from pathlib import Path

import msgspec
import pytest
import trio

from relay.config import read
from relay.events import decode_event
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.audit import check, expire_claims
from tests.kit.messages import (
    EVENT,
    Claims,
    find_domains,
    make_deliveries,
    make_delivery,
    put,
    read_books,
)
from tests.kit.redis import Server

pytestmark = pytest.mark.usefixtures("audited")

SHARD = find_shard("a.test")


# -- windows ----------------------------------------------------------------------------------


def read_queue(server: Server, domain: str = "a.test") -> dict[str, int]:
    with server.client() as client:
        fields = client.hgetall(make_key(find_shard(domain), "queue", f"acme/{domain}"))
    return {key.decode(): int(value) for key, value in fields.items()}


async def test_queue_begins_with_a_small_window(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 50)

    found = await claims.take()

    assert len(found) == 20
    assert read_queue(server) == {"held": 20}
    assert await claims.take() == []
    check(server)
    await store.settle(found[0], EVENT)
    assert read_queue(server) == {"held": 19, "window": 21}
    check(server)
    assert len(await claims.take()) == 2


async def test_window_is_halved_when_a_host_fails_down_to_the_least(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 50)
    windows = []
    for claim in await claims.take():
        await store.defer(claim, EVENT, wait=60, host_failed=True)
        windows.append(read_queue(server)["window"])
        check(server)

    assert windows[:4] == [10, 5, 5, 5]
    assert read_queue(server)["held"] == 0
    assert len(await claims.take()) == 5


async def test_message_of_its_own_fault_leaves_the_window(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1)
    await store.defer(await claims.take_one(), EVENT, wait=60)

    assert read_queue(server) == {"held": 0}


async def test_window_has_a_limit(server: Server, store: Store, claims: Claims) -> None:
    await put(store, 1)
    with server.client() as client:
        client.hset(make_key(find_shard("a.test"), "queue", "acme/a.test"), "window", 1000)

    await store.settle(await claims.take_one(), EVENT)

    assert read_queue(server)["window"] == 1000


async def test_idle_queue_is_forgotten_and_a_busy_one_is_not(
    server: Server, store: Store, claims: Claims
) -> None:
    key = make_key(find_shard("a.test"), "queue", "acme/a.test")
    await put(store, 1)
    with server.client() as client:
        claim = await claims.take_one()
        assert client.pttl(key) == -1
        await store.settle(claim, EVENT)
        assert 0 < client.pttl(key) <= 600_000
        await put(store, 1)
        await claims.take_one()
        assert client.pttl(key) == -1


async def test_one_queue_does_not_keep_another_waiting(store: Store, claims: Claims) -> None:
    many, few = find_domains(2, shard=3)
    await put(store, 100, many)
    await put(store, 1, few)

    found = await claims.take(many, most=21)

    assert [claim.delivery.domain for claim in found].count(few) == 1


# -- limits of a claim ------------------------------------------------------------------------


async def test_claim_keeps_to_the_count(server: Server, store: Store, claims: Claims) -> None:
    deliveries = await put(store, 5)

    found = await claims.take(most=3)
    found += await claims.take(most=3)

    assert [claim.delivery.id for claim in found] == [delivery.id for delivery in deliveries]
    check(server)


async def test_claim_keeps_to_the_octets(server: Server, store: Store, claims: Claims) -> None:
    for _ in range(5):
        await store.accept([make_delivery(size=1000)], EVENT, b"x" * 1000)

    assert len(await claims.take(octets=2500)) == 3  # the last one may go over it
    check(server)
    assert len(await claims.take()) == 2


async def test_claim_without_bodies(store: Store, claims: Claims) -> None:
    await put(store, 1)

    (claim,) = await claims.take(inline=0)

    assert claim.body is None
    assert await store.read_part(claim.delivery, 0) == b"hello"


async def test_claim_looks_at_its_pool_only(server: Server, store: Store, claims: Claims) -> None:
    await store.accept([make_delivery(pool="other")], EVENT, b"hello")

    assert await claims.take() == []
    assert len((await claims.look(pool="other")).claims) == 1


async def test_delivery_moves_to_the_pool_that_is_configured_now(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1)
    claim = await claims.take_one()
    rest = msgspec.structs.replace(claim.delivery, pool="other")

    await store.defer(claim, EVENT, wait=0, rest=rest)

    check(server)
    assert len((await claims.look(pool="other")).claims) == 1


async def test_hundreds_of_queues_all_get_their_turn(
    server: Server, store: Store, claims: Claims
) -> None:
    domains = find_domains(150, shard=9)
    for domain in domains:
        await put(store, 1, domain)

    found = [claim for _ in range(3) for claim in await claims.take(domains[0])]

    assert {claim.delivery.domain for claim in found} == set(domains)


# -- claims that end by themselves ------------------------------------------------------------


async def test_live_claims_are_left_alone(store: Store, server: Server, claims: Claims) -> None:
    await put(store, 1)
    claim = await claims.take_one()

    assert await store.reclaim(SHARD) == []
    assert await store.settle(claim, EVENT)


async def test_claim_before_the_dot_goes_back(server: Server, store: Store, claims: Claims) -> None:
    await put(store, 1)
    dead = await claims.take_one()
    expire_claims(server)

    (event,) = await store.reclaim(SHARD)

    check(server)
    assert decode_event(event)["event"] == "reclaimed"
    assert await store.read_story(dead.delivery.message_id) == [EVENT, event]
    again = await claims.take_one()
    assert again.attempts == 0
    assert await store.settle(dead, EVENT) is False
    assert await store.settle(again, EVENT)
    assert await read_books(store) == {"accepted": 1, "delivered": 1}


@pytest.mark.parametrize("policy", ["retry", "hold", "assume-delivered"])
async def test_claim_after_the_dot_is_of_unknown_outcome(
    server: Server, link: Link, tmp_path: Path, policy: str
) -> None:
    store = make_store(link, tmp_path, unknown_outcome=policy)
    claims = Claims(store)
    await store.accept([make_delivery(recipients=2)], EVENT, b"hello")
    dead = await claims.take_one()
    await store.record_attempt(dead, EVENT).wait()
    expire_claims(server)

    (event,) = await store.reclaim(SHARD)

    check(server)
    assert decode_event(event)["event"] == "unknown"
    books = {"accepted": 2, "unknown": 2}
    if policy == "assume-delivered":
        assert await read_books(store) == books | {"delivered": 2}
        return
    assert await read_books(store) == books | {"queued": 2}
    if policy == "hold":
        assert await claims.take() == []
        assert await store.promote("acme", "a.test", "default", ahead=6 * 86_400) == 1
    assert (await claims.take_one()).attempts == 1


async def test_assumed_delivered_frees_the_body_of_several(
    server: Server, link: Link, tmp_path: Path
) -> None:
    store = make_store(link, tmp_path, unknown_outcome="assume-delivered")
    claims = Claims(store)
    here, there = find_domains(2)
    await store.accept(make_deliveries(here, there), EVENT, b"hello")
    for domain in (here, there):
        await store.record_attempt(await claims.take_one(domain), EVENT).wait()
    expire_claims(server)

    for domain in (here, there):
        await store.reclaim(find_shard(domain))

    check(server)
    assert await read_books(store) == {"accepted": 2, "delivered": 2, "unknown": 2}


async def test_renewed_claims_are_kept(server: Server, store: Store, claims: Claims) -> None:
    await put(store, 3)
    kept, lost, _ = await claims.take()
    expire_claims(server)

    await store.renew([kept])

    assert len(await store.reclaim(SHARD)) == 2
    check(server)
    assert await store.settle(kept, EVENT)
    assert not await store.settle(lost, EVENT)


async def test_renewing_thousands_of_claims(server: Server, store: Store, claims: Claims) -> None:
    await put(store, 1)
    claim = await claims.take_one()
    expire_claims(server)

    await store.renew([claim] * 5000)

    assert await store.reclaim(SHARD) == []


def make_store(link: Link, base: Path, **delivery: object) -> Store:
    return Store(link, read({"delivery": delivery}, base=base, environment={}))


async def test_claim_ends_after_its_lease(server: Server, link: Link, tmp_path: Path) -> None:
    store = make_store(link, tmp_path, claim=1)
    claims = Claims(store)
    await put(store, 1)
    await claims.take_one()

    with trio.fail_after(10):
        while not await store.reclaim(SHARD):  # noqa: ASYNC110 - the server's clock
            await trio.sleep(0.1)

    await claims.take_one()


async def test_claims_that_ran_out_while_the_store_was_away_can_be_renewed(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 2)
    alive, _ = await claims.take()
    expire_claims(server)
    silence(server, seen=90_000)  # the lease is 60 s

    assert await store.reclaim(SHARD) == []
    assert await store.reclaim(SHARD) == []  # another worker, a moment later
    await store.renew([alive])
    silence(server, seen=30_000, since=31_000)

    assert len(await store.reclaim(SHARD)) == 1
    assert await store.settle(alive, EVENT)


async def test_store_that_goes_away_again_and_again_spares_claims_again(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1)
    await claims.take_one()
    expire_claims(server)

    for _ in range(2):
        silence(server, seen=90_000, since=90_000)
        assert await store.reclaim(SHARD) == []


async def test_rounds_that_are_always_late_reclaim_in_the_end(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1)
    await claims.take_one()
    expire_claims(server)

    rounds = 0
    found: list[bytes] = []
    while not found:
        silence(server, seen=90_000, since=90_000)
        found = await store.reclaim(SHARD)
        rounds += 1

    assert rounds == 4


def silence(server: Server, *, seen: int, since: int = 1_000_000) -> None:
    """Let the last look for claims that have ended be ``seen`` ms ago."""
    with server.client() as client:
        now = client.time()[0] * 1000
        mapping = {"seen": now - seen, "since": now - since}
        client.hset(make_key(SHARD, "watch"), mapping=mapping)


# -- recipients nobody knows about ------------------------------------------------------------


@pytest.mark.parametrize("end", ["settle", "bounce", "defer"])
async def test_unknown_outcomes_are_counted_with_the_end_of_the_claim(
    server: Server, store: Store, claims: Claims, end: str
) -> None:
    await store.accept([make_delivery(recipients=3)], EVENT, b"hello")
    claim = await claims.take_one()

    for _ in range(2):  # the reply was lost: once more
        if end == "settle":
            await store.settle(claim, EVENT, unknown=2)
        elif end == "bounce":
            await store.bounce(claim, EVENT, delivered=2, unknown=2)
        else:
            await store.defer(claim, EVENT, wait=0, unknown=2)

    assert (await read_books(store))["unknown"] == 2


# -- wake-ups ---------------------------------------------------------------------------------


async def test_wake_up_is_sent_only_to_who_sleeps(
    server: Server, store: Store, claims: Claims
) -> None:
    with server.client() as client, client.pubsub() as heard:
        heard.subscribe("og:wake")
        assert heard.get_message(timeout=5) is not None

        await put(store, 1)  # nobody has looked yet
        await claims.take_one()  # found something: not asleep
        await put(store, 1)
        assert heard.get_message(timeout=0.05) is None
        await claims.take_one()
        assert await claims.take() == []  # now it is
        await put(store, 2)

        message = heard.get_message(timeout=5)
        assert message is not None
        assert message["data"].decode() == f"{{og{find_shard('a.test')}}}"
        assert heard.get_message(timeout=0.05) is None


async def test_deferred_delivery_wakes_to_tell_its_time(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1)
    claim = await claims.take_one()
    assert (await claims.look()).wait is None
    with server.client() as client, client.pubsub() as heard:
        heard.subscribe("og:wake")
        assert heard.get_message(timeout=5) is not None

        await store.defer(claim, EVENT, wait=60)

        assert heard.get_message(timeout=5) is not None
