"""``outgate explain ID``: everything that happened to a message, and what comes next."""

import argparse
import json
import sys
import time
from typing import Any

import trio
from rich.console import Console
from rich.markup import escape

from relay.address import find_domain
from relay.config import Config, load
from relay.events import decode_event
from relay.store.queue import Store
from relay.store.view import Place
from workers.cli.asking import open_store

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
        events.sort(key=lambda event: event["time"])  # type: ignore[arg-type,return-value]
        places = await _find_places(store, message_id, events)
    return {
        "id": message_id,
        "events": events,
        "now": places,
        "state": "queued" if places else "ended",
    }


async def _find_places(
    store: Store, message_id: str, events: list[dict[str, object]]
) -> list[dict[str, object]]:
    """Deliveries are numbered in the order of their domains' first recipients."""
    recipients = next((e.get("recipients") for e in events if e["event"] == "accepted"), [])
    assert isinstance(recipients, list)
    domains = dict.fromkeys(find_domain(str(address).encode()) for address in recipients)
    found: list[dict[str, object]] = []
    for number, domain in enumerate(domains):
        if domain is None:
            continue
        place = await store.read_place(f"{message_id}.{number}", domain)
        if place is not None:
            found.append({"domain": domain, **_describe(place)})
    return found


def _describe(place: Place) -> dict[str, object]:
    wait = None if place.until is None else round(max(0.0, place.until - time.time()), 1)
    return {"state": place.state, "attempts": place.attempts, "wait": wait}


# -- for people -----------------------------------------------------------------------------------


def _show(story: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]message {story['id']}[/]")
    for event in story["events"]:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
        console.print(f"{moment}  [bold]{event['event']}[/]  {escape(_tell(event))}")
        for person in event.get("recipients", []):
            if isinstance(person, dict):
                console.print(f"{'':21}{escape(_tell_recipient(person))}")
    for place in story["now"]:
        console.print(f"now: {escape(_tell_place(place))}")
    if not story["now"]:
        console.print("now: ended, nothing of it is queued")


def _tell(event: _Event) -> str:
    if event["event"] == "accepted":
        people = ", ".join(event["recipients"])
        tls = event.get("tls") or "in clear"
        origin = f"from {event['client']} ({tls})" if "client" in event else "written by outgate"
        return f"{event['size']:,} octets <{event['sender']}> -> {people}, {origin}"
    if "host" not in event:
        return str(event.get("text", ""))
    via = f"{event['domain']}, attempt {event['attempt']}, from source {event['source'] or '-'}"
    host = f" to {event['host']} {event['address']}" if event["host"] else ""
    tls = f" ({event['tls'] or 'in clear'})" if event["address"] else ""
    wait = f"; next try in {_format(event['wait'])}" if "wait" in event else ""
    return via + host + tls + wait


def _tell_recipient(person: _Event) -> str:
    said = f"{person['code']} {person['text']}" if person["code"] else person["text"]
    about = f" to {person['command']}" if person["command"] else ""
    return f"<{person['address']}> {person['outcome']}{about}: {said}"


def _tell_place(place: _Event) -> str:
    made = f"{place['attempts']} attempts so far"
    if place["state"] == "claimed":
        return f"{place['domain']}: in a worker's hands, {made}"
    if place["state"] == "due":
        return f"{place['domain']}: waits {_format(place['wait'])} for its next attempt, {made}"
    return f"{place['domain']}: ready, waits for a worker, {made}"


def _format(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
