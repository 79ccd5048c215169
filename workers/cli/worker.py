"""``outgate worker``: one process that delivers, from all sources or from some."""

import argparse

import trio

from relay.config import load
from relay.errors import ConfigError
from relay.garbage import collect_rarely


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--source``."""
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME",
        help="serve this [[source]] only; may be given several times (default: all of them)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says otherwise. Raises ConfigError, StartError."""
    config = load(arguments.config)
    _check_names(arguments.source, [source.name for source in config.source])
    from workers.service import serve  # after the check: a wrong file is found at once

    collect_rarely()
    trio.run(serve, config, tuple(arguments.source))
    return 0


def _check_names(wanted: list[str], known: list[str]) -> None:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        there = f"there is {', '.join(known)}"
        raise ConfigError(
            [f"--source {name}: no [[source]] of that name; {there}" for name in unknown]
        )
