"""``outgate status``: does the ledger add up, and what is in the store?"""

import argparse
import json

import trio
from rich.console import Console
from rich.table import Table

from relay.config import Config, load
from relay.store.durability import find_weaknesses
from workers.cli.asking import open_store

_WORDS = ("accepted", "delivered", "bounced", "queued", "unknown")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print the state; exit 1 when the ledger does not add up."""
    state = trio.run(_read, load(arguments.config))
    if arguments.json:
        print(json.dumps(state))
    else:
        _show(state)
    return 0 if state["adds_up"] else 1


async def _read(config: Config) -> dict[str, object]:
    async with open_store(config) as store:
        ledgers = await store.read_ledger()
        used, limit = await store.read_memory()
        return {
            **ledgers,
            "adds_up": all(_adds_up(ledger) for ledger in ledgers.values()),
            "deliveries": await store.read_counts(),
            "store": {
                "memory": used,
                "memory_limit": limit,
                "weaknesses": await find_weaknesses(store.link),
            },
        }


def _adds_up(ledger: dict[str, int]) -> bool:
    return ledger["accepted"] == ledger["delivered"] + ledger["bounced"] + ledger["queued"]


def _show(state: dict[str, object]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("recipients")
    for word in _WORDS:
        table.add_column(word, justify="right")
    for title, name in (("mail", "ledger"), ("our notices", "notices")):
        ledger = state[name]
        assert isinstance(ledger, dict)
        table.add_row(title, *(f"{ledger[word]:,}" for word in _WORDS))
    console.print(table)
    verdict = "adds up" if state["adds_up"] else "[bold red]does NOT add up[/]"
    console.print(f"\nledger: {verdict} (accepted = delivered + bounced + queued)")
    counts, held = state["deliveries"], state["store"]
    assert isinstance(counts, dict)
    assert isinstance(held, dict)
    console.print(
        f"queues waiting: {counts['queues']:,}   in workers' hands: {counts['claimed']:,}"
    )
    limit = f" of {held['memory_limit'] >> 20:,}" if held["memory_limit"] else ""
    console.print(f"store: {held['memory'] >> 20:,}{limit} MiB used")
    for weakness in held["weaknesses"]:
        console.print(f"[red]store can lose acknowledged mail: {weakness}[/]")
