"""Looking at the queue without changing it: the ledger, stories, where a delivery is."""

from dataclasses import dataclass

from relay.model import read_home
from relay.store.keys import SHARDS, find_shard, make_key
from relay.store.link import Link

_COUNTERS = ("accepted", "delivered", "bounced", "queued", "unknown")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a delivery is: "due" or "claimed"; ``until``: due when, or claimed until."""

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
            counts["queues"] += len(await self.list_queues(shard))
        return counts

    async def list_queues(self, shard: int) -> dict[str, str]:
        """Return the queues of a shard that hold something, and the lane of each ("" if none).

        For people: it reads every lane.
        """
        lanes = await self.link.call("ZRANGE", make_key(shard, "lanes"), 0, -1)
        rounds = [self.link.send("ZRANGE", make_key(shard, "round", x.decode()), 0, -1) for x in lanes]
        due = self.link.send("ZRANGE", make_key(shard, "agenda"), 0, -1)
        found = {queue.decode(): "" for queue in await due.wait()}
        for lane, queues in zip(lanes, rounds, strict=True):
            found |= {queue.decode(): lane.decode() for queue in await queues.wait()}
        return found

    async def read_place(self, delivery_id: str, domain: str) -> Place | None:
        """Return where a delivery is, when it is claimed or due; None: ready, or ended."""
        shard = find_shard(domain)
        kept = await self.link.call("HGET", make_key(shard, "records"), delivery_id)
        if kept is None:
            return None
        queue, slip, _ = kept.split(b"\n", 2)
        attempts = int(slip.split(b" ")[6])
        score = await self.link.call("ZSCORE", make_key(shard, "claims"), delivery_id)
        if score is not None:
            return Place("claimed", attempts, float(score) / 1000)
        score = await self.link.call("ZSCORE", make_key(shard, "due", queue.decode()), delivery_id)
        return Place("due", attempts, float(score or 0) / 1000)

    async def read_story(self, message_id: str) -> list[bytes]:
        """Return a message's events, by shard, each oldest first; empty when it is not known.

        Raises ValueError when this is no message id.
        """
        home = read_home(message_id)
        shards = [home, *(shard for shard in range(SHARDS) if shard != home)]
        asked = [self.link.send("GET", make_key(shard, "story", message_id)) for shard in shards]
        return [line for story in asked for line in (await story.wait() or b"").splitlines()]

    async def read_memory(self) -> tuple[int, int]:
        """Return the server's used memory and its limit (0: none), in octets."""
        info = (await self.link.call("INFO", "memory")).decode()
        values = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        return int(values["used_memory"]), int(values.get("maxmemory", 0))
