"""Which events somebody wants to hear of: everything that is given must match."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from relay.address import find_domain
from workers.views.selection import Selection

# What everybody must know, whatever he looks for: that he was not told all.
GAPS = frozenset(("missed", "dropped"))


@dataclass(frozen=True, slots=True)
class Sieve:
    """``names``: of events; none: all."""

    chosen: Selection
    names: Collection[str] = ()

    def passes(self, event: Mapping[str, Any]) -> bool:
        """Tell whether an event is one of those."""
        name, chosen = event.get("event"), self.chosen
        if name in GAPS:
            return True
        return (
            (not self.names or name in self.names)
            and chosen.tenant in ("", event.get("tenant"))
            and chosen.site in ("", event.get("site"))
            and chosen.source in ("", event.get("source"))
            and (not chosen.domain or chosen.domain in _find_domains(event))
            and (not chosen.ids or any(_is_about(event, one) for one in chosen.ids))
        )


def _find_domains(event: Mapping[str, Any]) -> Collection[str | None]:
    """Return the recipient domains: of what was accepted, the recipients have them."""
    if "domain" in event:
        return (event["domain"],)
    people = event.get("recipients") or ()
    return {find_domain(one.encode()) for one in people if isinstance(one, str)}


def _is_about(event: Mapping[str, Any], identity: str) -> bool:
    """Tell whether an event is about a message, or a delivery (ID.NUMBER)."""
    named = event.get("ids")
    several = named if isinstance(named, list) else ()
    if identity in (event.get("id"), event.get("delivery")) or identity in several:
        return True
    # What says nothing of deliveries is about all of a message's.
    return "delivery" not in event and event.get("id") == identity.partition(".")[0]
