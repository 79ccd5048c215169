"""Suspending: a source, site, source at a site, tenant or domain sends nothing for a while."""

import trio

from relay.config import Config
from relay.store.queue import Store
from relay.store.suspension import Suspension, Suspensions
from workers.operations.decision import Decision
from workers.operations.target import list_queues
from workers.views.selection import Selection

# What workers know to obey (relay/store/suspension.py).
_COMBINATIONS = (
    {"tenant"}, {"site"}, {"source"}, {"domain"},
    {"site", "source"}, {"tenant", "site"}, {"tenant", "domain"},
)  # fmt: skip


def check(config: Config, chosen: Selection) -> None:
    """Raise ValueError for what cannot be suspended."""
    given = set(chosen.describe())
    if given and given not in _COMBINATIONS:
        words = " and ".join(sorted(given))
        raise ValueError(
            f"workers cannot suspend {words} together; they can: tenant, site, source, "
            "domain, source at a site, tenant at a site, domain of a tenant"
        )
    for kind, name, known in (
        ("tenant", chosen.tenant, [tenant.name for tenant in config.tenant]),
        ("source", chosen.source, [source.name for source in config.source]),
    ):
        if name and name not in known:
            raise ValueError(f"{kind} {name}: no such [[{kind}]]; there is {', '.join(known)}")


async def suspend(
    store: Store, config: Config, chosen: Selection, span: float | None, decided: Decision
) -> dict[str, object]:
    """Suspend what ``check`` has passed, for a span in s (None: until it is resumed)."""
    suspensions = Suspensions(store.link)
    now = await suspensions.read_clock()
    one = Suspension(
        tenant=chosen.tenant,
        domain=chosen.domain,
        site=chosen.site,
        source=chosen.source,
        until=None if span is None else now + span,
        since=now,
        who=decided.who,
        why=decided.why,
    )
    with trio.CancelScope(shield=True):  # no act without its record
        await suspensions.suspend(one)
        await decided.record(store.link, "suspended", **chosen.describe(), until=one.until)
    waiting = {"queues": 0, "deliveries": 0} if chosen.source else await _count(store, chosen)
    return {
        "suspended": one.name or "everything",
        "until": one.until,
        "who": one.who,
        "why": one.why,
        "waiting": waiting,
        "left": _find_left(config, await suspensions.read(), chosen),
        "undo": f"outgate resume {chosen.spell()}",
    }


async def _count(store: Store, chosen: Selection) -> dict[str, int]:
    queues = [queue async for queue, _ in list_queues(store, chosen)]
    sizes = (await store.read_sizes(queues)).values()
    return {"queues": len(queues), "deliveries": sum(one.ready + one.due for one in sizes)}


def _find_left(
    config: Config, suspended: list[Suspension], chosen: Selection
) -> dict[str, list[str]]:
    """Return, for each pool of a source, who goes on."""
    if not chosen.source:
        return {}
    return {
        pool: [
            name
            for name, weight in members.items()
            if weight and not any(one.covers(site=chosen.site, source=name) for one in suspended)
        ]
        for pool, members in config.pool.items()
        if members.get(chosen.source)
    }
