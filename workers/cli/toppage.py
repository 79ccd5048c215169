"""What `outgate top` shows: a picture of one state, that fits the terminal it is for.

Everything here is a function of what was read; nothing asks the system that is being shown.
"""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workers.cli.page import keep_printable
from workers.views.brief import brief
from workers.views.standing import format_pace
from workers.views.words import format_span

_WORDS = ("accepted", "delivered", "bounced", "queued")
_STATES = {
    "ok": "green",
    "warming": "cyan",
    "slowed": "yellow",
    "silent": "yellow",
    "resting": "yellow",
    "probing": "magenta",
    "quarantined": "bold red",
    "suspended": "bold magenta",
}
_CELL = 12  # columns of a site in the grid
_SOURCE = 14
_LEAST = 3  # rows of each part, if there are so many


def draw(
    state: dict[str, Any], events: Sequence[dict[str, Any]], width: int, height: int
) -> RenderableType:
    """Draw a state and the last events, in so many columns and rows."""
    parts: list[RenderableType] = [_draw_title(state, width), *_draw_ledger(state, width)]
    notices = _list_notices(state)[:3]
    parts += [_cut(f"! {text}", width, "bold red") for text in notices]
    sites, grid = state["sites"], state["grid"]
    rows = max(3 * _LEAST, height - len(parts) - 6)  # two heads of tables, three titles, an edge
    shares = _share(rows, (len(sites), len(grid["sources"]), len(events)))
    parts.append(_head("what waits, by site", width))
    parts.append(_draw_sites(sites[: shares[0]], width))
    parts.append(_head("sources at sites: score, pace or state", width))
    parts.append(_draw_grid(grid, shares[1], width))
    parts.append(_head("events", width))
    parts += [_draw_event(event, width) for event in list(events)[-shares[2] :] if shares[2]]
    return Group(*parts)


def _share(rows: int, wanted: tuple[int, int, int]) -> list[int]:
    """Divide the rows: what one part does not need is for the others, in turns."""
    shares = [min(_LEAST, one) for one in wanted]
    left = rows - sum(shares)
    while left > 0 and any(share < want for share, want in zip(shares, wanted, strict=True)):
        for number, want in enumerate(wanted):
            if shares[number] < want and left > 0:
                shares[number] += 1
                left -= 1
    return shares


def _cut(text: str, width: int, style: str = "") -> Text:
    line = Text(keep_printable(text), style, no_wrap=True, overflow="ellipsis")
    line.truncate(width, overflow="ellipsis")
    return line


def _head(title: str, width: int) -> Text:
    return Text(f"{title} ".ljust(width, "-")[:width], "dim", no_wrap=True)


def _draw_title(state: dict[str, Any], width: int) -> Text:
    alive = sum(state["sources"].values())
    left = "outgate top" if not state["trouble"] else f"outgate top: {state['trouble']}"
    right = (
        f"{alive} of {len(state['sources'])} sources, {state['workers']} workers  "
        f"{time.strftime('%H:%M:%S', time.localtime(state['time']))}"
    )
    space = max(2, width - len(left) - len(right))
    return _cut(left + " " * space + right, width, "bold red" if state["trouble"] else "bold")


def _draw_ledger(state: dict[str, Any], width: int) -> list[Text]:
    rates = " ".join(f"{word} {_spell_rate(rate)}" for word, rate in state["rates"].items())
    ledger = "  ".join(f"{word} {state['ledger'][word]:,}" for word in _WORDS)
    adds_up = "adds up" if state["adds_up"] else "DOES NOT ADD UP"
    counts = state["deliveries"]
    waits = (
        f"{counts['queues']:,} queues: {counts['ready']:,} ready, {counts['due']:,} due later, "
        f"{counts['claimed']:,} in hand"
    )
    if counts["oldest"] is not None:
        waits += f"; oldest {format_span(counts['oldest'])}"
    return [
        _cut(rates, width, "cyan"),
        _cut(f"{ledger}  ({adds_up})", width, "" if state["adds_up"] else "bold red"),
        _cut(waits, width),
    ]


def _spell_rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _list_notices(state: dict[str, Any]) -> list[str]:
    texts = [f"the store can lose mail: {text}" for text in state["store"]["weaknesses"]]
    texts += [one["text"] for one in state["suspensions"]]
    texts += [
        f"tenant {name}: {one['reason']}" for name, one in state["tenants"].items() if one["state"]
    ]
    return texts


def _draw_sites(rows: Sequence[dict[str, Any]], width: int) -> Table:
    table = _make_table(width)
    for name, right in (("site", 0), ("ready", 1), ("due", 1), ("in hand", 1), ("oldest", 1)):
        table.add_column(name, justify="right" if right else "left", no_wrap=True, max_width=20)
    table.add_column("waits for", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        oldest = "-" if row["oldest"] is None else format_span(row["oldest"])
        cells = [row["site"] or "?", *(f"{row[word]:,}" for word in ("ready", "due", "claimed"))]
        table.add_row(*(_cell(cell) for cell in (*cells, oldest, row["text"])))
    return table


def _draw_grid(grid: dict[str, Any], rows: int, width: int) -> Table:
    sites = grid["sites"][: max(1, (width - _SOURCE) // (_CELL + 1))]
    cells = {(cell["source"], cell["site"]): cell for cell in grid["cells"]}
    table = _make_table(width, expand=False)
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=_SOURCE)
    for name in sites:
        table.add_column(_cell(name), no_wrap=True, overflow="ellipsis", width=_CELL)
    # Those in trouble first: they may be many more than there are rows.
    names = sorted(
        grid["sources"], key=lambda one: -sum(_is_trouble(cells[one, site]) for site in sites)
    )
    for source in names[:rows]:
        table.add_row(_cell(source), *(_draw_cell(cells[source, site]) for site in sites))
    return table


def _is_trouble(cell: dict[str, Any]) -> bool:
    return cell["state"] not in ("ok", "warming")


def _draw_cell(cell: dict[str, Any]) -> Text:
    state = cell["state"]
    score = f"{cell['score']:.2f}" if cell["known"] else "-"
    if state == "slowed":
        text = f"{score} {format_pace(cell['pace'])}"
    elif state == "warming" and cell["warmup"] is not None:
        text = f"{cell['warmup']['used']}/{cell['warmup']['allowance']}"
    else:
        text = score if state == "ok" else state
    return Text(text, _STATES.get(state, ""), no_wrap=True, overflow="ellipsis")


def _make_table(width: int, *, expand: bool = True) -> Table:
    return Table(
        box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", expand=expand,
        width=width if expand else None,
    )  # fmt: skip


def _cell(text: object) -> Text:
    return Text(keep_printable(str(text)), no_wrap=True, overflow="ellipsis")


def _draw_event(event: dict[str, Any], width: int) -> Text:
    moment = event.get("time")
    clock = time.localtime(moment if isinstance(moment, int | float) else None)
    about = " ".join(str(event[key]) for key in ("tenant", "id") if event.get(key))
    name = str(event.get("event", "?"))
    return _cut(f"{time.strftime('%H:%M:%S', clock)} {name:<10} {about} {brief(event)}", width)
