"""An event in a line, for who watches them go by: what happened, to whom, where, and why.

``outgate explain`` tells the same at length, of one message.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from workers.views.words import format_span, shorten

_PEOPLE = 3  # that are named
# What stands elsewhere in the line, or nobody reads while it goes by.
_LEFT_OUT = frozenset(
    ("time", "event", "id", "delivery", "tenant", "address", "certificate", "tls_policy", "hello")
)
_ENDS = frozenset(("delivered", "deferred", "bounced", "suppressed"))
_REFUSALS = frozenset(("refused", "postponed", "limited"))

Event = Mapping[str, Any]


def brief(event: Event) -> str:
    """Return what an event says, without its time, name, tenant and id. Of any version's."""
    name = event.get("event")
    try:
        if name == "accepted":
            return " ".join(_tell_accepted(event))
        if name in _ENDS and "recipients" in event:
            return " ".join(_tell_end(event))
        if name in _REFUSALS:
            return f"<{event['sender']}> from {event['client']}: {shorten(str(event['reason']))}"
        if name in ("missed", "dropped"):
            return _tell_gap(event)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # another version's: as it is
    return " ".join(_tell_any(event))


def _tell_accepted(event: Event) -> Iterator[str]:
    yield f"<{event['sender']}> -> {_name(event['recipients'])}"
    yield f"{event['size']:,} octets"
    if "client" in event:
        yield f"from {event['client']} {event['tls'].partition(' ')[0] or 'in clear'}"
    if "rule" in event:
        yield f"rule {event['rule']}"


def _tell_end(event: Event) -> Iterator[str]:
    people = event["recipients"]
    yield _name([person["address"] for person in people])
    if event["host"]:
        tls = event["tls"].partition(" ")[0]
        how = tls + ("" if event.get("tls_verified") else " not verified") if tls else "in clear"
        yield f"via {event['source']} to {event['host']} ({how})"
    said = {f"{p['code']} {p['text']}" if p["code"] else p["text"]: None for p in people}
    yield shorten(" / ".join(said))
    if "wait" in event:
        yield f"(again in {format_span(event['wait'])})"


def _tell_gap(event: Event) -> str:
    count = event.get("count")
    if count is None:
        return "events may be missing here: nothing was heard for a while"
    if event["event"] == "dropped":
        return f"{count:,} events are missing here: there were more than could be told"
    return f"{count:,} events are missing here: they came faster than they were read"


def _tell_any(event: Event) -> Iterator[str]:
    """What is said for people comes last, and without its name."""
    for key, value in event.items():
        if key in ("text", "reason", "why") or key in _LEFT_OUT or value in ("", None, [], {}):
            continue
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        yield f"{key}={shorten(text)}"
    for key in ("text", "reason", "why"):
        if event.get(key):
            yield shorten(str(event[key]))


def _name(people: list[str]) -> str:
    named = " ".join(f"<{address}>" for address in people[:_PEOPLE])
    more = len(people) - _PEOPLE
    return f"{named} and {more:,} more" if more > 0 else named
