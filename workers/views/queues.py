"""Queues: what waits, for whom, how long, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.config import Config
from relay.events import decode_event
from relay.store.gather import gather, together
from relay.store.keys import Queue, read_queue
from relay.store.queue import Store
from relay.store.view import Front
from workers.views.backlog import Backlog, read_backlog
from workers.views.explain import explain_wait, find_last
from workers.views.reason import Reason, Situation, read_moment, read_situation
from workers.views.selection import Selection


async def read_queues(
    store: Store, config: Config, chosen: Selection, limit: int
) -> dict[str, Any]:
    """Return what waits, and why, the largest first; ``limit``: so many of them."""
    found, complete = await read_backlog(store, chosen)
    return {
        "queues": await describe(store, config, found[:limit]),
        "total": count(found),
        "not_shown": max(0, len(found) - limit),
        "complete": complete,
    }


def count(found: list[Backlog]) -> dict[str, int]:
    """Return how many queues there are, and how much of what is in them."""
    return {
        "queues": len(found),
        "ready": sum(one.ready for one in found),
        "due": sum(one.due for one in found),
        "claimed": sum(one.claimed for one in found),
    }


async def describe(store: Store, config: Config, shown: list[Backlog]) -> list[dict[str, object]]:
    """Return what more there is to say of some queues: since when they wait, and for what."""
    begun = await together(
        moment=lambda: read_moment(store, config),
        fronts=lambda: store.read_fronts(name for one in shown for name in one.queues),
        looks=lambda: store.read_looks(
            name for one in shown for name in one.with_ready if not one.queues[name]
        ),
    )
    situation = await read_situation(
        store,
        config,
        sites=[one.site for one in shown],
        tenants=[one.tenant for one in shown],
        moment=begun["moment"],
    )
    heads = [_Head.of(one, begun["fronts"]) for one in shown]
    reasons = [
        _find_reason(situation, one, head.due, begun["looks"])
        for one, head in zip(shown, heads, strict=True)
    ]
    due = [place for place, reason in enumerate(reasons) if reason.word == "due"]
    held = await gather(
        lambda place: _explain_hold(store, situation, shown[place], heads[place].due), due
    )
    return [
        _describe(situation.now, one, head, held.get(place) or reason)
        for place, (one, head, reason) in enumerate(zip(shown, heads, reasons, strict=True))
    ]


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands first in what waits: when it is due, and when the oldest was accepted."""

    due: float | None
    oldest: float | None

    @staticmethod
    def of(one: Backlog, fronts: Mapping[str, Front]) -> "_Head":
        """Return the first of all queues that it consists of."""
        mine = [fronts[name] for name in one.queues]
        return _Head(
            min((front.due for front in mine if front.due is not None), default=None),
            min((front.oldest for front in mine if front.oldest is not None), default=None),
        )


def _describe(now: float, one: Backlog, head: _Head, reason: Reason) -> dict[str, object]:
    due, oldest = head.due, head.oldest
    return {
        "tenant": one.tenant,
        "domain": one.domain,
        "site": one.site,
        "pools": one.pools,
        "priorities": one.priorities,
        "pinned": one.pins,
        "ready": one.ready,
        "due": one.due,
        "claimed": one.claimed,
        "next_due": None if due is None else round(max(0.0, due - now), 1),
        "oldest": None if oldest is None else round(max(0.0, now - oldest), 1),
        "why": reason.word,
        "text": reason.text,
        "opens": None if reason.opens is None else round(max(0.0, reason.opens - now), 1),
    }


def _find_reason(
    situation: Situation, one: Backlog, due: float | None, looks: Mapping[str, float | None]
) -> Reason:
    """What is ready says most; then what is due, then what is in hand."""
    reasons = [
        situation.explain(read_queue(name), one.queues[name], looks.get(name))
        for name in one.with_ready
    ]
    if reasons:
        return min(reasons, key=lambda r: float("inf") if r.opens is None else r.opens)
    if due is not None:
        return situation.explain_due(Queue(one.tenant, one.domain, "", ""), one.site, due)
    return Reason("claimed", "in workers' hands")


async def _explain_hold(
    store: Store, situation: Situation, one: Backlog, due: float | None
) -> Reason | None:
    """Tell by whom what is due first is held; None: it is not, and that is the time of an attempt."""
    for name in one.queues:
        for first in await store.read_due(name, 0, 1):
            ends = first.accepted + situation.config.delivery.expire
            if due is None or first.until > due or first.until < ends - 1:
                continue
            # The last wait before its time is over looks the same: its story knows.
            message_id = first.id.partition(".")[0]
            events = [decode_event(line) for line in await store.read_story(message_id)]
            events.sort(key=lambda event: event.get("time", 0.0))  # type: ignore[arg-type,return-value]
            reason = explain_wait(first.until, find_last(events, first.id), situation)
            if reason.word == "held":
                return Reason(reason.word, f"{message_id}: {reason.text}", reason.opens)
    return None
