"""``outgate archive purge``: what is older than the archive keeps it, and under no hold, goes."""

import argparse
import contextlib
import json
import time
from dataclasses import asdict, dataclass

import trio

from relay.archive import Copies
from relay.archive.purge import Batch, find_old
from relay.archive.vault import Vault
from relay.config import Config
from relay.config.units import parse_seconds
from relay.errors import ConfigError
from workers.cli import archivespan, decision
from workers.cli.archivenote import write_event
from workers.operations.decision import Decision
from workers.views.words import format_count, format_time


@dataclass
class _Done:
    """What a purge did; the same message in two copies is two objects."""

    before: float  # seconds since 1970
    objects: int = 0
    held: int = 0
    days: int = 0
    dry_run: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to remove."""
    parser.add_argument("--tenant", metavar="NAME", default="", help="of this tenant only")
    parser.add_argument(
        "--older-than",
        metavar="TIME",
        default="",
        help='"3650d": only what is older than this (default: archive.retention, the least)',
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace, config: Config, copies: Copies) -> int:
    """Remove. Raises ConfigError without a retention, or for less than it."""
    age = _read_age(arguments.older_than, config.archive.retention)
    tenant = archivespan.check_tenant(arguments.tenant)
    # Made also for a dry run: what cannot be written to the log could not be purged.
    decided = decision.decide(config, arguments)
    done = _Done(max(0.0, time.time() - age), dry_run=arguments.dry_run)
    trio.run(_purge, copies, tenant, decided, done)
    if arguments.json:
        print(json.dumps(asdict(done)))
    else:
        _show(done)
    return 0


def _read_age(text: str, retention: float) -> float:
    if retention <= 0:
        raise ConfigError(
            ["archive.retention is not set: messages are kept for ever, nothing is purged"]
        )
    if not text:
        return retention
    try:
        age = parse_seconds(text)
    except ValueError as error:
        raise ConfigError([f"--older-than {text}: {error}"]) from None
    if age < retention:
        raise ConfigError(
            [
                f"--older-than {text}: archive.retention keeps messages for {retention / 86400:g} days"
            ]
        )
    return age


async def _purge(copies: Copies, tenant: str, decided: Decision, done: _Done) -> None:
    for vault in copies.vaults:
        async with contextlib.aclosing(find_old(copies, vault, done.before, tenant)) as batches:
            async for batch in batches:
                if batch.going and not done.dry_run:
                    await _remove(vault, batch, decided)
                done.objects += len(batch.going)
                done.held += batch.held
                done.days += 1


async def _remove(vault: Vault, batch: Batch, decided: Decision) -> None:
    # The record first. If we die between the two, it says more than is true, and the next purge says
    # the rest again; the other way round messages would be gone without a word.
    await trio.to_thread.run_sync(
        lambda: write_event(
            decided,
            "archive-purged",
            tenant=batch.tenant,
            day=batch.day,
            count=len(batch.going),
            copy=vault.kind,
        )
    )
    await vault.remove(batch.names)


def _show(done: _Done) -> None:
    verb = "would be removed" if done.dry_run else "removed"
    print(f"{verb}: {format_count(done.objects, 'object')} from before {format_time(done.before)}")
    if done.held:
        print(f"  {done.held:,} stay: they are under a hold")
