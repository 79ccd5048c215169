"""Whose a reported message was, and which way it went: from its story, not from the report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a report is about. What cannot be told is empty."""

    tenant: str = ""
    source: str = ""
    site: str = ""
    domain: str = ""
    recipient: str = (
        ""  # as the message was addressed; "": the report does not say, or somebody else
    )


def find_origin(
    story: Sequence[_Event], names: Sequence[str] = (), source: str = ""
) -> Origin | None:
    """Return what is known of a message that somebody reports; None: it was not accepted here.

    ``names``: what the report calls the recipient, ``source``: of ours, from whose address it came, if
    it says so. A recipient that the message did not have is nobody: who reports a hundred strangers
    has complained once.
    """
    accepted = next((event for event in story if event.get("event") == "accepted"), None)
    if accepted is None:
        return None
    people = {str(one).lower(): str(one) for one in accepted.get("recipients", ())}
    recipient = next((people[name.lower()] for name in names if name.lower() in people), "")
    ends = [event for event in story if recipient.lower() in _find_delivered(event, recipient)]
    if len({_find_way(event) for event in ends}) > 1:
        # To several domains, and which of them it was is not said; but perhaps from where.
        ends = [event for event in ends if source and event.get("source") == source]
    ways = {_find_way(event) for event in ends}
    way = ways.pop() if len(ways) == 1 else ("", "", "")
    return Origin(str(accepted.get("tenant", "")), *way, recipient)


def _find_delivered(event: _Event, recipient: str) -> Iterator[str]:
    """Yield who had the message after an attempt, in lower case; "" if that is all the same."""
    for one in event.get("recipients", ()):
        if isinstance(one, dict) and one.get("outcome") == "delivered":
            yield str(one.get("address", "")).lower() if recipient else ""


def _find_way(event: _Event) -> tuple[str, str, str]:
    return str(event.get("source", "")), str(event.get("site", "")), str(event.get("domain", ""))
