"""What a message's events say, as spans of one trace. Pure, and without memory.

    accept              the root: from the moment when its content began to come, until the 250
    ├── attempt         each try, with host, source, reply and TLS; as long as the event says it took
    └── delivered, bounced    each delivery's end: from the beginning of all until then

Ids are made of what they stand for: the trace's is the message's own, a span's is a digest. So an attempt
of tomorrow finds its parent without anybody having remembered it, and what is told twice is told once.
Nobody's address is in it: traces go where more people look than into a mail log.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from workers.admin.entry import read_number, read_value, tell_time

_TEXT = 200  # characters of what a host said
_CHANCE = 60  # bits of a message id that nobody chose
_SHARD = 10  # ... and those behind them
_RESULTS = frozenset(("delivered", "deferred", "bounced"))

Kind = Literal["server", "client", "internal"]
Value = str | int | bool


@dataclass(frozen=True)
class Span:
    """One span. Times are nanoseconds since 1970; ``parent`` 0: it is the root."""

    trace: int
    id: int
    parent: int
    name: str
    kind: Kind
    start: int
    end: int
    attributes: dict[str, Value] = field(default_factory=dict)
    error: str = ""


def find_trace(message_id: str) -> int:
    """Return the id of a message's trace: the 120 bits of its own. Raises ValueError."""
    read_number(message_id)
    return read_value(message_id)


def is_sampled(trace: int, share: float) -> bool:
    """Tell whether a message is among the ``share`` that is traced: all of its spans, or none."""
    return (trace >> _SHARD & (1 << _CHANCE) - 1) < share * (1 << _CHANCE)


def make_spans(event: Mapping[str, Any], share: float = 1.0) -> list[Span]:
    """Return what an event says of a message, if it is one that is traced. What makes no sense is left out."""
    name = event.get("event")
    if name != "accepted" and name not in _RESULTS:
        return []
    try:
        trace = find_trace(event["id"])
        if not is_sampled(trace, share):
            return []
        return [_accept(trace, event)] if name == "accepted" else list(_result(trace, name, event))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return []


def _accept(trace: int, event: Mapping[str, Any]) -> Span:
    attributes: dict[str, Value] = {
        "outgate.message.id": str(event["id"]),
        "outgate.tenant": str(event["tenant"]),
        "outgate.recipients": len(event["recipients"]),
        "outgate.size": int(event["size"]),
    }
    for key, field_name in (
        ("client.address", "client"), ("outgate.tls", "tls"), ("outgate.proof", "proof"),
        ("outgate.rule", "rule"), ("outgate.notice", "notice"), ("outgate.about", "about"),
    ):  # fmt: skip
        if event.get(field_name):
            attributes[key] = str(event[field_name])
    end = _nanoseconds(event["time"])
    # A notice has the time of what it is about in its id: it begins when it is made.
    start = end if "notice" in event else min(end, _begin(event["id"]))
    return Span(trace, _digest(event["id"]), 0, "accept", "server", start, end, attributes)


def _result(trace: int, name: str, event: Mapping[str, Any]) -> Iterator[Span]:
    parent, end = _digest(event["id"]), _nanoseconds(event["time"])
    number, delivery = int(event["attempt"]), str(event["delivery"])
    common: dict[str, Value] = {
        "outgate.message.id": str(event["id"]),
        "outgate.delivery.id": delivery,
        "outgate.tenant": str(event["tenant"]),
        "outgate.domain": str(event["domain"]),
        "outgate.outcome": name,
    }
    if event["source"]:  # else nobody was asked: an operator's end, or time was up
        attributes = common | {"outgate.attempt": number} | _describe_host(event)
        reply, error = _describe_reply(event["recipients"])
        start = end - _nanoseconds(max(0.0, float(event.get("seconds", 0.0))))
        yield Span(
            trace, _digest(delivery, "attempt", str(number)), parent, "attempt", "client",
            start, end, attributes | reply, error if name != "delivered" else "",
        )  # fmt: skip
    if name != "deferred":
        people = event["recipients"]
        attributes = common | {"outgate.attempts": number, "outgate.recipients": len(people)}
        error = _describe_reply(people)[1] if name == "bounced" else ""
        start = min(end, _begin(event["id"]))
        yield Span(
            trace, _digest(delivery, "end"), parent, name, "internal", start, end, attributes, error
        )


def _describe_host(event: Mapping[str, Any]) -> dict[str, Value]:
    told = {
        "outgate.source": "source", "outgate.site": "site", "server.address": "host",
        "network.peer.address": "address", "outgate.tls": "tls", "outgate.tls.policy": "tls_policy",
        "outgate.tls.verified": "tls_verified", "outgate.tls.problem": "tls_problem",
    }  # fmt: skip
    return {key: str(event[name])[:_TEXT] for key, name in told.items() if event.get(name)}


def _describe_reply(people: list[Mapping[str, Any]]) -> tuple[dict[str, Value], str]:
    """Return the reply that says most, the first that is no success, and what is wrong by it."""
    person = next((one for one in people if one["outcome"] != "delivered"), people[0])
    addresses = [str(one["address"]) for one in people]
    text = str(person["text"])
    for address in addresses:  # hosts like to repeat them
        text = text.replace(address, "(address)") if address else text
    told: dict[str, Value] = {"outgate.reply": text[:_TEXT]}
    if person["code"]:
        told["outgate.reply.code"] = int(person["code"])
    for key in ("command", "status", "blame", "label"):
        if person.get(key):
            told[f"outgate.reply.{key}"] = str(person[key])[:_TEXT]
    wrong = person["outcome"] != "delivered"
    return told, f"{person['code'] or ''} {text[:_TEXT]}".strip() if wrong else ""


def _digest(*parts: str) -> int:
    """Return a span's id: 64 bits, not zero."""
    octets = blake2b(" ".join(parts).encode(), digest_size=8, person=b"outgate-span").digest()
    return int.from_bytes(octets, "big") or 1


def _begin(message_id: str) -> int:
    return _nanoseconds(tell_time(read_number(message_id)))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e6) * 1000
