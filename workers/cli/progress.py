"""What the demo shows while it runs: a calm picture on a terminal, a line now and then elsewhere.

Everything here is a function of a ``Snapshot``; nothing asks the system that is being shown.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_PER_SECOND = 4  # pictures; more is restless, and takes CPU from what is shown
_PLAIN_EVERY = 2.0  # seconds between lines where there is no terminal
_COUNTS = {"accepted": "cyan", "delivered": "green", "bounced": "yellow", "queued": "blue"}


@dataclass(frozen=True, slots=True)
class SourceCount:
    """A source, and the messages that receivers had from it."""

    name: str
    address: str
    weight: int
    messages: int


@dataclass(frozen=True, slots=True)
class ReceiverCount:
    """A receiver, and the messages that it has taken."""

    domain: str
    does: str
    messages: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the demo at one moment."""

    phase: str
    elapsed: float  # seconds
    messages: int  # of the corpus
    sent: int  # ... that have their 250
    recipients: int  # of the corpus
    ledger: Mapping[str, int]
    sources: tuple[SourceCount, ...] = ()
    receivers: tuple[ReceiverCount, ...] = ()


def render(snapshot: Snapshot, width: int) -> RenderableType:
    """Draw a snapshot for a terminal so many columns wide."""
    bar = max(10, min(60, width - 47))
    return Group(
        _draw_title(snapshot),
        Text("\nRecipients, in the gateway's ledger", style="dim"),
        _draw_ledger(snapshot, bar),
        Text("\nMessages that arrived, by source", style="dim"),
        _draw_sources(snapshot, bar),
        Text("\n... and by receiver", style="dim"),
        _draw_receivers(snapshot),
    )


def _draw_title(snapshot: Snapshot) -> Table:
    table = Table.grid(expand=True)
    table.add_column()
    table.add_column(justify="right")
    left = Text.assemble(("outgate demo", "bold"), f"  {snapshot.phase}")
    sent = f"{snapshot.sent:,} of {snapshot.messages:,} messages"
    table.add_row(left, Text(f"{sent}  {_show_time(snapshot.elapsed)}", style="dim"))
    return table


def _draw_ledger(snapshot: Snapshot, bar: int) -> Table:
    table = _make_grid(18)
    for name, style in _COUNTS.items():
        number = snapshot.ledger.get(name, 0)
        table.add_row(
            name,
            _draw_bar(number, snapshot.recipients, bar, style),
            f"{number:,}",
            "",
        )
    return table


def _draw_sources(snapshot: Snapshot, bar: int) -> Table:
    table = _make_grid(18)
    most = max((source.messages for source in snapshot.sources), default=0)
    total = sum(source.messages for source in snapshot.sources)
    weights = sum(source.weight for source in snapshot.sources)
    for source in snapshot.sources:
        share = f"{source.messages / total:4.0%}" if total else "  - "
        table.add_row(
            Text.assemble((source.name, "bold"), f"  {source.address}"),
            _draw_bar(source.messages, most, bar, "magenta"),
            f"{source.messages:,}",
            Text(f"{share} (weight {source.weight / weights:.0%})", style="dim"),
        )
    return table


def _draw_receivers(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", min_width=6)
    table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    for receiver in snapshot.receivers:
        table.add_row(receiver.domain, f"{receiver.messages:,}", receiver.does)
    return table


def _make_grid(first: int) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=first, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", min_width=6)
    table.add_column(no_wrap=True)
    return table


def _draw_bar(number: int, total: int, width: int, style: str) -> ProgressBar:
    return ProgressBar(
        total=max(total, 1),
        completed=number,
        width=width,
        complete_style=style,
        finished_style=style,
    )


def _show_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def format_line(snapshot: Snapshot) -> str:
    """Say a snapshot in one line."""
    counts = ", ".join(f"{snapshot.ledger.get(name, 0)} {name}" for name in _COUNTS)
    sources = " ".join(f"{source.name}={source.messages}" for source in snapshot.sources)
    return (
        f"{_show_time(snapshot.elapsed)} {snapshot.phase}: "
        f"{snapshot.sent} of {snapshot.messages} messages sent; "
        f"recipients: {counts}; messages by source: {sources}"
    )


@contextlib.contextmanager
def open_display(console: Console) -> Iterator[Callable[[Snapshot], None]]:
    """Yield a function that shows a snapshot; call it as often as you like."""
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            yield _limit(
                1 / _PER_SECOND, lambda s: live.update(render(s, console.width), refresh=True)
            )
    else:
        yield _limit(_PLAIN_EVERY, lambda s: console.print(format_line(s), soft_wrap=True))


def _limit(seconds: float, show: Callable[[Snapshot], None]) -> Callable[[Snapshot], None]:
    """Show at most one snapshot in so many seconds, and each new phase at once."""
    due, phase = 0.0, ""

    def show_sometimes(snapshot: Snapshot) -> None:
        nonlocal due, phase
        now = time.monotonic()
        if now >= due or snapshot.phase != phase:
            due, phase = now + seconds, snapshot.phase
            show(snapshot)

    return show_sometimes
