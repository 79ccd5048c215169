"""``outgate archive``: find and get what was kept, hold it for legal reasons, purge what is old."""

import argparse
from types import ModuleType

from relay.archive import open_copies
from relay.config import load
from relay.errors import ConfigError
from workers.cli import (
    archivefind,
    archiveget,
    archivehold,
    archiveholds,
    archivepurge,
    archiverelease,
)

_PARTS: dict[str, tuple[ModuleType, str, tuple[str, ...]]] = {
    "find": (
        archivefind,
        "list messages, the newest first",
        (
            "outgate archive find --tenant acme --recipient 'bob@example.com' --from 2026-07-01",
            "outgate archive find --sender '*@acme.example' --limit 0 --json",
        ),
    ),
    "get": (
        archiveget,
        "print a message as it was stored, octet by octet, or its envelope",
        (
            "outgate archive get 01K9VZ8G5TQ4X7M2N3P6R8S900 --output message.eml",
            "outgate archive get 01K9VZ8G5TQ4X7M2N3P6R8S900 --envelope",
        ),
    ),
    "hold": (
        archivehold,
        "keep messages from being purged, until the hold is released",
        (
            "outgate archive hold --tenant acme --from 2026-01-01 --to 2026-06-30 --why 'case 4711'",
            "outgate archive hold --id 01K9VZ8G5TQ4X7M2N3P6R8S900 --why 'case 4711'",
        ),
    ),
    "holds": (archiveholds, "list the holds", ("outgate archive holds",)),
    "release": (
        archiverelease,
        "end a hold",
        ("outgate archive release 2026-07-31-3f9a1c --why 'case 4711 is closed'",),
    ),
    "purge": (
        archivepurge,
        "remove what is older than archive.retention, and under no hold",
        ("outgate archive purge --dry-run", "outgate archive purge --older-than 3650d"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands below this one; -c and --json may stand before them, or behind."""
    parts = parser.add_subparsers(dest="part", metavar="WHAT", required=True)
    for name, (module, summary, examples) in _PARTS.items():
        part = parts.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog="\n".join(["example:", *(f"  {line}" for line in examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        hidden = argparse.SUPPRESS  # what is not given here must not undo what was given before
        part.add_argument(
            "-c", "--config", metavar="FILE", default=hidden, help="the configuration"
        )
        part.add_argument(
            "--json", action="store_true", default=hidden, help="print JSON, for programs"
        )
        module.add_arguments(part)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked. Raises ConfigError when no archive is configured."""
    config = load(arguments.config)
    copies = open_copies(config)
    if copies is None:
        raise ConfigError(
            ["archive: none is configured: set archive.directory or archive.s3.bucket"]
        )
    module = _PARTS[arguments.part][0]
    status: int = module.run(arguments, config, copies)
    return status
