"""Looking at the queue without changing it: the ledger, stories, queues, where a delivery is.

For people and their tools: some of it reads every queue there is, page by page. Times are seconds
since 1970, on the store's clock.
"""

import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from relay.model import read_home
from relay.store.gather import gather
from relay.store.keys import SHARDS, find_shard, make_key, make_queue, read_queue
from relay.store.link import Link, Part, Reply

_COUNTERS = ("accepted", "delivered", "bounced", "queued", "unknown")
_PAGE = 500  # commands that travel together, or members that are read in one go
_OLDEST = 1000  # deliveries of a queue that are looked at for the oldest
_PRIORITIES = ("", "urgent", "bulk")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a delivery is: "due" or "claimed"; ``until``: due when, or claimed until.

    ``site``: of its queue, "" where it is not known.
    """

    state: str
    attempts: int
    until: float | None
    queue: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """How many deliveries a queue holds."""

    ready: int
    due: int


@dataclass(frozen=True, slots=True)
class Front:
    """When the first of a queue is due (None: nothing is), and when its oldest was accepted."""

    due: float | None
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is due later: until when it waits, and when its message was accepted."""

    id: str
    until: float
    accepted: float

    @property
    def message_id(self) -> str:
        """The message that it is a part of."""
        return self.id.partition(".")[0]


async def ask(link: Link, commands: Iterable[Sequence[Part]]) -> AsyncIterator[Reply]:
    """Yield the reply to each command; they travel a page at a time, however many there are."""
    waiting = iter(commands)
    while page := [link.send(*command) for command in islice(waiting, _PAGE)]:
        for reply in page:
            yield await reply.wait()


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

    async def count_forwarding(self) -> int:
        """Return how many deliveries are on their way between shards."""
        commands = (("HLEN", make_key(shard, "outbox")) for shard in range(SHARDS))
        return sum([int(count) async for count in ask(self.link, commands)])

    async def list_queues(self, shard: int) -> dict[str, str]:
        """Return the queues of a shard that hold something, and the lane of each ("" if none).

        For people: it reads every lane.
        """
        lanes = await self.link.call("ZRANGE", make_key(shard, "lanes"), 0, -1)
        rounds = [
            self.link.send("ZRANGE", make_key(shard, "round", x.decode()), 0, -1) for x in lanes
        ]
        due = self.link.send("ZRANGE", make_key(shard, "agenda"), 0, -1)
        found = {queue.decode(): "" for queue in await due.wait()}
        for lane, queues in zip(lanes, rounds, strict=True):
            found |= {queue.decode(): lane.decode() for queue in await queues.wait()}
        return found

    async def read_sizes(self, queues: Iterable[str]) -> dict[str, Size]:
        """Return how many deliveries queues hold."""
        names = list(queues)
        commands = (
            (command, make_key(find_shard(read_queue(name).domain), kind, name))
            for name in names
            for command, kind in (("XLEN", "ready"), ("ZCARD", "due"))
        )
        counts = [int(reply) async for reply in ask(self.link, commands)]
        pairs = zip(counts[::2], counts[1::2], strict=True)
        return {name: Size(*pair) for name, pair in zip(names, pairs, strict=True)}

    async def read_sites(self, queues: Iterable[str]) -> dict[str, str]:
        """Return the sites of queues, "" where it is not known."""
        names = list(queues)
        commands = (
            ("GET", make_key(find_shard(read_queue(name).domain), "site", name)) for name in names
        )
        found = [(reply or b"").decode() async for reply in ask(self.link, commands)]
        return dict(zip(names, found, strict=True))

    async def count_claimed(self) -> Counter[str]:
        """Return how many deliveries of each queue are in workers' hands, where there are any."""
        counts: Counter[str] = Counter()
        for found in (await gather(self._count_claimed, range(SHARDS))).values():
            counts += found
        return counts

    async def _count_claimed(self, shard: int) -> Counter[str]:
        counts: Counter[str] = Counter()
        claims, records = make_key(shard, "claims"), make_key(shard, "records")
        first = 0
        while ids := await self.link.call("ZRANGE", claims, first, first + _PAGE - 1):
            kept = await self.link.call("HMGET", records, *ids)
            counts.update(one.partition(b"\n")[0].decode() for one in kept if one)
            if len(ids) < _PAGE:
                break
            first += _PAGE
        return counts

    async def read_fronts(self, queues: Iterable[str]) -> dict[str, Front]:
        """Return when queues' first ones are due, and the age of the oldest: looked for at their heads.

        A message's id begins with the time when it was accepted.
        """
        names = list(queues)
        commands = (command for name in names for command in _ask_front(name))
        replies = [reply async for reply in ask(self.link, commands)]
        parts = zip(names, replies[::3], replies[1::3], replies[2::3], strict=True)
        return {name: _read_front(ready, first, due) for name, ready, first, due in parts}

    async def read_due(self, queue: str, start: int, count: int) -> list[Waiting]:
        """Return what is due later in a queue: so many, from a place on, the first to go first."""
        shard = find_shard(read_queue(queue).domain)
        key = make_key(shard, "due", queue)
        flat = await self.link.call("ZRANGE", key, start, start + count - 1, "WITHSCORES")
        if not flat:
            return []
        kept = await self.link.call("HMGET", make_key(shard, "records"), *flat[::2])
        return [
            Waiting(identity.decode(), float(until) / 1000, _read_accepted(record))
            for identity, until, record in zip(flat[::2], flat[1::2], kept, strict=True)
            if record is not None
        ]

    async def read_looks(self, queues: Iterable[str]) -> dict[str, float | None]:
        """Return when queues are looked at next, where they are on their shard's agenda."""
        names = list(queues)
        commands = (
            ("ZSCORE", make_key(find_shard(read_queue(name).domain), "agenda"), name)
            for name in names
        )
        scores = [score async for score in ask(self.link, commands)]
        pairs = zip(names, scores, strict=True)
        return {name: None if score is None else float(score) / 1000 for name, score in pairs}

    async def read_place(self, delivery_id: str, domain: str) -> Place | None:
        """Return where a delivery is, when it is claimed or due; None: ready, or ended."""
        shard = find_shard(domain)
        kept = await self.link.call("HGET", make_key(shard, "records"), delivery_id)
        if kept is None:
            return None
        name, slip, _ = kept.split(b"\n", 2)
        queue, attempts = name.decode(), int(slip.split(b" ")[6])
        claims = self.link.send("ZSCORE", make_key(shard, "claims"), delivery_id)
        due = self.link.send("ZSCORE", make_key(shard, "due", queue), delivery_id)
        noted = self.link.send("GET", make_key(shard, "site", queue))
        ends, opens = await claims.wait(), await due.wait()
        site = (await noted.wait() or b"").decode()
        if ends is not None:
            return Place("claimed", attempts, float(ends) / 1000, queue, site)
        return Place("due", attempts, float(opens or 0) / 1000, queue, site)

    async def list_ready_queues(
        self, tenants: Iterable[str], domain: str, sources: Sequence[str]
    ) -> list[str]:
        """Return the queues of a domain that have something ready, whatever their priority."""
        names = [
            make_queue(tenant, domain, priority, source)
            for tenant in tenants
            for priority in _PRIORITIES
            for source in ("", *sources)
        ]
        sizes = await self.read_sizes(names)
        return [name for name, size in sizes.items() if size.ready]

    async def find_position(self, queue: str, delivery_id: str, *, depth: int) -> int | None:
        """Return how many ready deliveries are before one; None: it is not among the first."""
        key = make_key(find_shard(read_queue(queue).domain), "ready", queue)
        begin, start, wanted = 0, b"-", delivery_id.encode() + b" "
        while begin < depth:
            page = await self.link.call("XRANGE", key, start, "+", "COUNT", _PAGE)
            for number, (_, (_, slip)) in enumerate(page):
                if slip.startswith(wanted):
                    return begin + number
            if len(page) < _PAGE:
                return None
            begin, start = begin + _PAGE, b"(" + page[-1][0]
        return None

    async def is_forwarding(self, message_id: str, delivery_id: str) -> bool:
        """Tell whether a delivery is on its way to the shard of its domain."""
        key = make_key(read_home(message_id), "outbox")
        return bool(await self.link.call("HEXISTS", key, delivery_id))

    async def read_story(self, message_id: str) -> list[bytes]:
        """Return a message's events, by shard, each oldest first; empty when it is not known.

        Raises ValueError when this is no message id.
        """
        home = read_home(message_id)
        shards = [home, *(shard for shard in range(SHARDS) if shard != home)]
        asked = [self.link.send("GET", make_key(shard, "story", message_id)) for shard in shards]
        return [line for story in asked for line in (await story.wait() or b"").splitlines()]

    async def read_memory(self) -> tuple[int, int]:
        """Return the server's used memory and its limit (0: none), in octets.

        Of a Cluster, those of the master that is nearest to its limit: it is the first to refuse.
        """
        found = []
        for _, info in await self.link.call_each("INFO", "memory"):
            values = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
            found.append((int(values["used_memory"]), int(values.get("maxmemory", 0))))
        return max(found, key=lambda one: (one[0] / one[1] if one[1] else 0.0, one[0]))


def _ask_front(queue: str) -> Iterator[Sequence[Part]]:
    shard = find_shard(read_queue(queue).domain)
    due = make_key(shard, "due", queue)
    yield "XRANGE", make_key(shard, "ready", queue), "-", "+", "COUNT", 10
    yield "ZRANGE", due, 0, 0, "WITHSCORES"
    yield "ZRANGE", due, 0, _OLDEST - 1


def _read_front(ready: Reply, first: Reply, due: Reply) -> Front:
    """Read the replies to ``_ask_front``."""
    found = [*due, *(slip for _, (_, slip) in ready)]
    # Ids, at the beginning of slips too, sort as their times do.
    oldest = _read_time(min(found)) if found else None
    return Front(float(first[1]) / 1000 if first else None, oldest)


def _read_time(identity: bytes) -> float:
    """Return when a delivery was accepted, by its id."""
    milliseconds = 0
    for character in identity[:10].decode("ascii", "replace"):
        milliseconds = milliseconds * 32 + max(0, _CROCKFORD.find(character))
    return milliseconds / 1000


def _read_accepted(kept: bytes) -> float:
    """Return when a message was accepted: at the beginning of a record (queue.py)."""
    record = kept.split(b"\n", 2)[2]
    accepted: float = struct.unpack_from(">d", record, 2)[0]
    return accepted
