"""``outgate audit``: verify the trail, hand out a tenant's part of it, seal it, take away what is old."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import trio

from relay.audit.chain import find_day, find_end, list_chains, try_hold
from relay.audit.export import Span, export
from relay.audit.findings import Known, Report
from relay.audit.line import MAX_LINE
from relay.audit.proof import Proof, check_export
from relay.audit.seal import load_keys
from relay.audit.trail import continue_chain
from relay.audit.verify import verify
from relay.config import Config, load
from relay.errors import ConfigError, StartError
from relay.store.audit import AuditHeads
from workers.cli import auditpurge, decision
from workers.cli.asking import open_store
from workers.cli.page import warn
from workers.operations.decision import Decision
from workers.views.words import format_count

_SILENCE = 5.0  # seconds between two words about how far it is
_ROW = MAX_LINE + 4096  # octets of a row of an export
_DAY = 86_400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the four things that can be done."""
    # Also behind the word: `outgate audit verify -c FILE`.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("-c", "--config", metavar="FILE", help=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    checked = actions.add_parser(
        "verify", parents=[common], help="say what was changed or is missing; exit 1 if anything"
    )
    checked.add_argument(
        "directory", nargs="?", metavar="DIR", default="", help="default: audit.directory"
    )
    checked.add_argument(
        "--no-store",
        action="store_true",
        help="of a copy, or where no store runs: ends that were cut off are not found",
    )
    checked.add_argument(
        "--export", metavar="FILE", default="", help="check an export instead of the trail"
    )
    taken = actions.add_parser("export", parents=[common], help="a tenant's lines, as rows of JSON")
    taken.add_argument("--tenant", metavar="NAME", required=True, help="whose")
    taken.add_argument("--from", dest="start", metavar="DATE", required=True, help="first day, UTC")
    taken.add_argument("--to", dest="end", metavar="DATE", required=True, help="last day, UTC")
    taken.add_argument(
        "--output", metavar="FILE", default="", help="a new file (default: standard output)"
    )
    sealed = actions.add_parser(
        "seal", parents=[common], help="seal days of processes that did not come back"
    )
    purged = actions.add_parser(
        "purge", parents=[common], help="take away sealed days older than audit.retention"
    )
    purged.add_argument("--dry-run", action="store_true", help="only say what would go")
    for one in (sealed, purged, taken):
        decision.add_arguments(one)


def run(arguments: argparse.Namespace) -> int:
    """Do it; exit 1 when `verify` has found something. Raises ConfigError, StartError."""
    config = load(arguments.config)
    if arguments.action == "verify" and arguments.export:
        return _check_export(config, arguments)
    if not config.audit.directory and not getattr(arguments, "directory", ""):
        raise ConfigError(["audit.directory: missing; there is no audit trail without it"])
    try:
        if arguments.action == "verify":
            return _verify(config, arguments)
        if arguments.action == "export":
            return _export(config, arguments)
        if arguments.action == "seal":
            return _seal(config, arguments)
        return auditpurge.run(config, arguments)
    except OSError as error:
        raise StartError(f"{error.filename or config.audit.directory}: {error.strerror}") from error


# -- verify


def _verify(config: Config, arguments: argparse.Namespace) -> int:
    directory = Path(arguments.directory or config.audit.directory)
    keys = load_keys(config.audit.key_file)
    known = None if arguments.no_store else trio.run(_ask_store, config)
    report = verify(directory, keys=keys, known=known, tell=_Progress())
    if arguments.json:
        found = {"sound": report.is_sound, "store": known is not None, "signed": bool(keys)}
        print(json.dumps(found | msgspec.to_builtins(report)))
    else:
        _show(report, asked=known is not None)
    return 0 if report.is_sound else 1


async def _ask_store(config: Config) -> Known:
    try:
        async with open_store(config) as store:
            heads = AuditHeads(store.link)
            # Seals after heads: both may grow meanwhile, and the files are read after both.
            chains = await heads.read_all()
            seals = {chain: await heads.read_seals(chain) for chain in chains}
            return Known(chains, seals, await heads.read_lost())
    except StartError as error:
        raise StartError(
            f"{error}; --no-store verifies without it, and does not find ends that were cut off"
        ) from error


class _Progress:
    """Says on standard error how far it is, when it takes long."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, lines: int) -> None:
        """So many lines are done."""
        now = time.monotonic()
        if now - self._said >= _SILENCE:
            self._said = now
            warn(f"{format_count(lines, 'line')} so far")


def _show(report: Report, *, asked: bool) -> None:
    for one in report.findings:
        place = f"{one.file or one.chain}{f', line {one.line}' if one.line else ''}"
        print(f"{place}: {one.text}")
    if report.more:
        print(f"... and {report.more:,} more")
    for note in report.notes:
        print(f"note: {note}")
    counts = ((report.lines, "line"), (report.days, "day"), (report.chains, "chain"))
    what = ", ".join(format_count(number, word) for number, word in counts)
    if report.is_sound:
        print(f"sound: {what}")
    else:
        print(
            f"NOT sound: {format_count(len(report.findings) + report.more, 'finding')}; read: {what}"
        )
    if not asked:
        print("the store was not asked: an end that was cut off would not be found")


def _check_export(config: Config, arguments: argparse.Namespace) -> int:
    keys = load_keys(config.audit.key_file)
    seals = None if arguments.no_store else trio.run(_ask_store, config).seals
    try:
        with open(arguments.export, "rb") as stream:
            proof = check_export(_read_rows(stream), keys, seals)
    except OSError as error:
        raise StartError(f"{arguments.export}: {error.strerror}") from error
    if arguments.json:
        print(json.dumps(msgspec.to_builtins(proof)))
    else:
        _show_proof(proof, vouched=bool(keys) or seals is not None)
    return 1 if proof.faults else 0


def _read_rows(stream: BinaryIO) -> Iterator[bytes]:
    while row := stream.readline(_ROW):
        yield row


def _show_proof(proof: Proof, *, vouched: bool) -> None:
    for fault in proof.faults:
        print(fault)
    for day in proof.unsealed:
        print(f"note: {day} is not sealed: nothing vouches for its lines yet")
    verdict = "NOT sound" if proof.faults else "sound"
    print(
        f"{verdict}: {format_count(proof.lines, 'line')} under {format_count(proof.seals, 'seal')}"
    )
    if not vouched:
        print("neither key nor store was asked whether the seals are ours")


# -- export


def _export(config: Config, arguments: argparse.Namespace) -> int:
    for name, day in (("--from", arguments.start), ("--to", arguments.end)):
        try:
            find_end(day)
        except ValueError:
            raise ConfigError([f"{name} {day}: expected a date such as 2026-01-31"]) from None
    # What was accepted before the first day may still be on its way in it, and so may its notices.
    span = Span(arguments.start, arguments.end, 2 * (config.delivery.expire + _DAY))
    decision.decide(config, arguments)  # who has looked is part of the trail
    rows = export(Path(config.audit.directory), arguments.tenant, span)
    if not arguments.output:
        _write(rows, sys.stdout.buffer)
    else:
        with open(arguments.output, "xb") as stream:
            _write(rows, stream)
    return 0


def _write(rows: Iterator[bytes], stream: BinaryIO) -> None:
    stream.writelines(row + b"\n" for row in rows)
    stream.flush()


# -- seal


def _seal(config: Config, arguments: argparse.Namespace) -> int:
    sealed = trio.run(_seal_all, config, decision.decide(config, arguments))
    if arguments.json:
        print(json.dumps({"sealed": sealed}))
    else:
        for chain, day in sealed:
            print(f"sealed: {chain}, {day}")
        if not sealed:
            print("nothing is to be sealed: what is not belongs to processes that are alive")
    return 0


async def _seal_all(config: Config, decided: Decision) -> list[tuple[str, str]]:
    """Go on with each chain that nobody holds; to go on with one is to seal what is over."""
    keys = load_keys(config.audit.key_file)
    sealed = []
    async with open_store(config) as store:
        for path in list_chains(Path(config.audit.directory)):
            held = try_hold(path)
            if held is None:
                continue
            trail = continue_chain(held, keys, store.link)
            if (day := trail.open_day) and day < find_day(time.time()):
                sealed.append((trail.name, day))
            trail.flush()
            await trio.to_thread.run_sync(trail.sync)
            trouble = trail.trouble
            await trail.beacon.tell(store.link)
            trail.close()
            if trouble:
                raise StartError(trouble)
        await decided.publish(store.link)
    return sealed
