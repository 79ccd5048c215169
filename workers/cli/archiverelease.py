"""``outgate archive release``: a hold ends; what is old can be purged again."""

import argparse
import json

import trio

from relay.archive import Copies
from relay.archive.hold import Hold, is_name, read_hold, release_hold
from relay.config import Config
from relay.errors import ConfigError
from workers.cli import decision
from workers.cli.archivehold import check_reason, describe, make_facts
from workers.cli.archivenote import note
from workers.cli.page import warn
from workers.operations.decision import Decision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which, and why."""
    parser.add_argument("hold", metavar="HOLD", help="as `outgate archive holds` names it")
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace, config: Config, copies: Copies) -> int:
    """Release; exit 1 when there is no such hold. Raises ConfigError without a reason."""
    if not is_name(arguments.hold):
        raise ConfigError([f"archive release: {arguments.hold!r} is not the name of a hold"])
    check_reason("release", arguments)
    hold = trio.run(_release, config, copies, arguments.hold, decision.decide(config, arguments))
    if hold is None:
        warn(f"there is no hold {arguments.hold}: `outgate archive holds` lists them")
        return 1
    if arguments.json:
        print(json.dumps({"released": make_facts(hold)}))
    else:
        print(f"released: {describe(hold)}, held by {hold.who}: {hold.why}")
    return 0


async def _release(config: Config, copies: Copies, name: str, decided: Decision) -> Hold | None:
    hold = await read_hold(copies, name)
    if hold is not None:
        # The record first: nothing may go without one.
        await note(config, decided, "archive-released", **hold.describe())
        await release_hold(copies, name)
    return hold
