"""``outgate suspend``: a source, site, source at a site, tenant or domain sends nothing for a while."""

import argparse
import json
import time

import trio

from relay.config import Config, load
from relay.config.units import parse_seconds
from relay.errors import ConfigError
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.page import warn
from workers.operations.decision import Decision
from workers.operations.suspend import check, suspend
from workers.views.selection import Selection
from workers.views.words import format_count, format_span, format_time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what, for how long, and why."""
    selection.add_places(parser, source="from this [[source]]")
    selection.add_everything(parser, "all mail: nothing leaves")
    parser.add_argument(
        "--for",
        dest="span",
        metavar="TIME",
        default="",
        help='"30m", "4h", "2d" (default: until it is resumed)',
    )
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Suspend. Raises ConfigError for what cannot be suspended."""
    config = load(arguments.config)
    chosen = selection.read(arguments)
    try:
        check(config, chosen)
    except ValueError as error:
        raise ConfigError([f"suspend: {error}"]) from None
    span = _read_span(arguments.span)
    done = trio.run(_suspend, config, chosen, span, decision.decide(config, arguments))
    if arguments.json:
        print(json.dumps(done))
    else:
        _show(done)
    return 0


def _read_span(text: str) -> float | None:
    if not text:
        return None
    try:
        span = parse_seconds(text)
    except ValueError as error:
        raise ConfigError([f"--for {text}: {error}"]) from None
    if span <= 0:
        raise ConfigError([f"--for {text}: must be more than nothing"])
    return span


async def _suspend(
    config: Config, chosen: Selection, span: float | None, decided: Decision
) -> dict[str, object]:
    async with open_store(config) as store:
        return await suspend(store, config, chosen, span, decided)


def _show(done: dict[str, object]) -> None:
    until = done["until"]
    ends = "until it is resumed"
    if isinstance(until, float):
        ends = f"until {format_time(until)}, {format_span(until - time.time())} from now"
    print(f"suspended: {done['suspended']}, {ends}")
    waiting, left = done["waiting"], done["left"]
    assert isinstance(waiting, dict)
    assert isinstance(left, dict)
    if waiting["queues"]:
        what = format_count(waiting["deliveries"], "delivery")
        print(f"  {what} in {format_count(waiting['queues'], 'queue')} wait")
    for pool, names in left.items():
        if names:
            print(
                f"  pool {pool}: {', '.join(names)} go on"
                if names[1:]
                else f"  pool {pool}: {names[0]} goes on"
            )
        else:
            warn(f"pool {pool} has no other source: nothing of it leaves")
    print(f"  what a worker has begun is finished; undo: {done['undo']}")
