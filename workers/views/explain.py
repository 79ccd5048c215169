"""The story of one message: everything that happened to it, and what comes next."""

from collections.abc import Mapping, Sequence
from typing import Any

from relay.config import Config
from relay.events import decode_event
from relay.store.keys import Queue, find_shard, read_queue
from relay.store.queue import Store
from workers.views.parts import Part, list_places, read_parts
from workers.views.reason import Reason, Situation, read_situation

_DEPTH = 500  # ready deliveries of a queue among which one is looked for

_Event = dict[str, Any]


async def explain(store: Store, config: Config, message_id: str) -> dict[str, Any]:
    """Return a message's events and where its deliveries are. Raises ValueError for what is no id."""
    events = [decode_event(line) for line in await store.read_story(message_id)]
    events.sort(key=lambda event: event.get("time", 0.0))  # type: ignore[arg-type,return-value]
    now = [
        await _describe(store, config, part, events)
        for part in read_parts(events)
        if not part.ended
    ]
    return {
        "id": message_id,
        "events": events,
        "now": now,
        "state": "queued" if now else "ended",
    }


async def _describe(
    store: Store, config: Config, part: Part, events: list[_Event]
) -> dict[str, object]:
    """Tell where a delivery is, why, and what opens next."""
    place = await store.read_place(part.id, part.domain)
    if place is None:
        return await _describe_ready(store, config, part, events)
    site = (await store.read_sites([place.queue]))[place.queue]
    queue = read_queue(place.queue)
    situation = await read_situation(store, config, sites=[site])
    wait = None if place.until is None else round(max(0.0, place.until - situation.now), 1)
    if place.state == "claimed":
        reason = Reason("claimed", "in a worker's hands")
    else:
        until = place.until or situation.now
        reason = explain_wait(until, find_last(events, part.id), situation)
        then = situation.explain_due(queue, site, until)
        if then.word != "due":
            reason = Reason(reason.word, f"{reason.text}; {then.text}", reason.opens)
    return {
        "delivery": part.id,
        "domain": part.domain,
        "state": place.state,
        "attempts": place.attempts,
        "wait": wait,
        "queue": place.queue,
        "site": site,
        "lane": "",
        "source": queue.source,
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


async def _describe_ready(
    store: Store, config: Config, part: Part, events: list[_Event]
) -> dict[str, object]:
    queue, position = await _find_queue(store, config, part)
    lanes = await store.list_queues(find_shard(part.domain)) if queue else {}
    lane = lanes.get(queue, "")
    name = read_queue(queue) if queue else Queue(part.tenant, part.domain, "", "")
    site = (await store.read_sites([queue]))[queue] if queue else ""
    situation = await read_situation(store, config, sites=[site], tenants=[name.tenant])
    forwarding = await store.is_forwarding(part.id.partition(".")[0], part.id)
    if forwarding:
        reason = Reason("forwarding", "accepted, on its way to the shard of its domain")
    elif not queue:
        reason = Reason("moving", "between two places just now; ask again")
    else:
        reason = situation.explain(name, lane, None if lane else await store.read_look(queue))
    tried = [event for event in events if event.get("delivery") == part.id and "attempt" in event]
    return {
        "delivery": part.id,
        "domain": part.domain,
        "state": "ready" if queue else reason.word,
        "attempts": sum(event["event"] == "deferred" for event in tried),
        "wait": None,
        "queue": queue,
        "before": position,
        "site": site,
        "lane": lane,
        "source": name.source,
        **_spell(reason, situation),
    }


async def _find_queue(store: Store, config: Config, part: Part) -> tuple[str, int | None]:
    """Return the queue that a ready delivery is in, and how many are before it, if few are."""
    queues = await list_places(store, config, part)
    for queue in queues:
        position = await store.find_position(queue, part.id, depth=_DEPTH)
        if position is not None:
            return queue, position
    # Far behind in one of them; most often there is only one.
    return (queues[0], None) if queues else ("", None)


def _spell(reason: Reason, situation: Situation) -> dict[str, object]:
    opens = None if reason.opens is None else round(max(0.0, reason.opens - situation.now), 1)
    return {"why": reason.word, "text": reason.text, "opens": opens}
