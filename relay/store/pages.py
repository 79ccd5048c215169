"""The deliveries of a queue, a page at a time: what a page costs does not grow with the queue.

For people, as view.py. Each list is walked by a *mark*, the last one that was shown; if that has gone
meanwhile, the walk goes on where it had been.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay.store.keys import find_shard, make_key, read_queue
from relay.store.link import Link
from relay.store.slip import read_slip

_PAGE = 500  # claims that are looked at in one go
_CLAIMS = 20_000  # ... and in all: workers hold fewer


@dataclass(frozen=True, slots=True)
class Listed:
    """A delivery in a queue. Times are seconds since 1970, on the store's clock."""

    id: str
    state: str  # "ready", "due" or "claimed"
    accepted: float
    attempts: int
    until: float | None  # due when, or claimed until
    size: int
    sender: str
    recipients: tuple[str, ...]


async def list_ready(link: Link, queue: str, mark: str, count: int) -> tuple[list[Listed], str]:
    """Return so many that may go now, in the order in which they go, behind ``mark`` ("": all).

    With it the mark for those behind them; "": there are none.
    """
    key = make_key(find_shard(read_queue(queue).domain), "ready", queue)
    start = f"({mark}" if mark else "-"
    page = await link.call("XRANGE", key, start, "+", "COUNT", count)
    found = [_read(queue, slip, "ready", None) for _, (_, slip) in page]
    return found, page[-1][0].decode() if len(page) == count else ""


async def list_due(link: Link, queue: str, mark: str, count: int) -> tuple[list[Listed], str]:
    """Return so many that are due later, the first to go first; otherwise as ``list_ready``."""
    shard = find_shard(read_queue(queue).domain)
    key = make_key(shard, "due", queue)
    start = await _find_rank(link, key, mark) if mark else 0
    flat = await link.call("ZRANGE", key, start, start + count - 1, "WITHSCORES")
    if not flat:
        return [], ""
    kept = await link.call("HMGET", make_key(shard, "records"), *flat[::2])
    found = [
        _read(queue, record.partition(b"\n")[2], "due", float(score) / 1000)
        for score, record in zip(flat[1::2], kept, strict=True)
        if record is not None  # gone since
    ]
    return found, _mark(flat[-1], flat[-2]) if len(flat) == 2 * count else ""


async def list_claimed(link: Link, queues: Iterable[str], count: int) -> list[Listed]:
    """Return so many that are in workers' hands; the queues are those of one domain.

    There are as many in hand as workers send at a time, however many wait.
    """
    names = {queue.encode() for queue in queues}
    if not names:
        return []
    shard = find_shard(read_queue(min(names).decode()).domain)
    found: list[Listed] = []
    for first in range(0, _CLAIMS, _PAGE):
        key = make_key(shard, "claims")
        flat = await link.call("ZRANGE", key, first, first + _PAGE - 1, "WITHSCORES")
        if flat:
            kept = await link.call("HMGET", make_key(shard, "records"), *flat[::2])
            found += _pick(names, kept, flat[1::2])
        if len(flat) < 2 * _PAGE or len(found) >= count:
            break
    return found[:count]


def _pick(names: set[bytes], kept: Sequence[bytes | None], ends: Sequence[bytes]) -> list[Listed]:
    found = []
    for record, end in zip(kept, ends, strict=True):
        queue, _, slip = (record or b"").partition(b"\n")
        if queue in names:
            found.append(_read(queue.decode(), slip, "claimed", float(end) / 1000))
    return found


async def _find_rank(link: Link, key: str, mark: str) -> int:
    """Return the place behind a mark, "SCORE ID"; where it has gone, behind those of its time."""
    score, _, identity = mark.partition(" ")
    rank = await link.call("ZRANK", key, identity)
    if rank is not None:
        return int(rank) + 1
    return int(await link.call("ZCOUNT", key, "-inf", f"({score}"))


def _mark(score: bytes, identity: bytes) -> str:
    return f"{int(float(score))} {identity.decode()}"


def _read(queue: str, slip: bytes, state: str, until: float | None) -> Listed:
    delivery, attempts = read_slip(queue.encode(), slip)
    envelope = delivery.envelope
    return Listed(
        id=delivery.id,
        state=state,
        accepted=delivery.accepted,
        attempts=attempts,
        until=until,
        size=delivery.size,
        sender=envelope.sender.decode("utf-8", "replace"),
        recipients=tuple(one.address.decode("utf-8", "replace") for one in envelope.recipients),
    )
