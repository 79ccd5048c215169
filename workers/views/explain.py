"""The story of one message: everything that happened to it, and what comes next.

Read in four journeys to the store, while its deliveries are few: its events; in two, where each delivery
is, all at the same time; and what holds for them all.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.config import Config
from relay.events import decode_event
from relay.model import read_home
from relay.store.gather import gather, together
from relay.store.keys import Queue, find_shard, read_queue
from relay.store.queue import Store
from relay.store.view import Place
from workers.views.parts import Part, list_places, read_parts
from workers.views.reason import Reason, Situation, read_moment, read_situation

_DEPTH = 500  # ready deliveries of a queue among which one is looked for

_Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a delivery is. ``place``: due or claimed; None: ready, or on its way somewhere."""

    place: Place | None = None
    queue: str = ""
    before: int | None = None  # ready ones before it, if they are few
    site: str = ""
    look: float | None = None
    is_forwarding: bool = False


async def explain(store: Store, config: Config, message_id: str) -> dict[str, Any]:
    """Return a message's events and where its deliveries are. Raises ValueError for what is no id."""
    read_home(message_id)
    begun = await together(
        story=lambda: store.read_story(message_id), moment=lambda: read_moment(store, config)
    )
    events = [decode_event(line) for line in begun["story"]]
    events.sort(key=lambda event: event.get("time", 0.0))  # type: ignore[arg-type,return-value]
    parts = {part.id: part for part in read_parts(events) if not part.ended}
    now: list[dict[str, object]] = []
    if parts:
        shards = {find_shard(part.domain) for part in parts.values()}
        found = await together(
            lanes=lambda: gather(store.list_queues, shards),
            spots=lambda: gather(lambda one: _find_spot(store, config, parts[one]), parts),
        )
        lanes = {queue: lane for some in found["lanes"].values() for queue, lane in some.items()}
        spots: dict[str, _Spot] = found["spots"]
        situation = await read_situation(
            store,
            config,
            sites=[spot.site for spot in spots.values()],
            tenants=[read_queue(spot.queue).tenant for spot in spots.values() if spot.queue],
            moment=begun["moment"],
        )
        now = [_describe(situation, part, spots[part.id], lanes, events) for part in parts.values()]
    return {
        "id": message_id,
        "events": events,
        "now": now,
        "state": "queued" if now else "ended",
    }


# -- where it is ----------------------------------------------------------------------------------


async def _find_spot(store: Store, config: Config, part: Part) -> _Spot:
    """Find a delivery: where it waits for a time or is in hand, or in which queue it is ready.

    Both are looked for at the same time. It may move meanwhile: then it is told where it was found.
    """
    message_id = part.id.partition(".")[0]
    found = await together(
        placed=lambda: _find_placed(store, part),
        ready=lambda: _find_ready(store, config, part),
        forwarding=lambda: store.is_forwarding(message_id, part.id),
    )
    if found["placed"] is not None:
        placed: _Spot = found["placed"]
        return placed
    ready: _Spot = found["ready"]
    return dataclasses.replace(ready, is_forwarding=found["forwarding"])


async def _find_placed(store: Store, part: Part) -> _Spot | None:
    place = await store.read_place(part.id, part.domain)
    return None if place is None else _Spot(place, place.queue, site=place.site)


async def _find_ready(store: Store, config: Config, part: Part) -> _Spot:
    """Look at the head of each queue that it can be in."""
    queues = await list_places(store, config, part)
    found = await together(
        before=lambda: gather(
            lambda queue: store.find_position(queue, part.id, depth=_DEPTH), queues
        ),
        sites=lambda: store.read_sites(queues),
        looks=lambda: store.read_looks(queues),
    )
    if not queues:
        return _Spot()
    # Far behind in one of them, where it is at no head; most often there is only one.
    at_head = (queue for queue in queues if found["before"][queue] is not None)
    queue = next(at_head, queues[0])
    return _Spot(
        queue=queue,
        before=found["before"][queue],
        site=found["sites"][queue],
        look=found["looks"][queue],
    )


# -- what is said of it ---------------------------------------------------------------------------


def _describe(
    situation: Situation,
    part: Part,
    spot: _Spot,
    lanes: Mapping[str, str],
    events: Sequence[_Event],
) -> dict[str, object]:
    """Tell where a delivery is, why, and what opens next."""
    common = {"delivery": part.id, "domain": part.domain, "queue": spot.queue, "site": spot.site}
    if spot.place is not None:
        return {**common, **_describe_placed(situation, part, spot, spot.place, events)}
    return {**common, **_describe_ready(situation, part, spot, lanes.get(spot.queue, ""), events)}


def _describe_placed(
    situation: Situation, part: Part, spot: _Spot, place: Place, events: Sequence[_Event]
) -> dict[str, object]:
    queue = read_queue(place.queue)
    if place.state == "claimed":
        reason = Reason("claimed", "in a worker's hands")
    else:
        until = place.until or situation.now
        reason = explain_wait(until, find_last(events, part.id), situation)
        then = situation.explain_due(queue, spot.site, until)
        if then.word != "due":
            reason = Reason(reason.word, f"{reason.text}; {then.text}", reason.opens)
    wait = None if place.until is None else round(max(0.0, place.until - situation.now), 1)
    return {
        "state": place.state,
        "attempts": place.attempts,
        "wait": wait,
        "before": None,
        "lane": "",
        "source": queue.source,
        **_spell(reason, situation),
    }


def _describe_ready(
    situation: Situation, part: Part, spot: _Spot, lane: str, events: Sequence[_Event]
) -> dict[str, object]:
    name = read_queue(spot.queue) if spot.queue else Queue(part.tenant, part.domain, "", "")
    if spot.is_forwarding:
        reason = Reason("forwarding", "accepted, on its way to the shard of its domain")
    elif not spot.queue:
        reason = Reason("moving", "between two places just now; ask again")
    else:
        reason = situation.explain(name, lane, None if lane else spot.look)
    tried = [event for event in events if event.get("delivery") == part.id and "attempt" in event]
    return {
        "state": "ready" if spot.queue else reason.word,
        "attempts": sum(event["event"] == "deferred" for event in tried),
        "wait": None,
        "before": spot.before,
        "lane": lane,
        "source": name.source,
        **_spell(reason, situation),
    }


def explain_wait(until: float, last: Mapping[str, Any], situation: Situation) -> Reason:
    """Tell why a delivery waits until a time; ``last``: what happened last to it."""
    if last.get("event") == "held":
        why = f": {last['why']}" if last.get("why") else ""
        text = f"held by {last['who']}{why}; until `outgate retry`, or its time is over"
        return Reason("held", f"{text} {situation.tell(until)}", until)
    if last.get("hold") or last.get("next") == "hold":
        text = "held, because the outcome of its last attempt is unknown; until `outgate retry`"
        return Reason("held", f"{text}, or its time is over {situation.tell(until)}", until)
    return Reason("due", f"next attempt {situation.tell(until)}", until)


def find_last(events: Sequence[_Event], delivery_id: str) -> _Event:
    """Return what happened last to a delivery that may say what it waits for."""
    about = [event for event in events if event.get("delivery") == delivery_id]
    return about[-1] if about else {}


def _spell(reason: Reason, situation: Situation) -> dict[str, object]:
    opens = None if reason.opens is None else round(max(0.0, reason.opens - situation.now), 1)
    return {"why": reason.word, "text": reason.text, "opens": opens}
