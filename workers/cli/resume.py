"""``outgate resume``: end a suspension before its time.

A tenant that is slowed or held for what it did to the pool's reputation begins anew when it is named:
``--all`` alone, after a pause of everything, does not forgive anybody.
"""

import argparse
import json

import trio

from relay.config import Config, load
from relay.store.queue import Store
from relay.store.share import Shares
from relay.store.suspension import Suspension, Suspensions
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.decision import Decision
from workers.cli.page import warn
from workers.cli.selection import Selection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which, and why."""
    selection.add_places(parser, source="from this [[source]]")
    selection.add_everything(
        parser, "every suspension; with another option, every one that has it as a part"
    )
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Resume; exit 1 when nothing of that name was suspended."""
    config = load(arguments.config)
    chosen = selection.read(arguments)
    ended, others = trio.run(_resume, config, chosen, arguments.all, Decision(config, arguments))
    if arguments.json:
        print(json.dumps({"resumed": ended, "still_suspended": others}))
    else:
        for name in ended:
            print(f"resumed: {name}")
        if ended and others:
            print(f"  still suspended: {'; '.join(others)}")
    if not ended:
        there = f"; suspended: {'; '.join(others)}" if others else "; nothing is"
        warn(f"no suspension of {chosen}{there}")
    return 0 if ended else 1


async def _resume(
    config: Config, chosen: Selection, everything: bool, decided: Decision
) -> tuple[list[str], list[str]]:
    async with open_store(config) as store:
        suspensions = Suspensions(store.link)
        there = await suspensions.read()
        meant = [one for one in there if _is_meant(one, chosen, everything)]
        for one in meant:
            await suspensions.resume(one)
        ended = [_name(one) for one in meant]
        ended += await _forgive(store, config, chosen, decided)
        if ended:
            await decided.record(store.link, "resumed", **chosen.describe(), suspensions=ended)
        return ended, [_name(one) for one in there if one not in meant]


async def _forgive(store: Store, config: Config, chosen: Selection, decided: Decision) -> list[str]:
    """Forget what is counted of the tenant that is meant, if it is slowed or held; say so."""
    if set(chosen.describe()) != {"tenant"}:
        return []
    shares = Shares(store.link, config.reputation.tenant)
    share = (await shares.read([chosen.tenant]))[chosen.tenant]
    if not share.state:
        return []
    await shares.clear(chosen.tenant)
    facts = {"tenant": chosen.tenant, "reason": share.reason}
    await decided.record(store.link, "tenant-released", **facts)
    return [f"tenant={chosen.tenant} ({share.reason})"]


def _is_meant(one: Suspension, chosen: Selection, everything: bool) -> bool:
    """Exactly the one of that name; with ``--all`` also those that say more."""
    pairs = [
        (chosen.tenant, one.tenant),
        (chosen.domain, one.domain),
        (chosen.site, one.site),
        (chosen.source, one.source),
    ]
    return all(given == had or (everything and not given) for given, had in pairs)


def _name(one: Suspension) -> str:
    return one.name or "everything"
