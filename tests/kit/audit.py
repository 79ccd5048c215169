"""A deep audit of a store: looks at every key itself and believes no counter.

It reads through plain redis-py, key by key, so nothing may be changing the store meanwhile. What
it checks are the invariants of relay/store/DESIGN.md.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import redis

from relay.model import Delivery, Envelope
from relay.store.keys import SHAPES, SHARDS, UNKNOWN, find_shard, make_key, read_lane, read_queue
from tests.kit.redis import Server

_decode = msgspec.msgpack.Decoder(Delivery).decode
_decode_record = msgspec.msgpack.Decoder(tuple[float, Envelope, int, bool]).decode
_AHEAD = 600_000.0  # no queue is left alone by `survey` for longer than this, ms


@dataclass(frozen=True)
class Slip:
    """A delivery as the scripts keep it (scripts/queue/_prelude.lua), and its queue."""

    id: str
    queue: str
    recipients: int
    parts: int
    flags: str
    attempts: int
    envelope: Envelope
    home: int


@dataclass
class Shard:
    """Everything that is in one shard."""

    slips: dict[str, list[Slip]] = field(default_factory=dict)  # ready, by queue
    due: dict[str, dict[str, float]] = field(default_factory=dict)  # by queue
    records: dict[str, Slip] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, bytes] = field(default_factory=dict)
    attempts: dict[str, bytes] = field(default_factory=dict)
    last: dict[str, bytes] = field(default_factory=dict)
    outbox: dict[str, Delivery] = field(default_factory=dict)
    rounds: dict[str, dict[str, float]] = field(default_factory=dict)  # by lane
    lanes: dict[str, float] = field(default_factory=dict)
    agenda: dict[str, float] = field(default_factory=dict)
    bodies: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # by message
    open: dict[str, set[str]] = field(default_factory=dict)
    stories: dict[str, int] = field(default_factory=dict)  # ms until they expire, -1: never
    arrived: set[str] = field(default_factory=set)
    books: dict[str, Counter[str]] = field(
        default_factory=lambda: {"ledger": Counter(), "notices": Counter()}
    )

    @property
    def ready(self) -> dict[str, list[str]]:
        """The ids of what is ready, by queue."""
        return {queue: [slip.id for slip in slips] for queue, slips in self.slips.items()}

    @property
    def deliveries(self) -> dict[str, Slip]:
        """All that the shard holds, by id: ready, due or claimed."""
        return {slip.id: slip for slips in self.slips.values() for slip in slips} | self.records


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
    for look in (_check_places, _check_claims, _check_books, _check_lanes, _check_agenda):
        audit.problems += look(audit)
    audit.problems += _check_stories(audit)
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
        tag, kind, *parts = raw.decode().split(":", 2)
        assert kind in SHAPES, f"{raw!r} is not in the table of keys.py"
        if kind in _READERS:
            _READERS[kind](client, raw, shards[int(tag[3:-1])], "".join(parts))
    return shards


def _read_slip(queue: str, slip: bytes) -> Slip:
    head, _, record = slip.partition(b"\n")
    identity, recipients, _, parts, flags, _, attempts, _ = head.decode().split(" ")
    _, envelope, home, _ = _decode_record(record)
    return Slip(identity, queue, int(recipients), int(parts), flags, int(attempts), envelope, home)


def _read_ready(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.slips[name] = [_read_slip(name, entry[b"d"]) for _, entry in client.xrange(key)]


def _read_records(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    for identity, kept in client.hgetall(key).items():
        queue, _, slip = kept.partition(b"\n")
        shard.records[identity.decode()] = _read_slip(queue.decode(), slip)


def _read_zset(client: redis.Redis, key: bytes) -> dict[str, float]:
    return {member.decode(): score for member, score in client.zrange(key, 0, -1, withscores=True)}


def _read_hash(client: redis.Redis, key: bytes) -> dict[str, bytes]:
    return {field.decode(): value for field, value in client.hgetall(key).items()}


def _read_due(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.due[name] = _read_zset(client, key)


def _read_round(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.rounds[name] = _read_zset(client, key)


def _read_times(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    setattr(shard, _find_kind(key), _read_zset(client, key))


def _read_fields(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    setattr(shard, _find_kind(key), _read_hash(client, key))


def _find_kind(key: bytes) -> str:
    return key.decode().split(":", 2)[1]


def _read_outbox(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.outbox = {k: _decode(v) for k, v in _read_hash(client, key).items()}


def _read_body(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    message, _, part = name.rpartition(":")
    shard.bodies[message].add(int(part))


def _read_open(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.open[name] = {member.decode() for member in client.smembers(key)}


def _read_story(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.stories[name] = client.pttl(key)


def _read_arrived(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.arrived.add(name)


def _read_book(client: redis.Redis, key: bytes, shard: Shard, name: str) -> None:
    shard.books[_find_kind(key)].update({k: int(v) for k, v in _read_hash(client, key).items()})


# Gates, suspensions and marks that expire are not here: no mail is in them.
_READERS: dict[str, Callable[[redis.Redis, bytes, Shard, str], None]] = {
    "ready": _read_ready,
    "due": _read_due,
    "records": _read_records,
    "claims": _read_times,
    "tokens": _read_fields,
    "attempts": _read_fields,
    "last": _read_fields,
    "outbox": _read_outbox,
    "round": _read_round,
    "lanes": _read_times,
    "agenda": _read_times,
    "body": _read_body,
    "open": _read_open,
    "ledger": _read_book,
    "notices": _read_book,
    "story": _read_story,
    "arrived": _read_arrived,
}


# -- checking ---------------------------------------------------------------------------------


def _check_places(audit: Audit) -> Iterator[str]:
    """Each delivery is in exactly one of ready, due, claims, outbox."""
    transit = {delivery.id for delivery in audit.in_transit()}
    for number, shard in enumerate(audit.shards):
        places = Counter[str](shard.claims.keys())
        for ids in (*shard.ready.values(), *shard.due.values()):
            places.update(list(ids))
        places.update(transit & places.keys())
        for delivery, found in places.items():
            if found != 1:
                yield f"shard {number}: {delivery} is in {found} places"
        kept = {*shard.claims, *(i for ids in shard.due.values() for i in ids)}
        for delivery in kept ^ shard.records.keys():
            yield f"shard {number}: {delivery} is kept and waits nowhere, or the other way round"
        for queue, ids in shard.due.items():
            for delivery in ids.keys() & shard.records.keys():
                if shard.records[delivery].queue != queue:
                    yield f"shard {number}: {delivery} waits in another queue than {queue}"
        for delivery, slip in shard.deliveries.items():
            if slip.id != delivery:
                yield f"shard {number}: {slip.id} is kept as {delivery}"
            if find_shard(read_queue(slip.queue).domain) != number:
                yield f"shard {number}: {delivery} of {slip.queue} is in the wrong shard"


def _check_claims(audit: Audit) -> Iterator[str]:
    """Claimed deliveries have a token and others none; attempts are open, and kept, for some."""
    for number, shard in enumerate(audit.shards):
        for delivery in shard.claims.keys() ^ shard.tokens.keys():
            yield f"shard {number}: {delivery}: token and claim do not go together"
        for delivery in shard.attempts.keys() - shard.claims.keys():
            yield f"shard {number}: {delivery} has an open attempt and no claim"
        tried = {delivery for delivery, slip in shard.deliveries.items() if slip.attempts > 0}
        for delivery in shard.last.keys() - tried:
            yield f"shard {number}: {delivery} was not tried, and has a last attempt"


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
                slip.recipients
                for slip in shard.deliveries.values()
                if ("n" in slip.flags) == (book == "notices")
            )
        if found != total["queued"]:
            yield f"{book} counts {total['queued']} queued, {found} are there"
        if any(count < 0 for count in total.values()):
            yield f"{book} has a negative count: {dict(total)}"
    for number, shard in enumerate(audit.shards):
        for delivery, slip in shard.deliveries.items():
            if len(slip.envelope.recipients) != slip.recipients:
                yield f"shard {number}: {delivery} counts {slip.recipients} open, has others"


def _check_lanes(audit: Audit) -> Iterator[str]:
    """A queue with something ready is in a lane, or it is left alone until a time on the agenda.

    A queue that was emptied past its lane (by `seize`) stays in it until the next claim.
    """
    for number, shard in enumerate(audit.shards):
        for lane in shard.rounds.keys() ^ shard.lanes.keys():
            yield f"shard {number}: lane {lane} is known and empty, or the other way round"
        for lane, served in shard.lanes.items():
            if served > audit.now + 1000:
                yield f"shard {number}: lane {lane} was served in the future, at {served}"
        served_queues = {queue for queues in shard.rounds.values() for queue in queues}
        for queue, slips in shard.slips.items():
            if not slips:
                yield f"shard {number}: {queue} is empty, and its stream is there"
            elif queue not in served_queues and queue not in shard.agenda:
                yield f"shard {number}: {queue} has deliveries, and nobody would look"
        for lane, queues in shard.rounds.items():
            for queue, time in queues.items():
                yield from _check_membership(number, lane, queue)
                if read_lane(lane).site == UNKNOWN and time > audit.now + _AHEAD:
                    yield f"shard {number}: nobody looks {queue} up until {time}"


def _check_membership(number: int, lane: str, queue: str) -> Iterator[str]:
    of, one = read_lane(lane), read_queue(queue)
    expected = (one.tenant, one.priority or "normal", one.source)
    if (of.tenant, of.priority, of.source) != expected:
        yield f"shard {number}: {queue} is in lane {lane}"


def _check_agenda(audit: Audit) -> Iterator[str]:
    """Whatever may go later will be looked at in time."""
    for number, shard in enumerate(audit.shards):
        for queue, ids in shard.due.items():
            first, look = min(ids.values()), shard.agenda.get(queue)
            if look is None or look > first:
                yield f"shard {number}: {queue} is due at {first}, and its look is at {look}"


def _list_queued(audit: Audit) -> Iterator[tuple[str, int, int, bool]]:
    """Yield id, home, parts and whether it is the only one, of each queued delivery."""
    for delivery in audit.in_transit():
        yield delivery.id, delivery.home, delivery.chunks, delivery.alone
    for shard in audit.shards:
        for slip in shard.deliveries.values():
            yield slip.id, slip.home, slip.parts, "a" in slip.flags


def _check_stories(audit: Audit) -> Iterator[str]:
    """What is queued has a story: it is how a repeated `accept` is known."""
    for identity, home, _, alone in _list_queued(audit):
        left = audit.shards[home].stories.get(identity.partition(".")[0])
        if left is None:
            yield f"{identity} has no story"
        elif alone and left >= 0:
            yield f"{identity} is queued, and its story ends in {left} ms"


def _check_bodies(audit: Audit, *, leftover: bool) -> Iterator[str]:
    """Bodies are there for what is queued, and gone with it; likewise the sets of open ones."""
    alive: dict[tuple[int, str], set[str]] = defaultdict(set)  # home and message -> deliveries
    for identity, home, parts, alone in _list_queued(audit):
        message = identity.partition(".")[0]
        alive[home, message].add(identity)
        missing = set(range(parts)) - audit.shards[home].bodies.get(message, set())
        if missing:
            yield f"{identity}: parts {sorted(missing)} of its body are gone"
        if not alone:
            names = audit.shards[home].open.get(message, set())
            if identity not in names:
                yield f"{identity} is not among its message's open deliveries {names}"
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
