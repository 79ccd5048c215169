"""``outgate bounce``: end deliveries now; their senders are told, as of any failure."""

import argparse
import json

import trio

from relay.config import Config, load
from relay.errors import ConfigError
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.report import find_status, tell_rest
from workers.cli.terminal import Terminal
from workers.operations.bounce import TEXT, bounce
from workers.operations.decision import Decision
from workers.views.selection import Selection
from workers.views.words import format_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which, what senders are told, and why."""
    selection.add_arguments(parser)
    parser.add_argument(
        "--text", metavar="TEXT", default=TEXT, help=f'what senders read (default: "{TEXT}")'
    )
    parser.add_argument("--silent", action="store_true", help="senders are not told at all")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be ended")
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """End them; exit 1 when nothing matched."""
    config = load(arguments.config)
    chosen = selection.read(arguments)
    if not arguments.text.strip():
        raise ConfigError(["--text: say something, or --silent"])
    done = trio.run(_bounce, config, chosen, arguments, decision.decide(config, arguments))
    if arguments.json:
        print(json.dumps(done))
    elif done["deliveries"]:
        _show(done)
    tell_rest(chosen, done)
    return find_status(done, done["deliveries"])


async def _bounce(
    config: Config, chosen: Selection, arguments: argparse.Namespace, decided: Decision
) -> dict[str, object]:
    async with open_store(config) as store:
        return await bounce(
            store,
            config,
            chosen,
            decided,
            Terminal(),
            text=arguments.text,
            silent=arguments.silent,
            dry=arguments.dry_run,
        )


def _show(done: dict[str, object]) -> None:
    count, recipients = done["deliveries"], done["recipients"]
    assert isinstance(count, int)
    if done["dry_run"]:
        print(f"{format_count(count, 'delivery')} would be ended")
        return
    assert isinstance(recipients, int)
    print(f"ended: {format_count(count, 'delivery')} to {format_count(recipients, 'recipient')}")
    senders = "the sender is told" if count == 1 else "their senders are told"
    told = "nobody is told" if done["silent"] else senders
    print(f"  {told}; this cannot be undone")
