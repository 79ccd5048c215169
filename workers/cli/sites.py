"""``outgate sites``: receivers, what may go there, and what stands in the way just now."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import trio

from relay.config import Config, load
from workers.cli.asking import open_store
from workers.cli.page import add_row, make_table, open_console
from workers.views.sites import SHOWN, read_sites
from workers.views.standing import add_why, format_pace, format_score, tell_warmup
from workers.views.words import format_count, format_span


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add filters and how many."""
    parser.add_argument("--site", metavar="NAME", default="", help="this one only")
    parser.add_argument(
        "--limit", metavar="N", type=int, default=SHOWN, help=f"show so many (default: {SHOWN})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the sites, those with most queued first; exit 1 for one that nothing is known of."""
    config = load(arguments.config)
    state = trio.run(_read, config, arguments.site, max(0, arguments.limit))
    if arguments.json:
        print(json.dumps(state))
    else:
        _show(state)
    return 0 if state["sites"] or not arguments.site else 1


async def _read(config: Config, wanted: str, limit: int) -> dict[str, Any]:
    async with open_store(config) as store:
        return await read_sites(store, config, wanted, limit=limit)


# -- for people -----------------------------------------------------------------------------------


def _show(state: dict[str, Any]) -> None:
    console = open_console()
    if not state["sites"]:
        console.print("nothing is queued, and no [[site]] is configured")
        return
    table = make_table("site", ">queued", ">queues", ">conns", "rate", ">left", last="sources")
    for row in state["sites"]:
        most = row["connection_limit"]
        connections = f"{row['connections']}/{most}" if most else str(row["connections"])
        left = "-" if row["rate_left"] is None else f"{row['rate_left']:,}"
        add_row(
            table, row["name"], row["queued"], row["queues"], connections,
            _shorten(row["rates"]) or "-", left, _tell(row, state["now"]),
        )  # fmt: skip
    console.print(table)
    if state["not_shown"]:
        console.print(f"\n{format_count(state['not_shown'], 'site')} more: --limit, --site")


def _tell(row: dict[str, Any], now: float) -> list[str]:
    """Return the lines about a site's sources, and about tenants that it does not want now."""
    lines = [f"{name} {_tell_source(one, now)}" for name, one in row["sources"].items()]
    if row["suspended"]:
        lines = [row["suspended"]]
    for tenant, one in row["put_off"].items():
        text = f"tenant {tenant} put off for {format_span(one['until'] - now)}"
        lines.append(add_why(text, one["why"]))
    return lines


def _tell_source(one: dict[str, Any], now: float) -> str:
    standing = one["standing"]
    most = one["connection_limit"]
    if standing is not None and standing["connections"] is not None:
        most = min(most, standing["connections"])
    words = [f"{one['connections']}/{most} conns"]
    if one["suspended"]:
        words.append(one["suspended"])
    if one["rest"] is not None:
        times = f" (failed {one['failures']}x)" if one["failures"] > 1 else ""
        words.append(f"rests {format_span(one['rest'])}{times}")
    if one["rate_left"] is not None:
        words.append(f"{one['rate_left']} left of {_shorten(one['rates'])}")
    if one["turn_waits"] is not None:
        words.append(f"its turn waits {format_span(one['turn_waits'])}")
    if standing is not None:
        words += _tell_standing(standing, now)
    return ", ".join(words)


def _tell_standing(one: dict[str, Any], now: float) -> Iterator[str]:
    yield f"score {format_score(one['score'], one['evidence'])}"
    if one["pace"] is not None:
        yield f"pace {format_pace(one['pace'])}"
    if one["warmup"] is not None and one["warmup"]["allowance"] is not None:
        yield tell_warmup(one["warmup"], now)
    if one["state"] not in ("good", "new"):
        yield one["text"]


def _shorten(rates: list[str]) -> str:
    return " ".join(rate.partition(" ")[0] for rate in rates)
