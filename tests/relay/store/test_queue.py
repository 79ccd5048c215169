"""The life of a delivery in the store, transition by transition; audited after every test."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import pytest
import trio

from relay.config import Config
from relay.model import Claim, Delivery
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.queue import Store, StoreLostBody
from relay.store.scripts import SCRIPTS
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
from tests.kit.proxy import Proxy, open_proxy
from tests.kit.redis import Server

pytestmark = pytest.mark.usefixtures("audited")


def dump(server: Server) -> dict[bytes, bytes]:
    with server.client() as client:
        return {key: client.dump(key) for key in client.scan_iter()}


# -- accept -----------------------------------------------------------------------------------


async def test_accept_then_claim_then_settle(server: Server, store: Store, claims: Claims) -> None:
    delivery = make_delivery(recipients=2)

    assert await store.accept([delivery], b'{"event":"accepted"}', b"hello") is True
    check(server)
    claim = await claims.take_one()
    check(server)
    assert claim.delivery == delivery
    assert claim.body == b"hello"
    assert (claim.attempts, claim.previous) == (0, b"")
    assert await store.record_attempt(claim, b"{}").wait() == 1
    check(server)
    assert await store.settle(claim, b'{"event":"delivered"}')

    check(server)
    ledger = (await store.read_ledger())["ledger"]
    assert ledger == {"accepted": 2, "delivered": 2, "bounced": 0, "queued": 0, "unknown": 0}
    assert await store.read_story(delivery.message_id) == [
        b'{"event":"accepted"}',
        b'{"event":"delivered"}',
    ]
    assert await store.settle(claim, b"{}") is False


async def test_repeated_accept_changes_nothing(
    server: Server, store: Store, claims: Claims
) -> None:
    delivery = make_delivery()
    assert await store.accept([delivery], EVENT, b"hello") is True
    before = dump(server)

    assert await store.accept([delivery], EVENT, b"hello") is False

    assert dump(server) == before
    assert len(await claims.take()) == 1


async def test_accept_repeated_after_the_message_was_delivered(
    server: Server, store: Store, claims: Claims
) -> None:
    delivery = make_delivery()
    await store.accept([delivery], EVENT, b"hello")
    await store.settle(await claims.take_one(), EVENT)

    assert await store.accept([delivery], EVENT, b"hello") is False

    assert await claims.take() == []
    check(server)


async def test_notices_have_a_ledger_of_their_own(store: Store, claims: Claims) -> None:
    await store.accept([make_delivery(notice=True)], EVENT, b"hello")
    assert await read_books(store, "notices") == {"accepted": 1, "queued": 1}

    await store.settle(await claims.take_one(), EVENT)

    assert await read_books(store, "notices") == {"accepted": 1, "delivered": 1}
    assert await read_books(store) == {}


async def test_recipients_in_several_shards(server: Server, store: Store, claims: Claims) -> None:
    domains = find_domains(4)
    deliveries = make_deliveries(*domains, recipients=2)

    assert await store.accept(deliveries, EVENT, b"hello")

    check(server)
    assert await read_books(store) == {"accepted": 8, "queued": 8}
    for delivery in deliveries:
        claim = await claims.take_one(delivery.domain)
        assert claim.delivery == delivery
        body = claim.body or await store.read_part(claim.delivery, 0)
        assert body == b"hello"
        assert await store.settle(claim, EVENT)
        check(server)
    assert await read_books(store) == {"accepted": 8, "delivered": 8}


async def test_recipients_of_several_domains_in_one_shard(
    server: Server, store: Store, claims: Claims
) -> None:
    domains = find_domains(3, shard=5)
    await store.accept(make_deliveries(*domains), EVENT, b"hello")
    check(server)

    found = await claims.take(domains[0])

    assert [claim.body for claim in found] == [b"hello"] * 3
    for claim in found:
        assert await store.settle(claim, EVENT)
        check(server)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with open_proxy(server.socket) as proxy:
        yield proxy


@pytest.fixture
async def shaky(proxy: Proxy, config: Config) -> AsyncIterator[Store]:
    """A store behind the proxy."""
    link = Link(proxy.url, timeout=5)
    yield Store(link, config)
    await link.aclose()


@pytest.mark.parametrize("executed", [False, True])
async def test_forward_that_was_broken_off_is_done_again(
    server: Server, store: Store, claims: Claims, proxy: Proxy, shaky: Store, *, executed: bool
) -> None:
    here, there = find_domains(2)
    deliveries = make_deliveries(here, there)
    (proxy.cut_reply if executed else proxy.cut_request)(SCRIPTS["enqueue"].digest)
    assert await shaky.accept(deliveries, EVENT, b"hello")
    assert proxy.cuts == 1
    check(server)
    assert await read_books(store) == {"accepted": 2, "queued": 2}

    for _ in range(2):  # two workers may find it
        for delivery in await store.read_outbox(find_shard(here)) or [deliveries[1]]:
            await store.forward(delivery)

    check(server)
    assert await store.read_outbox(find_shard(here)) == []
    assert (await claims.take_one(there)).delivery == deliveries[1]


async def test_a_sender_does_not_wait_for_all_that_cannot_be_forwarded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = find_domains(4)

    async def hang(delivery: Delivery) -> None:
        await trio.sleep_forever()

    with monkeypatch.context() as patch, trio.fail_after(5):
        patch.setattr("relay.store.queue._FORWARD_PATIENCE", 0.01)
        patch.setattr(store, "forward", hang)
        assert await store.accept(make_deliveries(*domains), EVENT, b"hello")

    left = await store.read_outbox(find_shard(domains[0]))
    assert {delivery.domain for delivery in left} == set(domains[1:])


async def test_forward_repeated_after_the_delivery_was_settled(
    server: Server, store: Store, claims: Claims, proxy: Proxy, shaky: Store
) -> None:
    here, there = find_domains(2)
    deliveries = make_deliveries(here, there)
    proxy.cut_reply(SCRIPTS["enqueue"].digest)
    await shaky.accept(deliveries, EVENT, b"hello")
    await store.settle(await claims.take_one(there), EVENT)

    (left,) = await store.read_outbox(find_shard(here))
    await store.forward(left)

    assert await claims.take(there) == []
    check(server)


async def test_what_a_rule_holds_waits_for_an_operator(
    server: Server, store: Store, claims: Claims, config: Config
) -> None:
    here, there = find_domains(2)
    await store.accept(make_deliveries(here, there, held=True), EVENT, b"hello")

    check(server)
    assert await read_books(store) == {"accepted": 2, "queued": 2}
    for domain in (here, there):
        assert await claims.take(domain) == []
        (waiting,) = await store.read_due(f"acme/{domain}", 0, 10)
        assert waiting.until - time.time() == pytest.approx(config.delivery.expire, abs=60)

        seized, _ = await store.seize_due(f"acme/{domain}", token=f"operator {domain}")
        await store.defer(seized[0], b"", wait=0.0, attempted=False)

        claim = await claims.take_one(domain)
        assert claim.body == (b"hello" if domain == here else None)
        await store.settle(claim, EVENT)
    check(server)


@pytest.mark.parametrize("size", [32_768, 32_769, 70_000, 250_000])
async def test_a_long_body_lives_as_long_as_its_message(
    server: Server, store: Store, claims: Claims, size: int
) -> None:
    """It is stored for an hour, then accepted; a repetition must not make it an hour again."""
    delivery = make_delivery(size=size)
    assert await store.accept([delivery], EVENT, b"x" * size) is True
    assert await store.accept([delivery], EVENT, b"y" * size) is False

    key = make_key(delivery.home, "body", delivery.message_id, 0)
    with server.client() as client:
        assert client.ttl(key) > 6 * 86_400
        assert client.get(key) == b"x" * size
    await store.settle(await claims.take_one(), EVENT)
    check(server)


# -- large messages ---------------------------------------------------------------------------


async def test_large_message_in_parts(server: Server, store: Store, claims: Claims) -> None:
    parts = [b"a" * 300_000, b"b" * 300_000, b"c"]
    delivery = make_delivery(chunks=3, size=600_001)
    for number, part in enumerate(parts):
        await store.store_part(delivery.home, delivery.message_id, number, part)
    assert await store.accept([delivery], EVENT, b"")
    check(server)

    claim = await claims.take_one()

    assert claim.body is None
    assert [await store.read_part(claim.delivery, n) for n in range(3)] == parts
    await store.settle(claim, EVENT)
    check(server)
    assert await store.read_part(delivery, 0) is None


async def test_parts_live_as_long_as_their_message(server: Server, store: Store) -> None:
    delivery = make_delivery(chunks=2, size=600_000)
    key = make_key(delivery.home, "body", delivery.message_id, 1)
    for number in range(2):
        await store.store_part(delivery.home, delivery.message_id, number, b"x")
    with server.client() as client:
        assert client.pttl(key) <= 3_600_000

        await store.accept([delivery], EVENT, b"")

        assert client.pttl(key) > 6 * 86_400_000


async def test_message_whose_parts_are_gone_is_not_accepted(
    server: Server, store: Store, claims: Claims
) -> None:
    delivery = make_delivery(chunks=2)
    await store.store_part(delivery.home, delivery.message_id, 0, b"x")

    with pytest.raises(StoreLostBody):
        await store.accept([delivery], EVENT, b"")

    assert await claims.take() == []
    assert await read_books(store) == {}
    check(server)


async def test_part_of_a_large_message_is_never_taken_for_all_of_it(
    store: Store, claims: Claims
) -> None:
    delivery = make_delivery(chunks=2, size=10)
    for number in range(2):
        await store.store_part(delivery.home, delivery.message_id, number, b"hello")
    await store.accept([delivery], EVENT, b"")

    assert (await claims.take_one()).body is None


# -- the ends of a claim ----------------------------------------------------------------------


async def test_bounce_counts_what_was_delivered_before(
    server: Server, store: Store, claims: Claims
) -> None:
    await store.accept([make_delivery(recipients=3)], EVENT, b"hello")

    assert await store.bounce(await claims.take_one(), EVENT, delivered=1)

    check(server)
    assert await read_books(store) == {"accepted": 3, "delivered": 1, "bounced": 2}


async def test_defer_keeps_what_is_still_open(server: Server, store: Store, claims: Claims) -> None:
    await store.accept([make_delivery(recipients=4)], EVENT, b"hello")
    claim = await claims.take_one()
    envelope = msgspec.structs.replace(
        claim.delivery.envelope, recipients=claim.delivery.envelope.recipients[2:]
    )
    rest = msgspec.structs.replace(claim.delivery, envelope=envelope)

    assert await store.defer(claim, b"why", wait=0, rest=rest, delivered=1, bounced=1)

    check(server)
    assert await read_books(store) == {"accepted": 4, "delivered": 1, "bounced": 1, "queued": 2}
    again = await claims.take_one()
    assert again.delivery == rest
    assert (again.attempts, again.previous, again.body) == (1, b"why", b"hello")
    await store.settle(again, EVENT)
    assert await read_books(store) == {"accepted": 4, "delivered": 3, "bounced": 1}


async def test_defer_waits(server: Server, store: Store, claims: Claims) -> None:
    await put(store, 1)
    await store.defer(await claims.take_one(), EVENT, wait=30)
    check(server)

    assert await claims.take() == []
    assert 25 < await store.promote_all() <= 30
    assert await claims.take() == []


async def test_defer_to_a_source_waits_in_a_queue_of_its_own(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 2)
    shard = find_shard("a.test")
    pinned, free = await claims.take()

    await store.defer(pinned, EVENT, wait=0, source="b")
    await store.defer(free, EVENT, wait=0)

    check(server)
    lanes = await store.list_lanes(shard)
    assert sorted(lanes) == ["default/normal/acme/", "default@b/normal/acme/"]
    claimed = await claims.take_from("default@b/normal/acme/")
    ((_, again),) = claimed.claims
    assert again.delivery == pinned.delivery
    await store.defer(again, EVENT, wait=0)  # as it was
    ((_, again),) = (await claims.take_from("default@b/normal/acme/")).claims
    await store.defer(again, EVENT, wait=0, source="")
    assert await store.list_lanes(shard) == ["default/normal/acme/"]
    assert len(await claims.take()) == 2


async def test_pinned_delivery_keeps_the_site(store: Store, claims: Claims) -> None:
    shard = find_shard("a.test")
    await put(store, 1)
    await store.assign(shard, "acme/a.test", "default/normal/acme/", "google")

    await store.defer(await claims.take_one(), EVENT, wait=0, source="b")

    assert await store.list_lanes(shard) == ["default@b/normal/acme/google"]


async def test_defer_by_our_own_choice_is_no_attempt(store: Store, claims: Claims) -> None:
    await put(store, 1)
    await store.defer(await claims.take_one(), b"", wait=0, attempted=False)

    again = await claims.take_one()

    assert (again.attempts, again.previous) == (0, b"")


async def test_hurry_lets_go_what_waits(server: Server, store: Store, claims: Claims) -> None:
    deliveries = await put(store, 3)
    for claim, wait in zip(await claims.take(), (100, 1000, 10_000), strict=True):
        await store.defer(claim, EVENT, wait=wait)
    assert await store.hurry("acme/a.test", ahead=0) == 0

    assert await store.hurry("acme/a.test", ahead=2000) == 2

    check(server)
    assert {c.delivery.id for c in await claims.take()} == {d.id for d in deliveries[:2]}
    assert 9000 < await store.promote_all() <= 10_000


async def test_hurry_is_bounded_and_goes_on(server: Server, store: Store, claims: Claims) -> None:
    await put(store, 250)
    for _ in range(3):
        for claim in await claims.take():
            await store.defer(claim, EVENT, wait=1000)

    assert await store.hurry("acme/a.test", ahead=2000) == 250


async def test_what_is_hurried_can_be_looked_up_at_once(
    server: Server, store: Store, claims: Claims
) -> None:
    """It goes ahead of its time: no time of the future may get into the lanes."""
    await put(store, 1)
    await store.defer(await claims.take_one(), EVENT, wait=86_400)

    await store.hurry("acme/a.test", ahead=5 * 86_400)

    check(server)
    shard = find_shard("a.test")
    (lane,) = await store.list_lanes(shard)
    assert await store.survey(shard, lane, limit=9, patience=30) == (["acme/a.test"], 30.0)


async def test_hurry_of_a_queue_that_is_left_alone(
    server: Server, store: Store, claims: Claims
) -> None:
    deliveries = await put(store, 2)
    claim = (await claims.take(most=1))[0]
    await store.defer(claim, EVENT, wait=1000)
    shard = find_shard("a.test")
    (lane,) = await store.list_lanes(shard)
    await store.pause(shard, "acme/a.test", lane, 60)
    assert await claims.take() == []

    assert await store.hurry("acme/a.test", ahead=10) == 0

    check(server)
    assert [claim.delivery.id for claim in await claims.take()] == [deliveries[1].id]


async def test_wrong_token_changes_nothing(server: Server, store: Store, claims: Claims) -> None:
    await put(store, 1)
    claim = await claims.take_one()
    thief = msgspec.structs.replace(claim, token="test-0")
    before = dump(server)

    assert await store.record_attempt(thief, EVENT).wait() == 0
    assert await store.settle(thief, EVENT) is False
    assert await store.bounce(thief, EVENT, delivered=0) is False
    assert await store.defer(thief, EVENT, wait=0) is False
    await store.renew([thief])

    assert dump(server) == before


@pytest.mark.parametrize("end", ["settle", "bounce"])
async def test_slow_worker_does_not_take_the_body_from_the_next(
    server: Server, store: Store, claims: Claims, end: str
) -> None:
    here, there = find_domains(2)
    await store.accept(make_deliveries(here, there), EVENT, b"hello")
    slow = await claims.take_one(there)
    await store.settle(await claims.take_one(here), EVENT)
    expire_claims(server)
    await store.reclaim(find_shard(there))
    again = await claims.take_one(there)

    if end == "settle":
        assert await store.settle(slow, EVENT) is False
    else:
        assert await store.bounce(slow, EVENT, delivered=0) is False

    assert await store.read_part(again.delivery, 0) == b"hello"
    check(server)


async def test_repeated_settle_frees_the_body_that_the_first_did_not(
    server: Server, store: Store, claims: Claims, proxy: Proxy, shaky: Store
) -> None:
    here, there = find_domains(2)
    await store.accept(make_deliveries(here, there), EVENT, b"hello")
    for domain in (here, there):
        claim = await claims.take_one(domain)
        proxy.cut_reply(SCRIPTS["settle"].digest)
        await shaky.settle(claim, EVENT)

    assert proxy.cuts == 2
    check(server)  # no body is left over


async def test_end_whose_reply_was_lost_is_ours_to_tell(
    server: Server, store: Store, claims: Claims, proxy: Proxy, shaky: Store
) -> None:
    (domain,) = find_domains(1)
    ends: dict[str, Callable[[Claim], Awaitable[bool]]] = {
        "settle": lambda claim: shaky.settle(claim, b"settled"),
        "bounce": lambda claim: shaky.bounce(claim, b"bounced", delivered=0),
        "defer": lambda claim: shaky.defer(claim, b"deferred", wait=100),
    }
    for name, end in ends.items():
        await store.accept(make_deliveries(domain), EVENT, b"hello")
        claim = await claims.take_one(domain)
        proxy.cut_reply(SCRIPTS[name].digest)
        assert await end(claim) is True
    assert proxy.cuts == 3
    check(server)


async def test_end_that_another_came_before_is_not(
    server: Server, store: Store, claims: Claims, proxy: Proxy, shaky: Store
) -> None:
    (domain,) = find_domains(1)
    await store.accept(make_deliveries(domain), EVENT, b"hello")
    slow = await claims.take_one(domain)
    expire_claims(server)
    await store.reclaim(find_shard(domain))
    await store.settle(await claims.take_one(domain), b"settled by another")
    proxy.cut_reply(SCRIPTS["settle"].digest)
    assert await shaky.settle(slow, b"settled") is False
    assert proxy.cuts == 1


# -- stories ----------------------------------------------------------------------------------


async def test_story_of_several_shards(server: Server, store: Store, claims: Claims) -> None:
    here, there = find_domains(2)
    first, second = make_deliveries(here, there)
    await store.accept([first, second], b"1", b"hello")
    await store.settle(await claims.take_one(there), b"2")
    await store.settle(await claims.take_one(here), b"3")

    assert sorted(await store.read_story(first.message_id)) == [b"1", b"2", b"3"]


async def test_story_is_kept_while_anything_of_it_waits(
    server: Server, store: Store, claims: Claims
) -> None:
    one, two = find_domains(2, shard=2)
    deliveries = make_deliveries(one, two)
    key = make_key(2, "story", deliveries[0].message_id)
    await store.accept(deliveries, EVENT, b"hello")
    first, _ = await claims.take(one)
    with server.client() as client:
        before = client.pttl(key)

        await store.settle(first, EVENT)

        assert client.pttl(key) >= before - 10_000


async def test_story_of_a_message_that_has_ended_is_kept_for_a_while(
    server: Server, store: Store, claims: Claims
) -> None:
    (delivery,) = await put(store, 1)
    await store.settle(await claims.take_one(), EVENT)

    with server.client() as client:
        left = client.pttl(make_key(delivery.home, "story", delivery.message_id))
    assert 86_000_000 < left <= 86_400_000  # store.remember


async def test_story_of_nothing(store: Store) -> None:
    assert await store.read_story(make_delivery().message_id) == []
    with pytest.raises(ValueError, match="not a message id"):
        await store.read_story("nonsense")


async def test_memory_is_told(store: Store) -> None:
    used, limit = await store.read_memory()

    assert used > 100_000
    assert limit == 0
