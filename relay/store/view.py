"""Looking at the queue without changing it: the ledger, stories, where a delivery is."""

from dataclasses import dataclass

from relay.model import read_home
from relay.store.keys import SHARDS, find_shard, make_key
from relay.store.link import Link

_COUNTERS = ("accepted", "delivered", "bounced", "queued", "unknown")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a delivery is: "ready", "due" or "claimed"; ``until``: due when, or claimed until."""

    state: str
    attempts: int
    until: float | None


class View:
    """What can be read of a store over a link."""

    def __init__(self, link: Link, pools: tuple[str, ...]) -> None:
        """``pools``: the names of those that are configured."""
        self.link = link
        self._pools = pools

    async def read_ledger(self) -> dict[str, dict[str, int]]:
        """Return ``{"ledger": {...}, "notices": {...}}``: recipients, summed over the shards."""
        names = ("ledger", "notices")
        # All at once: in one pipeline no transition comes between.
        pending = {
            name: [self.link.send("HGETALL", make_key(s, name)) for s in range(SHARDS)]
            for name in names
        }
        result = {name: dict.fromkeys(_COUNTERS, 0) for name in names}
        for name, replies in pending.items():
            for reply in replies:
                pairs = await reply.wait()
                for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                    result[name][key.decode()] += int(value)
        return result

    async def read_counts(self) -> dict[str, int]:
        """Return what the store holds: queues, claimed deliveries, deliveries between shards."""
        counts = {"queues": 0, "claimed": 0, "forwarding": 0}
        for shard in range(SHARDS):
            counts["claimed"] += await self.link.call("ZCARD", make_key(shard, "claims"))
            counts["forwarding"] += await self.link.call("HLEN", make_key(shard, "outbox"))
            for pool in self._pools:
                counts["queues"] += await self.link.call("ZCARD", make_key(shard, "agenda", pool))
        return counts

    async def read_place(self, delivery_id: str, domain: str) -> Place | None:
        """Return where a delivery is now; None when it has ended (or never was)."""
        shard = find_shard(domain)
        key = make_key(shard, "delivery", delivery_id)
        queue, attempts, claimed = await self.link.call("HMGET", key, "q", "n", "t")
        if queue is None:
            return None
        if claimed is not None:
            score = await self.link.call("ZSCORE", make_key(shard, "claims"), delivery_id)
            return Place("claimed", int(attempts), float(score or 0) / 1000)
        score = await self.link.call("ZSCORE", make_key(shard, "due", queue.decode()), delivery_id)
        if score is not None:
            return Place("due", int(attempts), float(score) / 1000)
        return Place("ready", int(attempts), None)

    async def read_story(self, message_id: str) -> list[bytes]:
        """Return a message's events, by shard, each oldest first; empty when it is not known.

        Raises ValueError when this is no message id.
        """
        home = read_home(message_id)
        events: list[bytes] = []
        for shard in [home, *(s for s in range(SHARDS) if s != home)]:
            events += await self.link.call("LRANGE", make_key(shard, "story", message_id), 0, -1)
        return events

    async def read_memory(self) -> tuple[int, int]:
        """Return the server's used memory and its limit (0: none), in octets."""
        info = (await self.link.call("INFO", "memory")).decode()
        values = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        return int(values["used_memory"]), int(values.get("maxmemory", 0))
