"""``outgate archive find``: messages of the archive, the newest first, a line each."""

import argparse
import contextlib
from collections.abc import AsyncGenerator

import msgspec
import trio

from relay.archive import Copies, Entry
from relay.archive.search import Progress, Query, search
from relay.archive.vault import Found, Vault
from relay.config import Config
from relay.errors import ConfigError
from workers.cli import archivespan
from workers.cli.page import warn
from workers.views.words import format_count, format_time

_LIMIT = 100
_PEOPLE = 3  # recipients on a line
_TELL = 5.0  # seconds between two words on how far a search is


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to look for."""
    archivespan.add_arguments(parser)
    star = 'a star stands for any characters: "*@acme.example"'
    parser.add_argument("--sender", metavar="ADDRESS", default="", help=f'"<>": null; {star}')
    parser.add_argument("--recipient", metavar="ADDRESS", default="", help="any of them; the same")
    parser.add_argument(
        "--message-id", metavar="TEXT", default="", help="the Message-ID of the header; the same"
    )
    parser.add_argument("--rule", metavar="NAME", default="", help="archived by this rule")
    parser.add_argument("--id", metavar="ID", default="", help="this message")
    parser.add_argument(
        "--limit",
        metavar="N",
        type=int,
        default=_LIMIT,
        help=f"stop after so many; 0: never (default: {_LIMIT})",
    )
    parser.add_argument(
        "--copy",
        choices=("directory", "s3"),
        help="look through this copy (default: the directory, if there is one)",
    )


def run(arguments: argparse.Namespace, config: Config, copies: Copies) -> int:
    """Print what matches, as it is found; with --json, a line of JSON each.

    Exit 1 when nothing does, or when something is damaged.
    """
    del config
    vault = choose_vault(copies, arguments.copy)
    query = _read_query(arguments)
    message_id = archivespan.read_id(arguments.id) if arguments.id else ""
    return trio.run(_find, vault, query, message_id, arguments)


def choose_vault(copies: Copies, kind: str | None) -> Vault:
    """Return the copy of a kind; the first for None. Raises ConfigError when there is none."""
    for vault in copies.vaults:
        if kind in (None, vault.kind):
            return vault
    raise ConfigError([f"--copy {kind}: the archive has no such copy"])


def _read_query(arguments: argparse.Namespace) -> Query:
    first, last = archivespan.read_days(arguments)
    if arguments.limit < 0:
        raise ConfigError([f"--limit {arguments.limit}: expected a number, or 0 for all"])
    return Query(
        tenant=archivespan.check_tenant(arguments.tenant),
        first=first,
        last=last,
        sender=arguments.sender,
        recipient=arguments.recipient,
        message_id=arguments.message_id,
        rule=arguments.rule,
    )


async def _find(vault: Vault, query: Query, message_id: str, arguments: argparse.Namespace) -> int:
    progress = Progress()
    found = _find_one(vault, query, message_id) if message_id else search(vault, query, progress)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell, progress)
        async with contextlib.aclosing(found):
            damaged = await _show_all(found, progress, arguments)
        nursery.cancel_scope.cancel()
    if not progress.found and not damaged:
        warn("nothing in the archive matches")
    return 0 if progress.found and not damaged else 1


async def _find_one(vault: Vault, query: Query, message_id: str) -> AsyncGenerator[Found, None]:
    """An id has its day in it: no search."""
    places = await vault.find_places(message_id, query.tenant)
    for one in await vault.read_entries([place for place in places if query.covers(place.day)]):
        if one.entry is None or query.matches(one.entry):
            yield one


async def _show_all(
    found: AsyncGenerator[Found, None], progress: Progress, arguments: argparse.Namespace
) -> int:
    """Print what is found, and count it in ``progress``; return how many were damaged."""
    damaged = 0
    async for one in found:
        if one.entry is None:
            damaged += 1
            warn(one.damage)
            continue
        progress.found += 1
        print(format_json(one) if arguments.json else _format_line(one.entry), flush=True)
        if progress.found == arguments.limit:
            warn(f"there may be more: --limit {arguments.limit} ends here")
            break
    return damaged


async def _tell(progress: Progress) -> None:
    """Say now and then how far a long search is."""
    while True:
        await trio.sleep(_TELL)
        looked = format_count(progress.looked, "message")
        warn(f"looked at {looked}, back to {progress.day}; {progress.found:,} found")


def format_json(found: Found) -> str:
    """Return an entry as a line of JSON, with whether its object is sealed."""
    entry = msgspec.to_builtins(found.entry)
    return msgspec.json.encode({**entry, "sealed": found.sealed}).decode()


def _format_line(entry: Entry) -> str:
    people = make_printable(", ".join(entry.recipients[:_PEOPLE]))
    more = len(entry.recipients) - _PEOPLE
    return (
        f"{format_time(entry.time)}  {entry.id}  {entry.tenant}  {entry.size:,}  "
        f"{make_printable(entry.sender) or '<>'} -> {people}"
        + (f" and {more:,} more" if more > 0 else "")
    )


def make_printable(text: str) -> str:
    """Return a stranger's text without what a terminal would obey."""
    return text if text.isprintable() else ascii(text)[1:-1]
