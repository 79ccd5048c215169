"""``outgate admin``: the dashboard, the HTTP interface and the metrics."""

import argparse
import os
import sys

import trio

from relay.config import load
from relay.garbage import collect_rarely

_NICE = 1  # who looks must not take the processor from mail
# Seconds until a thread that runs Python hands on the interpreter. The index is written in one, a
# tenth of the time at full speed; with the default, 5 ms, an answer waits so long at each of a dozen
# system calls.
_SWITCH = 0.0005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says otherwise. Raises ConfigError, StartError."""
    config = load(arguments.config)
    from workers.admin.service import serve  # after the check: a wrong file is found at once

    os.nice(_NICE)
    sys.setswitchinterval(_SWITCH)
    collect_rarely()
    trio.run(serve, config)
    return 0
