"""``outgate resume``: end a suspension before its time."""

import argparse
import json

import trio

from relay.config import Config, load
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.page import warn
from workers.operations.decision import Decision
from workers.operations.resume import resume
from workers.views.selection import Selection


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
    done = trio.run(_resume, config, chosen, arguments.all, decision.decide(config, arguments))
    ended, others = done["resumed"], done["still_suspended"]
    if arguments.json:
        print(json.dumps(done))
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
) -> dict[str, list[str]]:
    async with open_store(config) as store:
        return await resume(store, config, chosen, everything, decided)
