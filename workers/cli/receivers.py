"""What ``outgate emulate`` shows: what each provider counts of each address, and holds against it.

Everything here is a function of the hosts at one moment; nothing changes them.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from workers.cli.page import add_row, make_table
from workers.emulation.providers.host import Host
from workers.views.words import format_span

_MOST_ROWS = 60  # addresses that fit on a terminal; JSON has all
_Show = Callable[[float], None]


def to_json(hosts: Sequence[Host]) -> dict[str, Any]:
    """Return what every provider knows, for programs."""
    return {
        host.name: {
            "listen": f"{host.host}:{host.port}",
            "total": dataclasses.asdict(host.provider.total()),
            "clients": {
                address: dataclasses.asdict(books) | _describe(host, address)
                for address, books in host.provider.books.items()
            },
        }
        for host in hosts
    }


def _describe(host: Host, address: str) -> dict[str, Any]:
    limits = host.provider.limits(address)
    now = trio.current_time()
    return {
        "open": host.provider.count_open(address),
        "rate": None if math.isinf(limits.rate) else limits.rate,
        "allowance_left": limits.allowance_left,
        "penalty": round(max(0.0, limits.penalised_until - now), 3),
        "block": round(max(0.0, limits.blocked_until - now), 3),
    }


def render(hosts: Sequence[Host], elapsed: float) -> RenderableType:
    """Draw a table: a line for each provider and address."""
    table = make_table(
        "provider", "address", ">open", ">accepted", ">throttled", ">blocked", ">greylisted",
        ">unknown", ">complaints", last="against it",
    )  # fmt: skip
    rows = 0
    for host in hosts:
        found = host.provider.books
        for address, books in found.items():
            rows += 1
            if rows > _MOST_ROWS:
                continue
            add_row(
                table,
                host.name,
                address,
                host.provider.count_open(address),
                books.accepted,
                books.throttled + books.over_allowance + books.refused_connections,
                books.blocked,
                books.greylisted,
                books.unknown,
                books.complaints,
                _grudge(host, address),
            )
        if not found:
            add_row(table, host.name, "-", 0, 0, 0, 0, 0, 0, 0, "")
    more = f"\n... and {rows - _MOST_ROWS:,} more" if rows > _MOST_ROWS else ""
    head = Text.assemble(("outgate emulate", "bold"), f"  {format_span(elapsed)}\n")
    return Group(head, table, Text(more, style="dim"))


def _grudge(host: Host, address: str) -> str:
    known = _describe(host, address)
    parts = []
    if known["block"]:
        parts.append(f"blocked for {format_span(known['block'])}")
    if known["penalty"]:
        parts.append(f"penalty of {format_span(known['penalty'])}")
    if known["allowance_left"] is not None:
        parts.append(f"{known['allowance_left']:,} left today")
    return ", ".join(parts)


def format_line(hosts: Sequence[Host], elapsed: float) -> str:
    """Say it in one line."""
    parts = []
    for host in hosts:
        total = host.provider.total()
        refused = total.throttled + total.over_allowance + total.refused_connections
        parts.append(
            f"{host.name} {total.accepted} accepted, {refused} throttled, {total.blocked} blocked"
        )
    return f"{format_span(elapsed)}: " + "; ".join(parts)


@contextlib.contextmanager
def open_display(console: Console, hosts: Sequence[Host]) -> Iterator[_Show]:
    """Yield a function that shows what is there now; its argument is the time since the start."""
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda elapsed: live.update(render(hosts, elapsed), refresh=True)
    else:
        yield lambda elapsed: console.print(format_line(hosts, elapsed), soft_wrap=True)
