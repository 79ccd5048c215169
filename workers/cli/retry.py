"""``outgate retry``: what waits for its next attempt, or is held, is tried now."""

import argparse
import json
from typing import Any

import trio

from relay.config import Config, load
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.page import warn
from workers.cli.report import find_status, tell_rest
from workers.cli.terminal import Terminal
from workers.operations.decision import Decision
from workers.operations.retry import retry
from workers.views.selection import Selection
from workers.views.words import format_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which, and why."""
    selection.add_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be tried")
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Let it go now; exit 1 when nothing matched."""
    config = load(arguments.config)
    chosen = selection.read(arguments)
    decided = decision.decide(config, arguments)
    done = trio.run(_retry, config, chosen, arguments.dry_run, decided)
    if arguments.json:
        print(json.dumps(done))
    else:
        _show(done)
    for name in done["suspended"]:
        warn(f"some of it waits all the same: {name} is suspended (`outgate resume`)")
    tell_rest(chosen, done)
    return find_status(done, done["deliveries"], done["ready"], done["rests"])


async def _retry(config: Config, chosen: Selection, dry: bool, decided: Decision) -> dict[str, Any]:
    async with open_store(config) as store:
        return await retry(store, config, chosen, decided, Terminal(), dry=dry)


def _show(done: dict[str, Any]) -> None:
    deliveries, ready, rests = done["deliveries"], done["ready"], done["rests"]
    now = "would be ready" if done["dry_run"] else "ready"
    if deliveries or ready or rests:
        print(f"{now} for an attempt: {format_count(deliveries, 'delivery')}")
    if ready:
        print(f"  {ready:,} had been ready already")
    for rest in rests:
        print(f"  source {rest['source']} does not rest any more at site {rest['site']}")
    if deliveries and not done["dry_run"]:
        print("  undo: an attempt cannot be taken back; `outgate hold` stops what has not begun")
