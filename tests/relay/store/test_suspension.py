"""Suspensions: the records, what they cover, and queues that leave their lanes for a while."""

import pytest

from relay.store.keys import SHUT, find_shard, make_key
from relay.store.link import Link
from relay.store.queue import Store
from relay.store.suspension import Suspension, Suspensions, find_shards
from tests.kit.audit import check
from tests.kit.messages import EVENT, Claims, put
from tests.kit.redis import Server

pytestmark = pytest.mark.usefixtures("audited")

SHARD = find_shard("a.test")
LANE = "default/normal/acme/"
SHUT_LANE = f"default/normal/acme/{SHUT}"


@pytest.fixture
def suspensions(link: Link) -> Suspensions:
    return Suspensions(link)


@pytest.mark.parametrize(
    ("suspension", "name"),
    [
        (Suspension(site="google", source="a"), "site=google source=a"),
        (Suspension(tenant="acme", domain="a.test", why="x"), "tenant=acme domain=a.test"),
    ],
)
def test_name_says_what_is_suspended(suspension: Suspension, name: str) -> None:
    assert suspension.name == name


def test_what_is_left_out_stands_for_all() -> None:
    site = Suspension(site="google")
    assert site.covers(site="google")
    assert site.covers(tenant="acme", site="google", source="a")
    assert not site.covers(tenant="acme")
    assert not site.covers(site="yahoo", source="a")
    pair = Suspension(site="google", source="a")
    assert pair.covers(site="google", source="a")
    assert not pair.covers(site="google")
    assert not pair.covers(source="a")
    assert not Suspension(domain="a.test").covers(tenant="acme", site="google", source="a")


async def test_records_are_read_by_all(suspensions: Suspensions) -> None:
    one = Suspension(site="google", source="a", who="ann", why="blocked")
    await suspensions.suspend(one)
    await suspensions.suspend(Suspension(tenant="acme"))

    assert sorted(await suspensions.read(), key=lambda s: s.name) == [
        one,
        Suspension(tenant="acme"),
    ]
    changed = Suspension(site="google", source="a", until=await suspensions.read_clock() + 60)
    await suspensions.suspend(changed)
    assert changed in await suspensions.read()
    assert await suspensions.resume(one) is True
    assert await suspensions.resume(one) is False
    assert await suspensions.read() == [Suspension(tenant="acme")]


async def test_suspension_ends_on_the_stores_clock(suspensions: Suspensions) -> None:
    now = await suspensions.read_clock()
    await suspensions.suspend(Suspension(site="past", until=now - 0.001))
    await suspensions.suspend(Suspension(site="future", until=now + 60))

    assert [one.site for one in await suspensions.read()] == ["future"]


@pytest.mark.parametrize("tenant", ["", "acme"])
async def test_suspended_domain_leaves_its_lane_and_comes_back(
    server: Server, store: Store, claims: Claims, suspensions: Suspensions, tenant: str
) -> None:
    await put(store, 2)
    await put(store, 1, tenant="other")
    suspension = Suspension(tenant=tenant, domain="a.test")
    await suspensions.suspend(suspension)

    found = await claims.take()

    assert {claim.delivery.tenant for claim in found} == ({"other"} if tenant else set())
    check(server)
    assert SHUT_LANE in await store.list_lanes(SHARD)
    assert await store.reopen(SHARD, SHUT_LANE) == 1
    await put(store, 1)  # what comes now follows
    assert await claims.take() == []
    check(server)
    await suspensions.resume(suspension)
    assert await store.reopen(SHARD, SHUT_LANE) == 0
    if not tenant:
        assert await store.reopen(SHARD, f"default/normal/other/{SHUT}") == 0
    check(server)
    assert len(await claims.take()) == (3 if tenant else 4)


async def test_suspension_of_a_domain_ends_by_itself(
    server: Server, store: Store, claims: Claims, suspensions: Suspensions
) -> None:
    await put(store, 1)
    now = await suspensions.read_clock()
    await suspensions.suspend(Suspension(domain="a.test", until=now + 60))
    assert await claims.take() == []
    with server.client() as client:
        client.hset(make_key(SHARD, "closed"), "*/a.test", int((now - 1) * 1000))

    assert await store.reopen(SHARD, SHUT_LANE) == 0

    assert len(await claims.take()) == 1


async def test_suspended_domain_does_not_hold_up_the_others(
    server: Server, store: Store, claims: Claims, suspensions: Suspensions
) -> None:
    await put(store, 3)
    await put(store, 3, tenant="other")
    await suspensions.suspend(Suspension(tenant="acme", domain="a.test"))

    assert len((await claims.take_from("default/normal/other/")).claims) == 3


async def test_suspension_is_published(server: Server, suspensions: Suspensions) -> None:
    with server.client() as client, client.pubsub() as heard:
        heard.subscribe("og:wake")
        assert heard.get_message(timeout=5) is not None
        await suspensions.suspend(Suspension(site="google"))
        message = heard.get_message(timeout=5)
        assert message is not None
        assert message["data"] == b"suspensions"


async def test_deferred_mail_of_a_suspended_domain_waits_too(
    server: Server, store: Store, claims: Claims, suspensions: Suspensions
) -> None:
    await put(store, 1)
    await store.defer(await claims.take_one(), EVENT, wait=60, source="b")
    await suspensions.suspend(Suspension(domain="a.test"))

    assert await store.hurry("acme/a.test@b", ahead=100) == 1
    assert await claims.take() == []

    check(server)
    assert await store.list_lanes(SHARD) == [f"default@b/normal/acme/{SHUT}"]


async def test_decisions_are_kept_latest_first(suspensions: Suspensions, link: Link) -> None:
    for number in range(1005):
        link.send("LPUSH", make_key(0, "decisions"), b"%d" % number)
    await suspensions.record(b"last")

    assert list(await suspensions.read_decisions(2)) == [b"last", b"1004"]
    assert await link.call("LLEN", make_key(0, "decisions")) == 1000


def test_shards_of_a_domain() -> None:
    assert list(find_shards("a.test")) == [SHARD]
    assert len(find_shards("")) == 16
