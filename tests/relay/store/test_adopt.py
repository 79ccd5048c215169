"""Queues whose pool or source is gone: their mail must not wait for ever."""

import pytest

from relay.store.keys import find_shard
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.messages import EVENT, Claims, find_domains, put
from tests.kit.redis import Server

pytestmark = pytest.mark.usefixtures("audited")

SHARD = find_shard("a.test")


async def test_lane_is_taken_over_by_another_pool(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1, pool="old", priority="bulk")
    await store.assign(SHARD, "acme/a.test/bulk", "old/bulk/acme/", "google")

    assert await store.adopt(SHARD, "old/bulk/acme/google", "new") == 1
    assert await store.adopt(SHARD, "old/bulk/acme/google", "new") == 0

    check(server)
    assert await store.list_lanes(SHARD) == ["new/bulk/acme/google"]
    ((_, claim),) = (await claims.take_from("new/bulk/acme/google")).claims
    assert claim.delivery.pool == "new"
    # What comes back goes to the pool that had it last, not to the one that is gone.
    assert await store.defer(claim, EVENT, wait=0)
    assert await store.list_lanes(SHARD) == ["new/bulk/acme/google"]


async def test_adopting_is_bounded_and_goes_on(store: Store) -> None:
    domains = find_domains(5, shard=SHARD)
    for domain in domains:
        await put(store, 1, domain, pool="old")

    moved = [await store.adopt(SHARD, "old/normal/acme/", "new", limit=2) for _ in range(4)]

    assert moved == [2, 2, 1, 0]
    assert await store.list_lanes(SHARD) == ["new/normal/acme/"]


async def test_what_is_pinned_is_let_go(server: Server, store: Store, claims: Claims) -> None:
    deliveries = await put(store, 3)
    await store.assign(SHARD, "acme/a.test", "default/normal/acme/", "google")
    for claim in await claims.take():
        await store.defer(claim, b"grey", wait=0, source="gone")
    lane = "default@gone/normal/acme/google"

    moved = [await store.unpin(SHARD, lane, limit=2) for _ in range(3)]

    assert moved == [2, 1, 0]
    check(server)
    assert await store.list_lanes(SHARD) == ["default/normal/acme/google"]
    found = await claims.take()
    assert [claim.delivery for claim in found] == deliveries
    assert {(claim.attempts, claim.previous) for claim in found} == {(1, b"grey")}


async def test_unpin_of_what_is_due_later_comes_when_it_is(
    server: Server, store: Store, claims: Claims
) -> None:
    await put(store, 1)
    await store.defer(await claims.take_one(), EVENT, wait=60, source="gone")
    assert await store.unpin(SHARD, "default@gone/normal/acme/") == 0

    assert await store.hurry("acme/a.test@gone", ahead=100) == 1

    assert await store.unpin(SHARD, "default@gone/normal/acme/") == 1
    assert await store.list_lanes(SHARD) == ["default/normal/acme/"]
