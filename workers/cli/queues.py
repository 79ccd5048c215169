"""``outgate queues``: what waits, for whom, how long, and why."""

import argparse
import json
from typing import Any

import trio

from relay.config import Config, load
from workers.cli import selection
from workers.cli.asking import open_store
from workers.cli.page import add_row, make_table, open_console
from workers.views.queues import read_queues
from workers.views.selection import Selection
from workers.views.words import format_count, format_span

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add filters and how many."""
    selection.add_places(parser)
    parser.add_argument(
        "--limit", metavar="N", type=int, default=_SHOWN, help=f"show so many (default: {_SHOWN})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the queues, the largest first."""
    config = load(arguments.config)
    chosen = selection.read(arguments, required=False)
    state = trio.run(_read, config, chosen, max(0, arguments.limit))
    if arguments.json:
        print(json.dumps(state))
    else:
        _show(state)
    return 0


async def _read(config: Config, chosen: Selection, limit: int) -> dict[str, Any]:
    async with open_store(config) as store:
        return await read_queues(store, config, chosen, limit)


# -- for people -----------------------------------------------------------------------------------


def _show(state: dict[str, Any]) -> None:
    console = open_console()
    total, rows = state["total"], state["queues"]
    if not total["queues"]:
        console.print("nothing is queued")
        return
    table = make_table(
        "domain", "tenant", ">ready", ">due", ">in hand", ">oldest", "site", last="waits for"
    )
    for row in rows:
        oldest = "-" if row["oldest"] is None else format_span(row["oldest"])
        numbers = (row["ready"], row["due"], row["claimed"])
        add_row(
            table, row["domain"], row["tenant"], *numbers, oldest, row["site"] or "?", _tell(row)
        )
    console.print(table)
    counts = ", ".join(f"{total[word]:,} {word}" for word in ("ready", "due", "claimed"))
    console.print(f"\n{format_count(total['queues'], 'queue')}: {counts}")
    if state["not_shown"]:
        console.print(f"{state['not_shown']:,} not shown: --limit, --tenant, --domain, --site")
    if not state["complete"]:
        console.print("there are more queues than are counted here: --tenant, --domain, --site")


def _tell(row: dict[str, Any]) -> str:
    pinned = f" (some pinned to {', '.join(row['pinned'])})" if row["pinned"] else ""
    odd = [name for name in row["priorities"] if name != "normal"]
    return str(row["text"]) + pinned + (f" [{', '.join(odd)}]" if odd else "")
