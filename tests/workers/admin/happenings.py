"""Events of messages, as the services write them."""

import itertools
from typing import Any

from relay.model import make_message_id

NOON = 1_790_000_000.0  # seconds since 1970
_shards = itertools.cycle(range(16))


def accept(
    *recipients: str,
    at: float = NOON,
    identity: str = "",
    sender: str = "ann@acme.example",
    tenant: str = "acme",
    message_id: str = "<1@acme.example>",
    **more: Any,
) -> dict[str, Any]:
    """A message is accepted."""
    return {
        "time": at,
        "event": "accepted",
        "id": identity or make_message_id(next(_shards), now=at),
        "tenant": tenant,
        "sender": sender,
        "recipients": list(recipients) or ["bob@example.org"],
        "size": 4321,
        "message_id": message_id,
        **more,
    }


def attempt(
    event: str,
    accepted: dict[str, Any],
    outcomes: dict[str, str],
    *,
    after: float = 1.0,
    **more: Any,
) -> dict[str, Any]:
    """An attempt has ended: ``outcomes`` by recipient. ``event``: delivered, deferred or bounced."""
    domain = next(iter(outcomes)).rpartition("@")[2].lower()
    return {
        "time": accepted["time"] + after,
        "event": event,
        "id": accepted["id"],
        "delivery": f"{accepted['id']}.0",
        "tenant": accepted["tenant"],
        "domain": domain,
        "attempt": 1,
        "source": "a",
        "site": "example",
        "host": f"mx.{domain}",
        "address": "127.0.0.1",
        "tls": "TLSv1.3",
        "tls_policy": "dane",
        "tls_verified": "dane-ee",
        "recipients": [
            {
                "address": address, "outcome": outcome, "command": ".", "code": 250, "status": "",
                "text": "Ok", "blame": "",
            }
            for address, outcome in outcomes.items()
        ],
        **more,
    }  # fmt: skip


def deliver(accepted: dict[str, Any], *, after: float = 1.0) -> dict[str, Any]:
    """All recipients of a message have it."""
    outcomes = dict.fromkeys(accepted["recipients"], "delivered")
    return attempt("delivered", accepted, outcomes, after=after)
