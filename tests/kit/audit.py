"""A deep audit of a store: looks at every key itself and believes no counter.

It reads through plain redis-py, key by key, so nothing may be changing the store meanwhile. What
it checks are the invariants of relay/store/DESIGN.md.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import redis

from relay.model import Delivery
from relay.store.keys import SHARDS, find_shard, make_key
from tests.kit.redis import Server

_decode = msgspec.msgpack.Decoder(Delivery).decode
_FIRST_WINDOW = 20  # of scripts/_prelude.lua: what a queue without a hash has


@dataclass
class Shard:
    """Everything that is in one shard."""

    deliveries: dict[str, dict[str, bytes]] = field(default_factory=dict)
    ready: dict[str, list[str]] = field(default_factory=dict)  # by queue
    due: dict[str, dict[str, float]] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)
    outbox: dict[str, Delivery] = field(default_factory=dict)
    queues: dict[str, dict[str, int]] = field(default_factory=dict)
    agenda: dict[str, dict[str, float]] = field(default_factory=dict)  # by pool
    pools: set[str] = field(default_factory=set)
    bodies: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # by message
    open: dict[str, set[str]] = field(default_factory=dict)
    stories: set[str] = field(default_factory=set)
    arrived: set[str] = field(default_factory=set)
    books: dict[str, Counter[str]] = field(
        default_factory=lambda: {"ledger": Counter(), "notices": Counter()}
    )


@dataclass
class Audit:
    """What was found. ``problems`` is empty for a sound store."""

    shards: list[Shard]
    now: float  # ms, on the server's clock
    problems: list[str] = field(default_factory=list)

    @property
    def queued(self) -> int:
        """Deliveries in the store, wherever."""
        return sum(len(shard.deliveries) for shard in self.shards) + sum(
            1 for _ in self.in_transit()
        )

    def total(self, book: str) -> Counter[str]:
        """Return a ledger, summed over the shards."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.books[book])
        return total

    def in_transit(self) -> Iterator[Delivery]:
        """Yield deliveries that are in an outbox and not yet in the shard of their domain."""
        for shard in self.shards:
            for delivery in shard.outbox.values():
                if delivery.id not in self.shards[find_shard(delivery.domain)].arrived:
                    yield delivery


def check_store(client: redis.Redis, *, leftover: bool = False) -> Audit:
    """Audit the store and return what was found.

    ``leftover``: somebody died, so bodies that nobody needs any more may wait for their time to
    end (DESIGN.md, crash matrix). That costs memory, not mail.
    """
    seconds, microseconds = client.time()
    audit = Audit(_read(client), seconds * 1000 + microseconds / 1000)
    audit.problems += _check_places(audit)
    audit.problems += _check_claims(audit)
    audit.problems += _check_books(audit)
    audit.problems += _check_agenda(audit)
    audit.problems += _check_bodies(audit, leftover=leftover)
    return audit


def assert_sound(client: redis.Redis, *, leftover: bool = False) -> Audit:
    """As ``check_store``, and fail on any problem."""
    audit = check_store(client, leftover=leftover)
    assert not audit.problems, "\n".join(audit.problems)
    return audit


def check(server: Server, *, leftover: bool = False) -> Audit:
    """As ``assert_sound``, for a test's server."""
    with server.client() as client:
        return assert_sound(client, leftover=leftover)


def expire_claims(server: Server, *ids: str) -> None:
    """Let the lease of claims run out (all, if none is named), with workers looking all the while."""
    with server.client() as client:
        now = client.time()[0] * 1000
        for key in client.scan_iter("{og*}:claims"):
            for member in client.zrange(key, 0, -1):
                if not ids or member.decode() in ids:
                    client.zadd(key, {member: 1})
        for shard in range(SHARDS):
            client.hset(make_key(shard, "watch"), mapping={"seen": now, "since": 0})


# -- reading ----------------------------------------------------------------------------------


def _read(client: redis.Redis) -> list[Shard]:
    shards = [Shard() for _ in range(SHARDS)]
    for raw in client.scan_iter("{og*", count=1000):
        tag, kind, *parts = raw.decode().split(":", 3)
        _READERS[kind](client, raw, shards[int(tag[3:-1])], ":".join(parts))
    return shards


def _read_delivery(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    fields = client.hgetall(key)
    shard.deliveries[name] = {k.decode(): v for k, v in fields.items()}


def _read_ready(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.ready[name] = [entry[b"d"].decode() for _, entry in client.xrange(key)]


def _read_zset(client: redis.Redis, key: bytes) -> dict[str, float]:
    return {member.decode(): score for member, score in client.zrange(key, 0, -1, withscores=True)}


def _read_due(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.due[name] = _read_zset(client, key)


def _read_agenda(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.agenda[name] = _read_zset(client, key)


def _read_pools(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.pools = {member.decode() for member in client.smembers(key)}


def _read_claims(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.claims = _read_zset(client, key)


def _read_outbox(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.outbox = {k.decode(): _decode(v) for k, v in client.hgetall(key).items()}


def _read_queue(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.queues[name] = {k.decode(): int(v) for k, v in client.hgetall(key).items()}


def _read_body(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    message, _, part = name.rpartition(":")
    shard.bodies[message].add(int(part))


def _read_open(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.open[name] = {member.decode() for member in client.smembers(key)}


def _read_book(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    book = key.decode().rpartition(":")[2]
    shard.books[book].update({k.decode(): int(v) for k, v in client.hgetall(key).items()})


_READERS = {
    "delivery": _read_delivery,
    "ready": _read_ready,
    "due": _read_due,
    "agenda": _read_agenda,
    "pools": _read_pools,
    "claims": _read_claims,
    "outbox": _read_outbox,
    "queue": _read_queue,
    "body": _read_body,
    "open": _read_open,
    "ledger": _read_book,
    "notices": _read_book,
    "story": lambda client, key, shard, name: shard.stories.add(name),
    "arrived": lambda client, key, shard, name: shard.arrived.add(name),
    "asleep": lambda client, key, shard, name: None,
    "watch": lambda client, key, shard, name: None,
}


# -- checking ---------------------------------------------------------------------------------


def _check_places(audit: Audit) -> Iterator[str]:
    """Each delivery is in exactly one of ready, due, claims, outbox."""
    transit = {delivery.id for delivery in audit.in_transit()}
    for number, shard in enumerate(audit.shards):
        places = Counter[str]()
        for ids in (*shard.ready.values(), *shard.due.values(), shard.claims):
            places.update(list(ids))
        for delivery in shard.deliveries:
            found = places[delivery] + (delivery in transit)
            if found != 1:
                yield f"shard {number}: {delivery} is in {found} places"
        for delivery in places.keys() - shard.deliveries.keys():
            yield f"shard {number}: {delivery} is queued, and there is no such delivery"
        for delivery, fields in shard.deliveries.items():
            queue = fields["q"].decode()
            own = [*shard.ready.get(queue, ()), *shard.due.get(queue, ()), *shard.claims]
            if delivery not in own:
                yield f"shard {number}: {delivery} waits in another queue than {queue}"
            if find_shard(queue.partition("/")[2]) != number:
                yield f"shard {number}: {delivery} of {queue} is in the wrong shard"


def _check_claims(audit: Audit) -> Iterator[str]:
    """Claimed deliveries have a token and others none; what a queue holds is what is claimed."""
    for number, shard in enumerate(audit.shards):
        held = Counter[str]()
        for delivery, fields in shard.deliveries.items():
            claimed = delivery in shard.claims
            held[fields["q"].decode()] += claimed
            if ("t" in fields) != claimed:
                yield f"shard {number}: {delivery}: token and claim do not go together"
            if "o" in fields and not claimed:
                yield f"shard {number}: {delivery} has an open attempt and no claim"
        for queue in held.keys() | shard.queues.keys():
            counted = shard.queues.get(queue, {}).get("held", 0)
            if counted != held[queue]:
                yield f"shard {number}: {queue} counts {counted} held, {held[queue]} are claimed"


def _check_books(audit: Audit) -> Iterator[str]:
    """Both ledgers add up, and `queued` is what is really there."""
    for book in ("ledger", "notices"):
        total = audit.total(book)
        ended = total["delivered"] + total["bounced"]
        if total["accepted"] != ended + total["queued"]:
            yield f"{book} does not add up: {dict(total)}"
        found = sum(
            len(delivery.envelope.recipients)
            for delivery in audit.in_transit()
            if delivery.notice == (book == "notices")
        )
        for shard in audit.shards:
            found += sum(
                int(fields["k"])
                for fields in shard.deliveries.values()
                if fields["l"].decode() == book
            )
        if found != total["queued"]:
            yield f"{book} counts {total['queued']} queued, {found} are there"
        if any(count < 0 for count in total.values()):
            yield f"{book} has a negative count: {dict(total)}"
    for number, shard in enumerate(audit.shards):
        for delivery, fields in shard.deliveries.items():
            inside = len(_decode(fields["r"]).envelope.recipients)
            if inside != int(fields["k"]):
                yield f"shard {number}: {delivery} counts {fields['k']!r} open, has {inside}"


def _check_agenda(audit: Audit) -> Iterator[str]:
    """Whatever may go, or may go later, will be looked at in time."""
    for number, shard in enumerate(audit.shards):
        for pool in shard.agenda.keys() - shard.pools:
            yield f"shard {number}: pool {pool} has an agenda, and nobody would find it"
        looks: dict[str, float] = {}
        for agenda in shard.agenda.values():
            for queue, time in agenda.items():
                looks[queue] = min(time, looks.get(queue, time))
        for queue in shard.ready.keys() | shard.due.keys():
            state = shard.queues.get(queue, {})
            room = state.get("window", _FIRST_WINDOW) - state.get("held", 0)
            look = looks.get(queue)
            if shard.ready.get(queue):
                if room > 0 and (look is None or look > audit.now):
                    yield f"shard {number}: {queue} has deliveries, and its look is at {look}"
            elif shard.due.get(queue):
                first = min(shard.due[queue].values())
                if look is None or look > first:
                    yield f"shard {number}: {queue} is due at {first}, and its look is at {look}"


def _check_bodies(audit: Audit, *, leftover: bool) -> Iterator[str]:
    """Bodies are there for what is queued, and gone with it; likewise the sets of open ones."""
    alive: dict[tuple[int, str], set[str]] = defaultdict(set)  # home and message -> deliveries
    for delivery in _list_deliveries(audit):
        alive[delivery.home, delivery.message_id].add(delivery.id)
        there = audit.shards[delivery.home].bodies.get(delivery.message_id, set())
        missing = set(range(delivery.chunks)) - there
        if missing:
            yield f"{delivery.id}: parts {sorted(missing)} of its body are gone"
        if not delivery.alone:
            names = audit.shards[delivery.home].open.get(delivery.message_id, set())
            if delivery.id not in names:
                yield f"{delivery.id} is not among its message's open deliveries {names}"
    for home, shard in enumerate(audit.shards):
        if leftover:
            continue
        for message in shard.bodies:
            # Without a story it was never accepted: parts on their way, or orphans.
            if message in shard.stories and not alive[home, message]:
                yield f"{message}: its body is still there"
        for message, names in shard.open.items():
            if names != alive[home, message]:
                yield f"{message}: {names} count as open, {alive[home, message]} are"


def _list_deliveries(audit: Audit) -> Iterator[Delivery]:
    yield from audit.in_transit()
    for shard in audit.shards:
        for fields in shard.deliveries.values():
            yield _decode(fields["r"])
