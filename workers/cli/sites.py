"""``outgate sites``: receivers, what may go there, and what stands in the way just now."""

import argparse
import json
import math
from collections.abc import Iterator
from typing import Any

import trio

from relay.config import Config, Rate, load
from relay.store.gateview import Left
from workers.cli.asking import open_store
from workers.cli.backlog import Backlog, read_backlog
from workers.cli.page import add_row, format_count, format_span, make_table, open_console
from workers.cli.reason import Situation, read_situation
from workers.cli.selection import Selection
from workers.cli.standing import add_why, describe, format_pace, format_score, tell_warmup

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add filters and how many."""
    parser.add_argument("--site", metavar="NAME", default="", help="this one only")
    parser.add_argument(
        "--limit", metavar="N", type=int, default=_SHOWN, help=f"show so many (default: {_SHOWN})"
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
        found, _ = await read_backlog(store, Selection(site=wanted))
        queued: dict[str, list[Backlog]] = {}
        for one in found:
            if one.site:
                queued.setdefault(one.site, []).append(one)
        names = sorted(queued, key=lambda name: -sum(one.total for one in queued[name]))
        entries = [site.name for site in config.site if site.mx or site.domains]
        names = list(dict.fromkeys([*names, *entries]))
        if wanted:
            names = [wanted]
        shown = names[:limit]
        situation = await read_situation(store, config, sites=shown)
        return {
            "now": situation.now,
            "sites": [_describe(situation, name, queued.get(name, [])) for name in shown],
            "not_shown": len(names) - len(shown),
        }


def _describe(situation: Situation, name: str, queues: list[Backlog]) -> dict[str, Any]:
    terms, gate = situation.sites.find(name), situation.gates[name]
    now = situation.now
    covering = situation.find_suspension(site=name)
    suspended = {
        one.source: situation.describe(one).text
        for one in situation.suspended
        if one.site == name and one.source
    }
    standings = {
        source: describe(one, situation.config, now)
        for (site, source), one in situation.standings.items()
        if site == name
    }
    return {
        "name": name,
        "entry": name in situation.sites,
        "tls": terms.tls,
        "queues": len(queues),
        "queued": sum(one.total for one in queues),
        "connections": sum(gate.connections.values()),
        "connection_limit": terms.connections,
        "rates": [_spell(rate) for rate in terms.rates],
        "rate_left": _number(gate.left),
        "suspended": situation.describe(covering).text if covering else "",
        "sources": {
            source: {
                "connections": count,
                "connection_limit": terms.source_connections,
                "rates": [_spell(rate) for rate in terms.source_rates],
                "rate_left": _number(gate.source_left[source]),
                "rest": round(gate.rests[source].until - now, 1) if source in gate.rests else None,
                "failures": gate.rests[source].failures if source in gate.rests else 0,
                "turn_waits": round(now - gate.owed[source], 1) if source in gate.owed else None,
                "suspended": suspended.get(source, ""),
                "standing": standings.get(source),
            }
            for source, count in gate.connections.items()
        },
        "put_off": {
            tenant: {"until": until, "why": why}
            for tenant, (until, why) in situation.put_off[name].items()
        },
    }


def _number(left: Left) -> int | None:
    return None if math.isinf(left.count) else int(left.count)


def _spell(rate: Rate) -> str:
    return repr(rate)


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
