"""Tenants: what waits of each, and what receivers' answers have brought on it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from relay.config import Config
from relay.config.schema import Tenant
from relay.store.queue import Store
from relay.store.share import State
from workers.views.backlog import Backlog
from workers.views.reason import Situation, read_situation


async def read_tenants(
    store: Store, config: Config, backlog: Sequence[Backlog]
) -> list[dict[str, Any]]:
    """Return all that are configured; ``backlog``: what waits."""
    situation = await read_situation(store, config)
    queued: Counter[str] = Counter()
    for one in backlog:
        queued[one.tenant] += one.total
    return [_describe(situation, tenant, queued[tenant.name]) for tenant in config.tenant]


def _describe(situation: Situation, tenant: Tenant, queued: int) -> dict[str, Any]:
    share = situation.shares.get(tenant.name, State())
    covering = situation.find_suspension(tenant=tenant.name)
    return {
        "name": tenant.name,
        "domains": list(tenant.domains),
        "state": share.state,
        "reason": share.reason,
        "since": share.since or None,
        "shares": _spell(share),
        "suspended": situation.describe(covering).text if covering else "",
        "queued": queued,
    }


def _spell(share: State) -> dict[str, float | int | None]:
    """Return what is held against a tenant, 0 to 1 of the recipients that were tried."""
    counts = share.counts

    def divide(number: int) -> float | None:
        return round(number / counts.tried, 5) if counts.tried else None

    return {
        "tried": counts.tried,
        "unknown": divide(counts.unknown),
        "content": divide(counts.content),
        "complaints": divide(counts.complaints),
    }
