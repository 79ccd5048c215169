"""``outgate archive holds``: the holds of the archive."""

import argparse
import json

import trio

from relay.archive import Copies
from relay.archive.hold import read_holds
from relay.config import Config
from workers.cli.archivehold import describe, make_facts
from workers.cli.page import add_row, make_table, open_console
from workers.views.words import format_time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace, config: Config, copies: Copies) -> int:
    """Print the list."""
    del config
    holds = trio.run(read_holds, copies)
    if arguments.json:
        print(json.dumps([make_facts(hold) for hold in holds]))
        return 0
    console = open_console()
    if not holds:
        console.print("nothing is held")
        return 0
    table = make_table("hold", "since", "who", "what", last="why")
    for hold in holds:
        add_row(table, hold.name, format_time(hold.since), hold.who, describe(hold), hold.why)
    console.print(table)
    return 0
