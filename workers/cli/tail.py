"""``outgate tail``: events as they happen, a line each."""

import argparse
import sys
import time
from typing import Any

import trio
from rich.console import Console
from rich.text import Text

from relay.config import load
from relay.events import encode_event
from relay.store.embedded import find_url
from workers.admin.hearing import Batch, Hearing
from workers.cli import selection
from workers.cli.page import keep_printable, open_console
from workers.views.brief import brief
from workers.views.sieve import Sieve

_STYLES = {
    "accepted": "cyan",
    "delivered": "green",
    **dict.fromkeys(("deferred", "postponed", "limited", "slowed", "resting", "put-off"), "yellow"),
    **dict.fromkeys(("bounced", "refused", "unknown", "lost", "quarantined"), "red"),
    **dict.fromkeys(("all-quarantined", "tenant-held", "certificate-expired"), "bold red"),
    **dict.fromkeys(("missed", "dropped"), "bold yellow"),
}
_OPERATORS = "magenta"  # what somebody has decided


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add filters."""
    selection.add_places(parser, "from this [[source]]")
    parser.add_argument(
        "--id",
        metavar="ID",
        action="append",
        default=[],
        help="of this message, or one delivery of it (ID.NUMBER); may be given several times",
    )
    parser.add_argument(
        "--event",
        metavar="NAME",
        action="append",
        default=[],
        help="of this name (accepted, deferred, bounced ...); may be given several times",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print until Ctrl-C. Raises ConfigError, StartError."""
    sieve = Sieve(selection.read(arguments, required=False), frozenset(arguments.event))
    url = find_url(load(arguments.config))
    trio.run(_listen, Hearing(url), sieve, arguments.json)
    return 0


async def _listen(hearing: Hearing, sieve: Sieve, as_json: bool) -> None:
    """Until cancelled: when the store goes away, the hearing says so, and comes back with it."""
    console = open_console()
    async with trio.open_nursery() as nursery, hearing.open() as batches:
        nursery.start_soon(hearing.run)
        first = True
        async for batch in batches:
            wanted = [event for event in batch if sieve.passes(event)]
            if first:
                # That nothing was heard before is no news.
                first, wanted = False, []
                print("outgate: listening", file=sys.stderr)
            if wanted:
                _print_json(wanted) if as_json else _print(console, wanted)


def _print_json(batch: Batch) -> None:
    sys.stdout.buffer.write(b"".join(encode_event(event) + b"\n" for event in batch))
    sys.stdout.buffer.flush()


def _print(console: Console, batch: Batch) -> None:
    lines = [_make_line(event) for event in batch]
    console.print(Text("\n").join(lines), soft_wrap=True)


def _make_line(event: dict[str, Any]) -> Text:
    """Return "12:00:03  deferred  acme  01K9...  <bob@example.com> ..."."""
    name = str(event.get("event", "?"))
    style = _STYLES.get(name, _OPERATORS if "who" in event else "bold")
    line = Text(time.strftime("%H:%M:%S", time.localtime(_read_time(event))), "dim")
    line.append(f"  {keep_printable(name):<10}", style)
    about = " ".join(str(event[key]) for key in ("tenant", "id") if event.get(key))
    if about:
        line.append(f"  {keep_printable(about)}", "dim")
    return line.append(f"  {keep_printable(brief(event))}", "none")


def _read_time(event: dict[str, Any]) -> float:
    moment = event.get("time")
    return float(moment) if isinstance(moment, int | float) else time.time()
