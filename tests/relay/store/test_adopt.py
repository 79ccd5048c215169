"""Queues whose pool has gone from the configuration: their mail must not wait for ever."""

from pathlib import Path

import msgspec

from relay.config import read
from relay.store.keys import find_shard
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.messages import make_delivery
from tests.kit.redis import Server


async def test_a_pool_that_is_gone_is_taken_over(
    store: Store, link: Link, tmp_path: Path, server: Server
) -> None:
    delivery = make_delivery("a.test")
    other = msgspec.structs.replace(delivery, pool="old")
    assert await store.accept([other], b"{}", b"x")
    shard = find_shard("a.test")
    document = {
        "pool": {"new": {"default": 1}},
        "tenant": [{"name": delivery.tenant, "domains": ["acme.example"], "pool": "new"}],
    }
    changed = Store(link, read(document, base=tmp_path, environment={}))

    # Just put there: others may know its pool, and look.
    assert await changed.adopt(shard) == []
    taken = await changed.adopt(shard, neglected=0)
    assert taken == [(f"{delivery.tenant}/a.test", "new")]
    assert await changed.adopt(shard, neglected=0) == []

    found = await changed.claim(shard, "new", token="t", most=9, octets=1 << 20, inline=1 << 16)
    assert [claim.delivery.id for claim in found.claims] == [other.id]
    # What comes back goes to the pool that had it last, not to the one that is gone.
    assert await changed.defer(found.claims[0], b"{}", wait=0)
    again = await changed.claim(shard, "new", token="u", most=9, octets=1 << 20, inline=1 << 16)
    assert len(again.claims) == 1
    check(server)


async def test_pools_of_the_configuration_are_left_alone(store: Store) -> None:
    assert await store.accept([make_delivery("a.test")], b"{}", b"x")

    assert await store.adopt(find_shard("a.test"), neglected=0) == []
