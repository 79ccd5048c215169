"""``outgate status``: does the ledger add up, what is in the store, and will senders trust us?"""

import argparse
import datetime as dt
import json
from typing import Any

import trio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.config import Config, load
from relay.net.certificates import AHEAD
from workers.cli.asking import open_store
from workers.cli.page import keep_printable, open_console
from workers.views.status import read_readiness, read_status
from workers.views.words import format_count, format_span

_WORDS = ("accepted", "delivered", "bounced", "queued", "unknown")
_MEASURES = {"slow": "slowed", "hold": "held"}
_LOOKED_AT = 200  # queues, for the oldest delivery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print the state; exit 1 when the ledger does not add up."""
    config = load(arguments.config)
    state = trio.run(_read, config) | read_readiness(config, dt.datetime.now(dt.UTC))
    if arguments.json:
        print(json.dumps(state))
    else:
        _show(state)
    return 0 if state["adds_up"] else 1


async def _read(config: Config) -> dict[str, Any]:
    async with open_store(config) as store:
        return await read_status(store, config)


def _show(state: dict[str, Any]) -> None:
    console = open_console()
    table = Table(box=None, pad_edge=False)
    table.add_column("recipients")
    for word in _WORDS:
        table.add_column(word, justify="right")
    for title, name in (("mail", "ledger"), ("our notices", "notices")):
        ledger = state[name]
        table.add_row(title, *(f"{ledger[word]:,}" for word in _WORDS))
    console.print(table)
    verdict = "adds up" if state["adds_up"] else "[bold red]does NOT add up[/]"
    console.print(f"\nledger: {verdict} (accepted = delivered + bounced + queued)")
    counts, held = state["deliveries"], state["store"]
    console.print(
        f"{format_count(counts['queues'], 'queue')}: {counts['ready']:,} ready, "
        f"{counts['due']:,} due later, {counts['claimed']:,} in workers' hands"
    )
    if counts["oldest"] is not None:
        console.print(f"the oldest has waited {format_span(counts['oldest'])}")
    _show_sources(console, state)
    limit = f" of {held['memory_limit'] >> 20:,}" if held["memory_limit"] else ""
    console.print(f"store: {held['memory'] >> 20:,}{limit} MiB used")
    for weakness in held["weaknesses"]:
        console.print(f"[red]store can lose acknowledged mail: {weakness}[/]")
    _show_readiness(console, state)


def _show_readiness(console: Console, state: dict[str, Any]) -> None:
    unready = state["ready"]["why"]
    for why in unready:
        console.print(f"[bold red]not ready:[/] {escape(why)}", soft_wrap=True)
    for one in state["certificates"]:
        text = escape(one["text"])
        if any(one["text"] in why for why in unready):
            continue  # said
        if one["days"] < AHEAD:
            text = f"[yellow]{text}: renew it[/]"
        console.print(text, soft_wrap=True)


def _show_sources(console: Console, state: dict[str, Any]) -> None:
    sources = state["sources"]
    gone = [name for name, alive in sources.items() if not alive]
    alive = len(sources) - len(gone)
    missing = f"; [red]not: {escape(', '.join(gone))}[/]" if gone else ""
    console.print(
        f"sources: {alive} of {len(sources)} alive{missing}, in "
        f"{format_count(state['workers'], 'worker process')}"
    )
    for one in state["suspensions"]:
        text = escape(keep_printable(one["text"]))
        console.print(f"[yellow]suspended:[/] {text}", soft_wrap=True)
    for name, one in state["tenants"].items():
        if one["state"]:
            text = escape(f"tenant {name}: {one['reason']}")
            console.print(f"[yellow]{_MEASURES[one['state']]}:[/] {text}", soft_wrap=True)
