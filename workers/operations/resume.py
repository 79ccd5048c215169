"""Resuming: a suspension ends before its time.

A tenant that is slowed or held for what it did to the pool's reputation begins anew when it is named:
everything alone, after a pause of everything, does not forgive anybody.
"""

import trio

from relay.config import Config
from relay.store.queue import Store
from relay.store.share import Shares
from relay.store.suspension import Suspension, Suspensions
from workers.operations.decision import Decision
from workers.views.selection import Selection


async def resume(
    store: Store, config: Config, chosen: Selection, everything: bool, decided: Decision
) -> dict[str, list[str]]:
    """End suspensions: of exactly what was chosen; ``everything``: of all that have it as a part.

    Cut off, it stops between two of them; what has ended by then is on the record.
    """
    suspensions = Suspensions(store.link)
    there = await suspensions.read()
    meant = [one for one in there if _is_meant(one, chosen, everything)]
    ended: list[str] = []
    try:
        for one in meant:
            await trio.lowlevel.checkpoint_if_cancelled()
            with trio.CancelScope(shield=True):
                await suspensions.resume(one)
            ended.append(_name(one))
        ended += await _forgive(store, config, chosen, decided)
    finally:
        if ended:
            with trio.CancelScope(shield=True):
                await decided.record(store.link, "resumed", **chosen.describe(), suspensions=ended)
    others = [_name(one) for one in there if one not in meant]
    return {"resumed": ended, "still_suspended": others}


async def _forgive(store: Store, config: Config, chosen: Selection, decided: Decision) -> list[str]:
    """Forget what is counted of the tenant that is meant, if it is slowed or held; say so."""
    if set(chosen.describe()) != {"tenant"}:
        return []
    shares = Shares(store.link, config.reputation.tenant)
    share = (await shares.read([chosen.tenant]))[chosen.tenant]
    if not share.state:
        return []
    facts = {"tenant": chosen.tenant, "reason": share.reason}
    with trio.CancelScope(shield=True):
        await shares.clear(chosen.tenant)
        await decided.record(store.link, "tenant-released", **facts)
    return [f"tenant={chosen.tenant} ({share.reason})"]


def _is_meant(one: Suspension, chosen: Selection, everything: bool) -> bool:
    """Exactly the one of that name; with ``everything`` also those that say more."""
    pairs = [
        (chosen.tenant, one.tenant),
        (chosen.domain, one.domain),
        (chosen.site, one.site),
        (chosen.source, one.source),
    ]
    return all(given == had or (everything and not given) for given, had in pairs)


def _name(one: Suspension) -> str:
    return one.name or "everything"
