"""``outgate admin``: the dashboard, the HTTP interface and the metrics."""

import argparse
import os

import trio

from relay.config import load

_NICE = 5  # who looks must not take the processor from mail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says otherwise. Raises ConfigError, StartError."""
    config = load(arguments.config)
    from workers.admin.service import serve  # after the check: a wrong file is found at once

    os.nice(_NICE)
    trio.run(serve, config)
    return 0
