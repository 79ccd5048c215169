"""``outgate sources``: which addresses send, and how each is."""

import argparse
import json
from typing import Any

import trio

from relay.config import Config, load
from relay.config.schema import Source
from relay.store.gateview import GateView
from relay.store.queue import Store
from workers.cli.asking import open_store
from workers.cli.backlog import read_backlog
from workers.cli.page import add_row, format_count, format_span, make_table, open_console
from workers.cli.reason import Situation, read_situation
from workers.cli.selection import Selection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print the sources; exit 1 when nobody serves any."""
    state = trio.run(_read, load(arguments.config))
    if arguments.json:
        print(json.dumps(state))
    else:
        _show(state)
    return 0 if any(row["alive"] for row in state["sources"]) else 1


async def _read(config: Config) -> dict[str, Any]:
    async with open_store(config) as store:
        situation = await read_situation(store, config)
        names = [source.name for source in config.source]
        sites = await list_sites(store, situation)
        view = GateView(store.link, situation.now)
        connections = await view.count_connections(sites, names)
        rests = await view.read_rests(sites)
        rows = []
        for source in config.source:
            there = {site: n for (site, name), n in connections.items() if name == source.name}
            row = _describe(situation, source)
            row["connections"] = sum(there.values())
            row["sites"] = len(there)
            row["rests"] = sum(source.name in names for names in rests.values())
            rows.append(row)
        workers = sum(member.startswith("worker:") for member in situation.alive)
        return {"sources": rows, "workers": workers}


async def list_sites(store: Store, situation: Situation) -> list[str]:
    """Return the sites that have something queued or in hand, and those with an entry of ours."""
    found, _ = await read_backlog(store, Selection())
    entries = [site.name for site in situation.config.site if site.mx or site.domains]
    return list(dict.fromkeys([*entries, *(one.site for one in found if one.site)]))


def _describe(situation: Situation, source: Source) -> dict[str, Any]:
    heard = situation.alive.get(f"source:{source.name}")
    covering = situation.find_suspension(source=source.name)
    partly = [one.name for one in situation.suspended if one.source == source.name and one.site]
    return {
        "name": source.name,
        "address": source.address,
        "ehlo": source.ehlo,
        "egress": source.proxy.partition(":")[0] or "direct",
        "pools": {
            pool: members[source.name]
            for pool, members in situation.config.pool.items()
            if source.name in members
        },
        "alive": heard is not None,
        "heard": None if heard is None else round(max(0.0, situation.now - heard), 1),
        "suspended": situation.describe(covering).text if covering else "",
        "suspended_at": [name.partition("source=")[0].strip() for name in partly],
    }


def _show(state: dict[str, Any]) -> None:
    console = open_console()
    table = make_table(
        "source", "address", "EHLO", "egress", "pools", ">conns", ">rests", last="state"
    )
    for row in state["sources"]:
        pools = ", ".join(f"{pool} {weight}" for pool, weight in row["pools"].items())
        numbers = (row["connections"], row["rests"])
        add_row(
            table, row["name"], row["address"], row["ehlo"], row["egress"], pools or "-",
            *numbers, _tell(row),
        )  # fmt: skip
    console.print(table)
    console.print(
        f"\n{format_count(state['workers'], 'worker process')} "
        "alive; rests: sites that were not reached and are tried again later"
    )


def _tell(row: dict[str, Any]) -> str:
    if not row["alive"]:
        return "no worker that is alive has it"
    if row["suspended"]:
        return str(row["suspended"])
    at = f"; suspended at {', '.join(row['suspended_at'])}" if row["suspended_at"] else ""
    return f"alive, heard {format_span(row['heard'])} ago{at}"
