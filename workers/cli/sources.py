"""``outgate sources``: which addresses send, how each is, and how it stands with receivers."""

import argparse
import json
import sys
from typing import Any

import trio
from rich.console import Console

from relay.config import Config, load
from relay.config.schema import Source
from relay.store.gateview import GateView
from relay.store.queue import Store
from relay.store.standing import Standing, Standings, find_warmups
from workers.cli.asking import open_store
from workers.cli.backlog import Backlog, read_backlog
from workers.cli.page import (
    NARROW,
    add_row,
    format_count,
    format_span,
    make_table,
    open_console,
)
from workers.cli.reason import Situation, read_situation
from workers.cli.selection import Selection
from workers.cli.standing import (
    WORDS,
    describe,
    find_word,
    format_pace,
    format_score,
    is_telling,
    tell_warmup,
)

_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add filters and how many."""
    parser.add_argument("--source", metavar="NAME", default="", help="this one only")
    parser.add_argument(
        "--site", metavar="NAME", default="", help="how they stand with this one only"
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=int,
        default=_SHOWN,
        help=f"show so many standings, the worst first (default: {_SHOWN})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the sources; exit 1 when nobody serves any, 2 for one that is not configured."""
    config = load(arguments.config)
    names = [source.name for source in config.source]
    if arguments.source and arguments.source not in names:
        known = ", ".join(names) or "none"
        print(f"outgate: no source {arguments.source}; there is {known}", file=sys.stderr)
        return 2
    state = trio.run(_read, config, arguments.source, arguments.site, max(0, arguments.limit))
    if arguments.json:
        print(json.dumps(state))
    else:
        _show(state)
    return 0 if any(row["alive"] for row in state["sources"]) else 1


async def _read(config: Config, wanted: str, site: str, limit: int) -> dict[str, Any]:
    async with open_store(config) as store:
        situation = await read_situation(store, config)
        sources = [source for source in config.source if wanted in ("", source.name)]
        names = [source.name for source in sources]
        backlog, _ = await read_backlog(store, Selection())
        sites = _list_sites(config, backlog)
        view = GateView(store.link, situation.now)
        connections = await view.count_connections(sites, names)
        rests = await view.read_rests(sites)
        standings = await _read_standings(store, situation, [site] if site else sites, backlog)
        telling = [one for one in standings if one.source in names and site in ("", one.site)]
        rows = []
        for source in sources:
            there = {site: n for (site, name), n in connections.items() if name == source.name}
            row = _describe(situation, source)
            row["connections"] = sum(there.values())
            row["sites"] = len(there)
            row["rests"] = sum(source.name in names for names in rests.values())
            row["standings"] = [
                describe(one, config, situation.now)
                for one in telling[:limit]
                if one.source == source.name
            ]
            rows.append(row)
        workers = sum(member.startswith("worker:") for member in situation.alive)
        return {
            "now": situation.now,
            "sources": rows,
            "workers": workers,
            "not_shown": len(telling[limit:]),
        }


def _list_sites(config: Config, backlog: list[Backlog]) -> list[str]:
    """Return the sites that have something queued or in hand, and those with an entry of ours."""
    entries = [site.name for site in config.site if site.mx or site.domains]
    return list(dict.fromkeys([*entries, *(one.site for one in backlog if one.site)]))


async def _read_standings(
    store: Store, situation: Situation, sites: list[str], backlog: list[Backlog]
) -> list[Standing]:
    """Return the standings that say something, the worst first."""
    standings, now = Standings(store.link, situation.config), situation.now
    found = await standings.read(dict.fromkeys([*sites, *await standings.list_sites()]), now)
    for site, source in _find_beginnings(situation.config, backlog):
        # A source that is warmed up has an allowance before it has sent anything.
        found.setdefault((site, source), standings.begin(site, source, now))
    telling = [one for one in found.values() if is_telling(one, now)]
    return sorted(telling, key=lambda one: (WORDS.index(find_word(one, now)), one.source, one.site))


def _find_beginnings(config: Config, backlog: list[Backlog]) -> set[tuple[str, str]]:
    """Return the sites and sources where mail waits that a source being warmed up may send."""
    return {
        (one.site, source)
        for one in backlog
        if one.site
        for pool in one.pools
        for source in find_warmups(config).keys() & config.pool.get(pool, {}).keys()
    }


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
    _show_sources(console, state)
    if any(row["standings"] for row in state["sources"]):
        _show_standings(console, state)
    if state["not_shown"]:
        rest = format_count(state["not_shown"], "standing")
        console.print(f"\n{rest} not shown: --limit, --source, --site")


def _show_sources(console: Console, state: dict[str, Any]) -> None:
    more = ("EHLO", "egress") if console.width >= NARROW else ()
    table = make_table("source", "address", *more, "pools", ">conns", ">rests", last="state")
    for row in state["sources"]:
        pools = ", ".join(f"{pool} {weight}" for pool, weight in row["pools"].items())
        more = (row["ehlo"], row["egress"]) if console.width >= NARROW else ()
        numbers = (row["connections"], row["rests"])
        add_row(table, row["name"], row["address"], *more, pools or "-", *numbers, _tell(row))
    console.print(table)
    console.print(
        f"\n{format_count(state['workers'], 'worker process')} "
        "alive; rests: sites that were not reached and are tried again later"
    )


def _show_standings(console: Console, state: dict[str, Any]) -> None:
    more = (">evidence",) if console.width >= NARROW else ()
    table = make_table("source", "site", ">score", *more, ">pace", ">conns", last="standing")
    for row in state["sources"]:
        for one in row["standings"]:
            numbers = [round(one["evidence"])] if console.width >= NARROW else []
            numbers += [format_pace(one["pace"]), one["connections"] or "-"]
            lines = [one["text"]]
            if one["warmup"] is not None:
                lines.append(tell_warmup(one["warmup"], state["now"]))
            score = format_score(one["score"], one["evidence"])
            add_row(table, row["name"], one["site"], score, *numbers, lines)
    console.print()
    console.print(table)


def _tell(row: dict[str, Any]) -> str:
    if not row["alive"]:
        return "no worker that is alive has it"
    if row["suspended"]:
        return str(row["suspended"])
    at = f"; suspended at {', '.join(row['suspended_at'])}" if row["suspended_at"] else ""
    return f"alive, heard {format_span(row['heard'])} ago{at}"
