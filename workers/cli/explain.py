"""``outgate explain ID``: everything that happened to a message, and what comes next."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import trio
from rich.markup import escape

from relay.config import Config, load
from relay.events import decode_event
from relay.store.keys import Queue, find_shard, read_queue
from relay.store.queue import Store
from workers.cli.asking import open_store
from workers.cli.page import (
    format_count,
    format_span,
    format_time,
    keep_printable,
    open_console,
)
from workers.cli.reason import Reason, Situation, read_situation
from workers.cli.target import Part, list_places, read_parts

_DEPTH = 2000  # ready deliveries of a queue among which one is looked for

_Event = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the message id."""
    parser.add_argument("id", metavar="ID", help="the id in the 250 reply, Received line and log")


def run(arguments: argparse.Namespace) -> int:
    """Print the story; exit 1 when nothing is known of the message, 2 for what is no id."""
    message_id = arguments.id.partition(".")[0].upper()
    try:
        story = trio.run(_read, load(arguments.config), message_id)
    except ValueError as error:
        print(f"outgate: {error}", file=sys.stderr)
        return 2
    if not story["events"]:
        print(
            f"outgate: nothing is known of {message_id}: not accepted here, or ended longer ago "
            "than store.remember",
            file=sys.stderr,
        )
        return 1
    if arguments.json:
        print(json.dumps(story))
    else:
        _show(story)
    return 0


async def _read(config: Config, message_id: str) -> dict[str, Any]:
    async with open_store(config) as store:
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


# -- for people -----------------------------------------------------------------------------------


def _show(story: dict[str, Any]) -> None:
    console = open_console()
    console.print(f"[bold]message {story['id']}[/]", soft_wrap=True)
    for event in story["events"]:
        moment = format_time(event.get("time", 0.0))
        line = f"{moment}  [bold]{event['event']}[/]  {escape(keep_printable(_tell(event)))}"
        console.print(line, soft_wrap=True)
        for person in event.get("recipients", []):
            if isinstance(person, dict):
                console.print(
                    f"{'':21}{escape(keep_printable(_tell_recipient(person)))}", soft_wrap=True
                )
    for place in story["now"]:
        console.print(f"now: {escape(keep_printable(_tell_place(place)))}", soft_wrap=True)
    if not story["now"]:
        console.print("now: ended, nothing of it is queued", soft_wrap=True)


def _tell(event: _Event) -> str:
    if event["event"] == "accepted":
        people = ", ".join(event["recipients"])
        tls = event.get("tls") or "in clear"
        origin = f"from {event['client']} ({tls})" if "client" in event else "written by outgate"
        about = f"{event['size']:,} octets <{event['sender']}> -> {people}, {origin}"
        return "; ".join([about, *_tell_acceptance(event)])
    if event["event"] == "feedback":
        return _tell_feedback(event)
    if "who" in event:
        return _tell_decision(event)
    if "host" not in event:
        return str(event.get("text", ""))
    via = f"{event['domain']}, attempt {event['attempt']}, from source {event['source'] or '-'}"
    host = f" to {event['host']} {event['address']}" if event["host"] else ""
    tls = f" ({_tell_tls(event)})" if event["address"] else ""
    wait = f"; next try in {format_span(event['wait'])}" if "wait" in event else ""
    return via + host + tls + wait


def _tell_acceptance(event: _Event) -> Iterator[str]:
    """Say by what a message was its tenant's, and what rules made of it."""
    if proof := event.get("proof"):
        by = f" of {event['signed_by']}" if "signed_by" in event else ""
        again = f", seen {event['seen']} times before" if event.get("seen") else ""
        yield f"{event['tenant']} by {proof}{by}{again}"
    if "rule" in event:
        yield f"rule {event['rule']} ({event['reason']})"
    elif "reason" in event:
        yield str(event["reason"])
    for name, scan in event.get("scans", {}).items():
        details = f" ({scan['details']})" if scan["details"] else ""
        yield f"{name} says {scan['result']}{details}"
    if changed := event.get("changed"):
        yield f"changed: {', '.join(changed)}"
    if not_changed := event.get("not_changed"):
        yield f"not changed: {', '.join(not_changed)}"
    if event.get("archived"):
        yield "archived"


def _tell_feedback(event: _Event) -> str:
    """Say who complains, or for whom a message came back after a host had taken it."""
    people = f"<{event['recipient']}>" if event["recipient"] else "somebody"
    if event["kind"] == "complaint":
        about = f"complaint ({event['type']}) of {people}"
    else:
        about = f"late bounce ({event['type']}) for {people}"
    said = ": ".join(event[name] for name in ("status", "text") if event.get(name))
    way = f", sent from source {event['source']}" if event["source"] else ""
    site = f" to {event['site']}" if event["site"] else ""
    by = f"; reported by {event['client']}"
    return f"{about}{': ' if said else ''}{said}{way}{site}{by}"


def _tell_tls(event: _Event) -> str:
    """Say what protected the session, and by what the host was verified, or why not."""
    if not event["tls"]:
        why = event.get("tls_problem")
        return f"in clear: {why}" if why else "in clear"
    verified, why = event.get("tls_verified", ""), event.get("tls_problem", "")
    return f"{event['tls']}, {f'verified by {verified}' if verified else f'not verified: {why}'}"


def _tell_recipient(person: _Event) -> str:
    said = f"{person['code']} {person['text']}" if person["code"] else person["text"]
    about = f" to {person['command']}" if person["command"] else ""
    return f"<{person['address']}> {person['outcome']}{about}: {said}"


def _tell_place(place: _Event) -> str:
    attempts = format_count(place["attempts"], "attempt")
    where = ""
    if place["state"] == "ready":
        before = place["before"]
        ahead = "many" if before is None else f"{before:,}"
        where = f"ready, {ahead} before it; "
    pinned = f"; source {place['source']} must send it" if place["source"] else ""
    site = f" (site {place['site']})" if place["site"] not in ("", place["domain"]) else ""
    return f"{place['domain']}{site}: {where}{place['text']}{pinned}; {attempts} so far"


def _tell_decision(event: _Event) -> str:
    why = f": {event['why']}" if event.get("why") else ""
    return f"by {event['who']}{why}"
