"""``outgate archive hold``: messages are not purged until the hold is released."""

import argparse
import json
import time

import trio

from relay.archive import Copies
from relay.archive.hold import Hold, make_name, place_hold
from relay.config import Config
from relay.errors import ConfigError
from workers.cli import archivespan, decision
from workers.cli.archivenote import note
from workers.cli.page import warn
from workers.operations.decision import Decision
from workers.views.words import format_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to hold, and why."""
    archivespan.add_arguments(parser)
    parser.add_argument(
        "--id",
        metavar="ID",
        action="append",
        default=[],
        help="this message; may be given several times",
    )
    parser.add_argument("--all", action="store_true", help="the whole archive")
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace, config: Config, copies: Copies) -> int:
    """Place a hold. Raises ConfigError when it says nothing, or not why."""
    first, last = archivespan.read_days(arguments)
    ids = tuple(archivespan.read_id(text) for text in arguments.id)
    tenant = archivespan.check_tenant(arguments.tenant)
    if not any((tenant, ids, first, last, arguments.all)):
        raise ConfigError(["archive hold: say which: --tenant, --id, --from, --to, or --all"])
    check_reason("hold", arguments)
    decided = decision.decide(config, arguments)
    hold = Hold(
        name=make_name(),
        tenant=tenant,
        ids=ids,
        first=first,
        last=last,
        since=time.time(),
        who=decided.who,
        why=decided.why,
    )
    missing = trio.run(_hold, config, copies, hold, decided)
    if arguments.json:
        print(json.dumps({**make_facts(hold), "missing": missing}))
    else:
        print(f"held: {describe(hold)}\n  undo: outgate archive release {hold.name} --why ...")
    for message_id in missing:
        warn(f"{message_id} is not in the archive; it is held if it comes")
    return 0


async def _hold(config: Config, copies: Copies, hold: Hold, decided: Decision) -> list[str]:
    """Place it; return which ids are in no copy: a hold with a slip of the pen holds nothing."""
    await place_hold(copies, hold)
    await note(config, decided, "archive-held", **hold.describe())
    missing = []
    for message_id in hold.ids:
        found = False
        for vault in copies.vaults:
            places = await vault.find_places(message_id, hold.tenant)
            found = found or bool(await vault.read_entries(places))
        if not found:
            missing.append(message_id)
    return missing


def check_reason(command: str, arguments: argparse.Namespace) -> None:
    """Raise ConfigError without ``--why``: somebody will ask, years from now."""
    if not arguments.why.strip():
        raise ConfigError([f"archive {command}: --why is missing: it is kept with the hold"])


def make_facts(hold: Hold) -> dict[str, object]:
    """Return a hold for programs."""
    return {**hold.describe(), "since": hold.since, "who": hold.who, "why": hold.why}


def describe(hold: Hold) -> str:
    """Return what is held, for people."""
    parts = [f"tenant {hold.tenant}"] if hold.tenant else []
    if len(hold.ids) > 1:
        parts.append(format_count(len(hold.ids), "message"))
    elif hold.ids:
        parts.append(f"message {hold.ids[0]}")
    parts += [f"from {hold.first}"] if hold.first else []
    parts += [f"to {hold.last}"] if hold.last else []
    return ", ".join(parts) or "the whole archive"
