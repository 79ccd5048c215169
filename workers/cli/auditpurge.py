"""``outgate audit purge``: whole sealed days that are older than ``audit.retention``."""

import argparse
import json
import time
from pathlib import Path

import msgspec
import trio

from relay.audit.purge import Old, carry_over, find_old
from relay.audit.purged import find_purged
from relay.config import Config
from relay.errors import ConfigError
from relay.store.audit import AuditHeads
from relay.store.link import Link
from workers.cli import decision
from workers.cli.asking import open_store
from workers.operations.decision import Decision
from workers.views.words import format_count


def run(config: Config, arguments: argparse.Namespace) -> int:
    """Take it away. Raises ConfigError, StartError, OSError."""
    if not config.audit.retention:
        raise ConfigError(["audit.retention: 0 keeps everything; set how long lines are kept"])
    decided = decision.decide(config, arguments)
    before = time.time() - config.audit.retention
    old = list(find_old(Path(config.audit.directory), before))
    try:
        if not arguments.dry_run:
            trio.run(_purge, config, old, decided)
        _show(old, arguments)
    finally:
        for one in old:
            one.release()
    return 0


async def _purge(config: Config, old: list[Old], decided: Decision) -> None:
    directory = Path(config.audit.directory)
    async with open_store(config) as store:
        records = [one.make_record() for one in old]
        for record in records + carry_over(directory, find_purged(directory), old):
            decided.write(decided.make_event("purged", purged=msgspec.to_builtins(record)))
        for one in old:
            await _forget(store.link, one)
            await trio.to_thread.run_sync(one.remove)
        await decided.publish(store.link)


async def _forget(link: Link, one: Old) -> None:
    await AuditHeads(link).forget(one.name, one.days, up_to=one.head.n, whole=one.held is not None)


def _show(old: list[Old], arguments: argparse.Namespace) -> None:
    dry: bool = arguments.dry_run
    if arguments.json:
        chains = [msgspec.to_builtins(one.make_record()) for one in old]
        print(json.dumps({"purged": chains, "dry_run": dry}))
        return
    for one in old:
        span = one.days[0] if one.days[1:] == [] else f"{one.days[0]} to {one.days[-1]}"
        what = format_count(len(one.days), "day")
        print(f"{'would go' if dry else 'gone'}: {one.name}, {what} ({span})")
    if not old:
        print("nothing is old enough, and sealed")
