"""``outgate hold``: deliveries wait until they are retried, bounced, or their time is over."""

import argparse
import json

import trio

from relay.config import Config, load
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.report import find_status, tell_rest
from workers.cli.terminal import Terminal
from workers.operations.decision import Decision
from workers.operations.hold import hold
from workers.views.selection import Selection
from workers.views.words import format_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which, and why."""
    selection.add_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be held")
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Hold; exit 1 when nothing matched."""
    config = load(arguments.config)
    chosen = selection.read(arguments)
    done = trio.run(_hold, config, chosen, arguments.dry_run, decision.decide(config, arguments))
    if arguments.json:
        print(json.dumps(done))
    elif done["deliveries"] or done["held_before"]:
        _show(done)
    tell_rest(chosen, done)
    return find_status(done, done["deliveries"], done["held_before"])


async def _hold(
    config: Config, chosen: Selection, dry: bool, decided: Decision
) -> dict[str, object]:
    async with open_store(config) as store:
        return await hold(store, config, chosen, decided, Terminal(), dry=dry)


def _show(done: dict[str, object]) -> None:
    count, recipients = done["deliveries"], done["recipients"]
    assert isinstance(count, int)
    if done["dry_run"]:
        print(f"{format_count(count, 'delivery')} would be held")
        return
    assert isinstance(recipients, int)
    print(f"held: {format_count(count, 'delivery')} to {format_count(recipients, 'recipient')}")
    if done["held_before"]:
        print(f"  {done['held_before']:,} had been held already")
    print("  until retried, or until their time is over (delivery.expire); then they bounce")
    print(f"  undo: {done['undo']}")
