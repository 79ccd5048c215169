"""``outgate suppressed``: recipients that are not tried any more, and letting one be tried again."""

import argparse
import json
import sys
import time

import trio
from rich.markup import escape
from rich.table import Table

from relay.config import Config, load
from relay.store.suppression import Suppressed, Suppression
from workers.cli import decision
from workers.cli.asking import open_store
from workers.cli.page import open_console
from workers.operations.decision import Decision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the address to lift, who and why."""
    parser.add_argument(
        "--lift", metavar="ADDRESS", help="let this recipient be tried again, and count anew"
    )
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the list, or lift; exit 1 when nothing was held against the address."""
    config = load(arguments.config)
    if arguments.lift is not None:
        return _lift(config, arguments)
    listed = trio.run(_read, config)
    if arguments.json:
        print(json.dumps([{"address": _show(one), "until": one.until} for one in listed]))
    else:
        _print(config, listed)
    return 0


async def _read(config: Config) -> list[Suppressed]:
    async with open_store(config) as store:
        return await Suppression(store.link, config).listing()


def _lift(config: Config, arguments: argparse.Namespace) -> int:
    address = arguments.lift.encode("utf-8", "surrogateescape")
    lifted = trio.run(_do_lift, config, address, decision.decide(config, arguments))
    if arguments.json:
        print(json.dumps({"address": arguments.lift, "lifted": lifted}))
    elif lifted:
        print(f"{arguments.lift} will be tried again")
    if not lifted:
        print(f"outgate: nothing was held against {arguments.lift}", file=sys.stderr)
    return 0 if lifted else 1


async def _do_lift(config: Config, address: bytes, decided: Decision) -> bool:
    async with open_store(config) as store:
        lifted = await Suppression(store.link, config).lift(address)
        if lifted:
            recipient = address.decode("utf-8", "replace")
            await decided.record(store.link, "lifted", recipient=recipient)
    return lifted


def _print(config: Config, listed: list[Suppressed]) -> None:
    console = open_console()
    if not listed:
        off = (
            " (it is off: delivery.suppress_after is 0)"
            if not config.delivery.suppress_after
            else ""
        )
        console.print(f"no recipient is suppressed{off}")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("not tried")
    table.add_column("until")
    for one in listed:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.until))
        table.add_row(escape(_show(one)), until)
    console.print(table)


def _show(one: Suppressed) -> str:
    return one.address.decode("utf-8", "replace")
