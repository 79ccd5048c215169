"""``outgate ingress``: one process that accepts mail."""

import argparse

import trio

from relay.config import load
from relay.garbage import collect_rarely


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says otherwise. Raises ConfigError, StartError."""
    config = load(arguments.config)
    from relay.ingress.service import serve  # after the check: a wrong file is found at once

    collect_rarely()
    trio.run(serve, config)
    return 0
