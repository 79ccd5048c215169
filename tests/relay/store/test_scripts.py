"""What the scripts decide on their own: turns and limits of a claim, lanes, leases, wake-ups."""

import contextlib
from collections.abc import Callable, Iterator
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


# -- turns ------------------------------------------------------------------------------------


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


async def test_claim_deals_out_to_sources_in_turn(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 20)

    claimed = await claims.take_from("default/normal/acme/", 3, 0, 1, 4)

    assert [source for source, _ in claimed.claims] == [0, 2, 3, 0, 3, 0, 3, 3]
    assert claimed.left == 12


async def test_claim_tells_what_is_left(store: Store, claims: Claims) -> None:
    """Exactly for four queues; of more, that there is something."""
    for number, domain in enumerate(find_domains(9, shard=4)):
        await put(store, number + 1, domain)
    lane = "default/normal/acme/"
    left = 45

    while left:
        claimed = await claims.take_from(lane, 4, domain=domain)
        left -= len(claimed.claims)
        assert 0 < claimed.left <= left if left else claimed.left == 0


# -- lanes ------------------------------------------------------------------------------------


async def test_lane_is_forgotten_with_its_last_delivery(store: Store, claims: Claims) -> None:
    await put(store, 2)
    await claims.take(most=1)
    assert await store.list_lanes(SHARD) == ["default/normal/acme/"]

    await claims.take(most=1)

    assert await store.list_lanes(SHARD) == []


async def test_queue_that_was_emptied_past_its_lane_is_heard_of_again(
    server: Server, store: Store, claims: Claims
) -> None:
    """It stays in its lane's round; the lane must not be forgotten with it inside."""
    domains = find_domains(7, shard=4)
    for domain in domains:
        await put(store, 1, domain)
    for domain in domains[1:]:
        assert len((await store.seize(f"acme/{domain}", token="s"))[0]) == 1
    check(server)

    while (await claims.take_from("default/normal/acme/", 1, domain=domains[0])).left:
        check(server)

    check(server)
    with listen(server) as read:
        await put(store, 1, domains[3])
        assert len(read()) == 1


async def test_lane_that_is_counted_empty_is_heard_of_again(
    server: Server, store: Store, claims: Claims
) -> None:
    lane = "default/normal/acme/"
    await put(store, 3)
    assert await store.count_ready([(SHARD, lane), (SHARD, f"{lane}x")]) == [3, 0]
    await store.seize("acme/a.test", token="s")

    assert await store.count_ready([(SHARD, lane)]) == [0]

    check(server)
    with listen(server) as read:
        await put(store, 1)
        assert len(read()) == 1


async def test_survey_leaves_queues_to_who_asked_first(
    server: Server, store: Store, claims: Claims
) -> None:
    domains = find_domains(3, shard=4)
    for domain in domains:
        await put(store, 1, domain)
    lane = "default/normal/acme/"

    first, soon = await store.survey(4, lane, limit=2, patience=30)
    second, later = await store.survey(4, lane, limit=2, patience=30)
    none, _ = await store.survey(4, lane, limit=2, patience=30)

    assert sorted([*first, *second]) == sorted(f"acme/{domain}" for domain in domains)
    assert (len(first), soon, none) == (2, 0.0, [])
    assert later is not None
    assert 29 < later <= 30
    check(server)
    assert await store.survey(5, lane, limit=2, patience=30) == ([], None)


async def test_assigned_queue_changes_lanes_and_its_next_mail_knows(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1)
    await store.assign(SHARD, "acme/a.test", "default/normal/acme/", "google")
    check(server)
    assert await store.list_lanes(SHARD) == ["default/normal/acme/google"]
    await claims.take_one()

    await put(store, 1)

    assert await store.list_lanes(SHARD) == ["default/normal/acme/google"]


async def test_queue_that_was_emptied_meanwhile_is_assigned_to_no_lane(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1)
    await claims.take_one()
    await store.assign(SHARD, "acme/a.test", "default/normal/acme/", "google")

    assert await store.list_lanes(SHARD) == []


async def test_paused_queue_is_left_alone_until_its_time(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 2)
    await store.pause(SHARD, "acme/a.test", "default/normal/acme/", 60)

    check(server)
    assert await store.list_lanes(SHARD) == []
    assert 59 < await store.promote_all() <= 60
    assert await claims.take() == []
    with server.client() as client:
        client.zadd(make_key(SHARD, "agenda"), {"acme/a.test": 1})
    await store.promote_all()
    check(server)
    assert len(await claims.take()) == 2


async def test_unserved_lanes_and_their_rounds(server: Server, store: Store) -> None:
    await put(store, 1)
    assert await store.list_unserved(SHARD, 10) == []
    assert await store.list_round(SHARD, "default/normal/acme/", 0, 9) == ["acme/a.test"]

    with server.client() as client:
        client.zadd(make_key(SHARD, "lanes"), {"default/normal/acme/": 5000})

    assert await store.list_unserved(SHARD, 10) == [("default/normal/acme/", 5.0)]


# -- seizing ----------------------------------------------------------------------------------


async def test_seize_takes_messages_that_are_meant(
    server: Server, store: Store, claims: Claims
) -> None:
    deliveries = await put(store, 3)

    meant = [deliveries[1].message_id]
    found, rest = await store.seize("acme/a.test", token="s", messages=meant)

    check(server)
    assert [claim.delivery for claim in found] == [deliveries[1]]
    assert rest == ""
    assert await store.settle(found[0], EVENT)
    assert len(await claims.take()) == 2


async def test_seize_by_age_goes_on_where_it_stopped(
    server: Server, store: Store, claims: Claims
) -> None:
    for accepted in (10.0, 99.0, 20.0, 98.0, 30.0):
        await store.accept([make_delivery(accepted=accepted)], EVENT, b"hello")
    found: list[float] = []
    start, calls = "-", 0
    while start:
        claims_here, start = await store.seize(
            "acme/a.test", token=f"s{calls}", accepted_before=50.0, start=start, limit=2
        )
        found += [claim.delivery.accepted for claim in claims_here]
        calls += 1

    assert (found, calls) == ([10.0, 20.0, 30.0], 3)
    check(server)
    assert len(await claims.take()) == 2


async def test_seize_of_what_is_due(server: Server, store: Store, claims: Claims) -> None:
    deliveries = await put(store, 5)
    for claim in await claims.take():
        await store.defer(claim, b"why", wait=60)
    meant = [deliveries[n].message_id for n in (0, 3)]
    found, start = [], 0
    while True:
        some, passed = await store.seize_due(
            "acme/a.test", token="s", messages=meant, start=start, limit=2
        )
        found += some
        if passed < 0:
            break
        start += passed

    check(server)
    # In any order: what was deferred within a millisecond has none.
    assert sorted(claim.delivery.id for claim in found) == sorted(deliveries[n].id for n in (0, 3))
    assert (found[0].attempts, found[0].previous) == (1, b"why")
    for claim in found:
        assert await store.bounce(claim, EVENT, delivered=0)
    assert await store.hurry("acme/a.test", ahead=100) == 3


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
        assert await store.hurry("acme/a.test", ahead=6 * 86_400) == 1
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


async def test_silences_that_lie_apart_are_each_forgiven(
    server: Server, store: Store, claims: Claims
) -> None:
    for _ in range(4):
        silence(server, seen=90_000, since=90_000)
        await store.reclaim(SHARD)
        silence(server, seen=30_000, since=90_000)  # in time again
        await store.reclaim(SHARD)
    await put(store, 1)
    await claims.take_one()
    expire_claims(server)
    silence(server, seen=90_000, since=90_000)

    assert await store.reclaim(SHARD) == []


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


@contextlib.contextmanager
def listen(server: Server) -> Iterator[Callable[[], list[str]]]:
    """Yield a function that returns what was published since the last call."""
    with server.client() as client, client.pubsub() as heard:
        heard.subscribe("og:wake")
        assert heard.get_message(timeout=5) is not None

        def read() -> list[str]:
            client.publish("og:wake", "end")
            news: list[str] = []
            while (message := heard.get_message(timeout=5)) and message["data"] != b"end":
                news.append(message["data"].decode())
            return news

        yield read


async def test_news_of_a_lane_that_had_nothing(
    server: Server, store: Store, claims: Claims
) -> None:
    news = f"lane {{og{SHARD}}} default/normal/acme/"
    with listen(server) as read:
        await put(store, 2)
        assert read() == [news]
        await claims.take(most=1)
        await put(store, 1)
        assert read() == []  # who claimed was told that more is left
        await claims.take()
        assert read() == []

        await put(store, 1)

        assert read() == [news]


async def test_news_of_every_lane(server: Server, store: Store, claims: Claims) -> None:
    """Priority, tenant, pool, pin and site each make another lane."""
    with listen(server) as read:
        await put(store, 1, priority="bulk")
        await put(store, 1, tenant="other")
        await put(store, 1, pool="second")
        found = await claims.take()
        await store.defer(found[0], EVENT, wait=0, source="b")
        await store.assign(SHARD, "acme/a.test/bulk", "default@b/bulk/acme/", "x")
        names = [line.split(" ")[2] for line in read()]

    assert names == [
        "default/bulk/acme/",
        "default/normal/other/",
        "second/normal/acme/",
        "default@b/bulk/acme/",
    ]


async def test_what_was_due_is_in_the_news(server: Server, store: Store, claims: Claims) -> None:
    await put(store, 1)
    await store.defer(await claims.take_one(), EVENT, wait=0.001)
    with listen(server) as read:
        while await store.promote_all() < 1:
            pass
        assert len(read()) == 1
