"""``outgate sources``: which addresses send, how each is, and how it stands with receivers."""

import argparse
import json
import sys
from typing import Any

import trio
from rich.console import Console

from relay.config import Config, load
from workers.cli.asking import open_store
from workers.cli.page import NARROW, add_row, make_table, open_console
from workers.views.sources import SHOWN, read_sources
from workers.views.standing import (
    format_pace,
    format_score,
    tell_warmup,
)
from workers.views.words import format_count, format_span


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
        default=SHOWN,
        help=f"show so many standings, the worst first (default: {SHOWN})",
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
        return await read_sources(store, config, wanted, site, limit=limit)


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
