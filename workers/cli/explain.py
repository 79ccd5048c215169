"""``outgate explain ID``: everything that happened to a message, and what comes next."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import trio
from rich.markup import escape

from relay.config import Config, load
from workers.cli.asking import open_store
from workers.cli.page import keep_printable, open_console
from workers.views.explain import explain
from workers.views.words import format_count, format_span, format_time

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
        return await explain(store, config, message_id)


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
