"""``outgate completion``: the script that has a shell complete our commands, options and files."""

import argparse
from collections.abc import Iterator

import shtab

from workers.cli.main import build_parser

# What an argument is called says what it is.
_FILES = frozenset(("FILE", "PATH", "OUT"))
_DIRECTORIES = frozenset(("DIR",))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="for which shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    parser = build_parser()
    for action in _list_actions(parser):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
        elif action.metavar in _DIRECTORIES:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _list_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser, and of the commands below it."""
    for action in parser._actions:  # nothing public tells them
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _list_actions(inner)
