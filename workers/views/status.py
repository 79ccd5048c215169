"""The state of the whole: the ledger, what is in the store, and whether senders will trust us."""

import contextlib
import datetime as dt
from typing import Any

from relay.config import Config
from relay.errors import CertificateRefused
from relay.net.certificates import find_unready, list_pairs, read_certificate
from relay.store.durability import find_weaknesses
from relay.store.gather import together
from relay.store.queue import Store
from workers.views.backlog import Backlog, read_backlog
from workers.views.queues import count
from workers.views.reason import read_situation
from workers.views.selection import Selection

_LOOKED_AT = 200  # queues, for the oldest delivery


def read_readiness(config: Config, now: dt.datetime) -> dict[str, Any]:
    """Look at the ingress's certificates: whether they hold, whose they are, how long they last."""
    why = find_unready(config, now)
    certificates = []
    for pair in list_pairs(config.ingress.tls):
        with contextlib.suppress(CertificateRefused):  # it stands in ``why``
            found = read_certificate(pair)
            certificates.append(
                {
                    "names": found.names,
                    "file": pair.certificate,
                    "expires": found.expires.isoformat(),
                    "days": found.count_days(now),
                    "text": found.describe(now),
                }
            )
    return {"ready": {"ok": not why, "why": why}, "certificates": certificates}


async def read_status(
    store: Store, config: Config, found: list[Backlog] | None = None
) -> dict[str, Any]:
    """Return the ledger, what waits, who serves, and what the store can lose.

    ``found``: what waits, when it has been looked at just now. Raises StartError as
    ``find_weaknesses`` does.
    """
    if found is None:
        found, _ = await read_backlog(store, Selection())
    read = await together(
        ledgers=store.read_ledger,
        memory=store.read_memory,
        situation=lambda: read_situation(store, config),
        forwarding=store.count_forwarding,
        oldest=lambda: _find_oldest(store, found),
        weaknesses=lambda: find_weaknesses(store.link),
    )
    ledgers, situation, oldest = read["ledgers"], read["situation"], read["oldest"]
    used, limit = read["memory"]
    alive = situation.alive
    return {
        **ledgers,
        "listen": [repr(endpoint) for endpoint in config.ingress.listen],
        "adds_up": all(_adds_up(ledger) for ledger in ledgers.values()),
        "deliveries": {
            **count(found),
            "forwarding": read["forwarding"],
            "oldest": None if oldest is None else round(max(0.0, situation.now - oldest), 1),
        },
        "workers": sum(member.startswith("worker:") for member in alive),
        "sources": {s.name: f"source:{s.name}" in alive for s in config.source},
        "suspensions": [
            {
                "what": one.name or "everything",
                "until": one.until,
                "who": one.who,
                "why": one.why,
                "text": situation.describe(one).text,
            }
            for one in situation.suspended
        ],
        "tenants": {
            name: {"state": one.state, "reason": one.reason, **one.counts._asdict()}
            for name, one in situation.shares.items()
        },
        "store": {
            "memory": used,
            "memory_limit": limit,
            "weaknesses": read["weaknesses"],
        },
    }


async def _find_oldest(store: Store, found: list[Backlog]) -> float | None:
    """Return when the oldest that waits was accepted; of many queues, the largest are looked at."""
    names = [name for one in found[:_LOOKED_AT] for name in one.queues]
    fronts = (await store.read_fronts(names)).values()
    return min((front.oldest for front in fronts if front.oldest is not None), default=None)


def _adds_up(ledger: dict[str, int]) -> bool:
    return ledger["accepted"] == ledger["delivered"] + ledger["bounced"] + ledger["queued"]
