"""The deliveries of a tenant's queue to one domain, a page at a time.

The store has several queues there, by priority and by what is pinned to a source. What workers have in
hand comes first and as a whole; then each queue's ready ones, then each one's due ones, the first to go
first. A cursor says where the last page ended. What moves meanwhile may be met twice, or not at all:
nothing is held still for who looks.
"""

import base64
import binascii
import re
from typing import Any

import msgspec

from relay.config import Config
from relay.store.keys import make_queue
from relay.store.pages import Listed, list_claimed, list_due, list_ready
from relay.store.queue import Store

MOST = 200  # deliveries of a page
_PRIORITIES = ("", "urgent", "bulk")
_PEOPLE = 20  # of a delivery that are named
_LISTS = (list_ready, list_due)
_MARK = re.compile(r"|[0-9]{1,20}-[0-9]{1,20}|[0-9]{1,20} [0-9A-Z.]{1,60}")  # of pages.py


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The next page begins in this list of this queue, behind this mark."""

    turn: int = 0  # list * queues + queue
    mark: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Cursor).decode


async def list_deliveries(
    store: Store, config: Config, tenant: str, domain: str, *, limit: int = MOST, after: str = ""
) -> dict[str, Any]:
    """Return a page, ``limit`` at most; ``after``: the last one's ``next``.

    Raises ValueError for what is no cursor of ours.
    """
    sources = ("", *(source.name for source in config.source))
    queues = [make_queue(tenant, domain, p, source) for p in _PRIORITIES for source in sources]
    cursor = _read_cursor(after)
    found: list[Listed] = []
    if not after:
        found = await list_claimed(store.link, queues, limit)
    last = len(queues) * len(_LISTS)
    while len(found) < limit and cursor.turn < last:
        if not cursor.mark:
            cursor.turn = await _skip(store, queues, cursor.turn)
            if cursor.turn >= last:
                break
        read = _LISTS[cursor.turn // len(queues)]
        queue = queues[cursor.turn % len(queues)]
        wanted = limit - len(found)
        page, mark = await read(store.link, queue, cursor.mark, wanted)
        found += page
        cursor = _Cursor(cursor.turn, mark) if mark else _Cursor(cursor.turn + 1)
    # The end is only known when somebody has looked beyond it; an empty last page says no less.
    return {
        "deliveries": [_describe(one) for one in found],
        "next": _write_cursor(cursor) if cursor.turn < last else None,
    }


async def _skip(store: Store, queues: list[str], turn: int) -> int:
    """Return the first list from a turn on that holds something: most combinations are never used."""
    sizes = list((await store.read_sizes(queues)).values())
    counts = [*(size.ready for size in sizes), *(size.due for size in sizes)]
    return next((place for place in range(turn, len(counts)) if counts[place]), len(counts))


def _describe(one: Listed) -> dict[str, Any]:
    return {
        "id": one.id,
        "message": one.id.partition(".")[0],
        "state": one.state,
        "accepted": one.accepted,
        "attempts": one.attempts,
        "until": one.until,
        "size": one.size,
        "sender": one.sender,
        "recipients": list(one.recipients[:_PEOPLE]),
        "recipient_count": len(one.recipients),
    }


def _read_cursor(text: str) -> _Cursor:
    if not text:
        return _Cursor()
    try:
        cursor = _decode(base64.urlsafe_b64decode(text.encode("ascii")))
        if cursor.turn < 0 or not _MARK.fullmatch(cursor.mark):
            raise ValueError
    except (ValueError, UnicodeError, binascii.Error, msgspec.MsgspecError):
        raise ValueError("after: not a cursor; take it from `next` of the page before") from None
    return cursor


def _write_cursor(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(_encode(cursor)).decode("ascii")
