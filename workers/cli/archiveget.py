"""``outgate archive get``: one message of the archive, or its envelope."""

import argparse
import os
import sys

import trio

from relay.archive import Copies, Entry
from relay.archive.vault import Found
from relay.config import Config
from relay.errors import ArchiveDamaged, ArchiveUnavailable, StartError
from workers.cli import archivespan
from workers.cli.archivefind import format_json, make_printable
from workers.cli.page import warn
from workers.views.words import format_time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which, what of it, and where to."""
    parser.add_argument("id", metavar="ID", help="the message")
    parser.add_argument("--tenant", metavar="NAME", default="", help="whose it is, if you know")
    parser.add_argument(
        "--envelope", action="store_true", help="print envelope and facts, not the message"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write to this new file, not to standard output"
    )


def run(arguments: argparse.Namespace, config: Config, copies: Copies) -> int:
    """Print a message whose digest is right; exit 1 when there is none."""
    message_id = archivespan.read_id(arguments.id)
    tenant = archivespan.check_tenant(arguments.tenant)
    got = trio.run(_get, copies, message_id, tenant)
    if got is None:
        warn(f"{message_id} is not in the archive")
        return 1
    found, message = got
    if config.archive.key_file and not found.sealed:
        warn("it is not sealed: it is from before archive.key_file, or was put there by others")
    if arguments.envelope or arguments.json:
        assert found.entry is not None
        text = format_json(found) if arguments.json else _format(found.entry, sealed=found.sealed)
        message = f"{text}\n".encode()
    _write(message, arguments.output)
    return 0


async def _get(copies: Copies, message_id: str, tenant: str) -> tuple[Found, bytes] | None:
    """Return it from the first copy that has it whole; the others' troubles are told.

    Raises ArchiveDamaged or ArchiveUnavailable when a copy has trouble and no other has it.
    """
    trouble: ArchiveDamaged | ArchiveUnavailable | None = None
    for vault in copies.vaults:
        try:
            for place in await vault.find_places(message_id, tenant):
                if (got := await vault.read_message(place)) is not None:
                    if trouble is not None:
                        warn(str(trouble))
                        warn(f"this is the copy of {vault.title}")
                    return got
        except (ArchiveDamaged, ArchiveUnavailable) as error:
            trouble = trouble or error
    if trouble is not None:
        raise trouble
    return None


def _format(entry: Entry, *, sealed: bool) -> str:
    facts = [
        ("id", entry.id),
        ("tenant", entry.tenant),
        ("accepted", format_time(entry.time)),
        ("client", f"{entry.client} ({entry.hello}){f', {entry.tls}' if entry.tls else ''}"),
        ("sender", entry.sender or "<>"),
        *(("recipient", one) for one in entry.recipients),
        ("message-id", entry.message_id),
        ("size", f"{entry.size:,}"),
        ("digest", entry.digest),
        ("rule", entry.rule),
        ("sealed", "yes" if sealed else "no"),
    ]
    return "\n".join(f"{name:<11}{make_printable(value)}" for name, value in facts if value)


def _write(octets: bytes, path: str | None) -> None:
    if path is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(octets)
        sys.stdout.buffer.flush()
        return
    try:
        # Mail is private, and what is there already is somebody's.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(octets)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}") from error
