"""``outgate doctor``: looks at what is around the gateway, and says what is wrong and what to do.

It changes nothing and sends nothing, and works with whatever is there: a store that is down is one of
the things that it finds.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import trio
from rich.console import Console
from rich.text import Text

from relay.config import Config, load
from relay.config.schema import Source
from relay.errors import ConfigError
from workers.cli.page import keep_printable, make_table, open_console
from workers.doctor.examination import NAMES, PARTS, examine, expand
from workers.doctor.finding import Finding, Level, find_worst, is_bad
from workers.views.words import format_count

_STYLES: dict[Level, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "skipped": ("-", "dim"),
    "notice": ("notice", "cyan"),
    "warning": ("warning", "yellow"),
    "error": ("ERROR", "bold red"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to look at."""
    parts = "; ".join(
        part if checks == (part,) else f"{part} ({', '.join(checks)})"
        for part, checks in PARTS.items()
    )
    parser.add_argument(
        "--only",
        metavar="CHECK,...",
        type=_read_checks,
        default=[],
        help=f"these parts or checks, and no others: {parts}",
    )
    parser.add_argument(
        "--source",
        metavar="NAME",
        action="append",
        default=[],
        help="of the sources only this one; may be given several times",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; exit 1 when there is a warning or an error."""
    config = load(arguments.config)
    sources = _choose(config, arguments.source)
    console = open_console()
    with _open_display() as tell:
        found = trio.run(
            partial(examine, config, checks=expand(arguments.only), sources=sources, tell=tell)
        )
    worst = find_worst(found)
    if arguments.json:
        print(json.dumps(_describe(found, worst)))
    else:
        _show(console, found)
    return 1 if is_bad(worst) else 0


def _read_checks(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"no check {name!r}; there is {', '.join(NAMES)}")
    return names


def _choose(config: Config, names: Sequence[str]) -> list[Source]:
    """Return the sources of these names, all without names. Raises ConfigError."""
    known = {source.name: source for source in config.source}
    if unknown := [name for name in names if name not in known]:
        there = ", ".join(known)
        raise ConfigError(
            [f"--source {name}: no such source; there is {there}" for name in unknown]
        )
    return [known[name] for name in names or known]


def _describe(found: Sequence[Finding], worst: Level) -> dict[str, Any]:
    return {
        "ok": not is_bad(worst),
        "worst": worst,
        "counts": {level: sum(one.level == level for one in found) for level in _STYLES},
        "findings": [msgspec.to_builtins(one) for one in found],
    }


def _show(console: Console, found: Sequence[Finding]) -> None:
    table = make_table("", "check", "about", last="found")
    for one in found:
        word, style = _STYLES[one.level]
        text = Text(keep_printable(one.text), "dim" if one.level == "skipped" else "")
        if one.advice:
            text.append(f"\n{keep_printable(one.advice)}", "yellow" if is_bad(one.level) else "dim")
        table.add_row(Text(word, style), one.check, Text(keep_printable(one.subject)), text)
    console.print(table)
    console.print(f"\n{_summarise(found)}")


def _summarise(found: Sequence[Finding]) -> str:
    levels = [one.level for one in found]
    counts = [
        format_count(levels.count(level), level)
        for level in ("error", "warning", "notice")
        if level in levels
    ]
    if "skipped" in levels:
        counts.append(f"{levels.count('skipped')} could not be told")
    return ", ".join(counts) if counts else "all is well"


@contextmanager
def _open_display() -> Iterator[Callable[[int, int], None]]:
    """Yield what shows how far we are: on a terminal, and beside the results."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda done, total: None
        return
    with console.status("looking") as status:
        yield lambda done, total: status.update(f"looking: {done} of {total} done")
