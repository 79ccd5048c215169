"""Sites: receivers, what may go there, and what stands in the way just now."""

import math
from typing import Any

from relay.config import Config, Rate
from relay.store.gateview import Left
from relay.store.queue import Store
from workers.views.backlog import Backlog, read_backlog
from workers.views.reason import Situation, read_situation
from workers.views.selection import Selection
from workers.views.standing import describe

SHOWN = 20


async def read_sites(
    store: Store,
    config: Config,
    wanted: str = "",
    *,
    limit: int = SHOWN,
    backlog: list[Backlog] | None = None,
) -> dict[str, Any]:
    """Return ``limit`` sites, those with most queued first; ``wanted``: this one only.

    ``backlog``: what waits, when it has been looked at just now.
    """
    found = backlog
    if found is None:
        found, _ = await read_backlog(store, Selection(site=wanted))
    queued: dict[str, list[Backlog]] = {}
    for one in found:
        if one.site:
            queued.setdefault(one.site, []).append(one)
    names = sorted(queued, key=lambda name: -sum(one.total for one in queued[name]))
    entries = [site.name for site in config.site if site.mx or site.domains]
    names = list(dict.fromkeys([*names, *entries]))
    if wanted:
        names = [wanted]
    shown = names[:limit]
    situation = await read_situation(store, config, sites=shown)
    return {
        "now": situation.now,
        "sites": [_describe(situation, name, queued.get(name, [])) for name in shown],
        "not_shown": len(names) - len(shown),
    }


def _describe(situation: Situation, name: str, queues: list[Backlog]) -> dict[str, Any]:
    terms, gate = situation.sites.find(name), situation.gates[name]
    now = situation.now
    covering = situation.find_suspension(site=name)
    suspended = {
        one.source: situation.describe(one).text
        for one in situation.suspended
        if one.site == name and one.source
    }
    standings = {
        source: describe(one, situation.config, now)
        for (site, source), one in situation.standings.items()
        if site == name
    }
    return {
        "name": name,
        "entry": name in situation.sites,
        "tls": terms.tls,
        "queues": len(queues),
        "queued": sum(one.total for one in queues),
        "connections": sum(gate.connections.values()),
        "connection_limit": terms.connections,
        "rates": [_spell(rate) for rate in terms.rates],
        "rate_left": _number(gate.left),
        "suspended": situation.describe(covering).text if covering else "",
        "sources": {
            source: {
                "connections": count,
                "connection_limit": terms.source_connections,
                "rates": [_spell(rate) for rate in terms.source_rates],
                "rate_left": _number(gate.source_left[source]),
                "rest": round(gate.rests[source].until - now, 1) if source in gate.rests else None,
                "failures": gate.rests[source].failures if source in gate.rests else 0,
                "turn_waits": round(now - gate.owed[source], 1) if source in gate.owed else None,
                "suspended": suspended.get(source, ""),
                "standing": standings.get(source),
            }
            for source, count in gate.connections.items()
        },
        "put_off": {
            tenant: {"until": until, "why": why}
            for tenant, (until, why) in situation.put_off[name].items()
        },
    }


def _number(left: Left) -> int | None:
    return None if math.isinf(left.count) else int(left.count)


def _spell(rate: Rate) -> str:
    return repr(rate)
