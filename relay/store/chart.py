"""The chart of a Cluster: which master has which slot."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import redis
from redis.crc import key_slot

from relay.config.storeurl import Place, StoreAddress, write_place
from relay.store.keys import SHARDS, make_tag
from relay.store.wire import make_pool

SLOTS = 16_384
_PATIENCE = 2.0  # seconds for one node to say what it knows
_TAG_SLOTS = {make_tag(shard): key_slot(make_tag(shard).encode()) for shard in range(SHARDS)}


@dataclass(frozen=True, slots=True)
class Chart:
    """Who has what: a place for each slot, None for a slot that nobody has."""

    owners: list[Place | None]

    @property
    def masters(self) -> list[Place]:
        """Those that have a slot of ours, that of the first shard first."""
        places = (self.owners[slot] for slot in _TAG_SLOTS.values())
        return list(dict.fromkeys(place for place in places if place is not None))

    def find_shards(self, place: Place) -> list[int]:
        """Return the shards whose slot a master has."""
        return [
            shard for shard in range(SHARDS) if self.owners[_TAG_SLOTS[make_tag(shard)]] == place
        ]


def find_slot(key: str | bytes) -> int:
    """Return the slot of a key; of ours, at the cost of a look into a table."""
    if isinstance(key, bytes):
        return int(key_slot(key))
    slot = _TAG_SLOTS.get(key[: key.find("}") + 1])
    return int(key_slot(key.encode())) if slot is None else slot


def read_chart(
    address: StoreAddress,
    timeout: float,
    known: Sequence[Place] = (),
    doubted: frozenset[Place] = frozenset(),
) -> Chart:
    """Ask nodes until one that is well answers; blocks. Raises redis.ConnectionError if none does.

    ``known``: places of an older chart, asked first; ``doubted``: asked last: who has been cut off
    has an old chart, and takes a while to notice.
    """
    reasons = []
    candidates = dict.fromkeys(itertools.chain(known, address.hosts))
    for place in sorted(candidates, key=lambda one: one in doubted):
        try:
            return _ask(address, place, min(timeout, _PATIENCE))
        except (redis.RedisError, OSError) as error:
            reasons.append(f"{write_place(place)}: {error}")
    raise redis.ConnectionError(f"no node of the Cluster is well ({'; '.join(reasons)})")


def _ask(address: StoreAddress, place: Place, timeout: float) -> Chart:
    pool = make_pool(address.make_url(place), timeout)
    with redis.Redis(connection_pool=pool) as node:
        try:
            state = node.cluster("INFO").get("cluster_state")
            if state != "ok":
                raise redis.ConnectionError(f"the Cluster's state is {state!r}")
            raw = node.execute_command("CLUSTER SLOTS")
        finally:
            pool.disconnect()
    owners: list[Place | None] = [None] * SLOTS
    for first, last, master, *_ in raw:
        # No name: the one that was asked.
        host = master[0].decode() if master[0] else place[0]
        owners[first : last + 1] = [(host, int(master[1]))] * (last + 1 - first)
    chart = Chart(owners)
    if not chart.masters:
        raise redis.ConnectionError("the Cluster has none of our slots")
    return chart
