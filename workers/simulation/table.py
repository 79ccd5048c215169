"""A comparison as tables for a terminal."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from workers.simulation.figures import BlockFigures, Figures, Found, SiteFigures

_CAPTION = """\
refused: unknown recipients and spam. throttled: attempts; per 1000 of those after the first hour.
lost to it: bounced because of a throttle or a block, or because its time was over."""


def show(console: Console, runs: Sequence[Figures]) -> None:
    """Print the figures of one mix, a policy each."""
    console.print(_draw_sites(runs))
    console.print(_draw_sources(runs))
    for line in _tell_events(runs):
        console.print(line)


def find_share(figures: Figures, runs: Sequence[Figures], site: str = "") -> float | None:
    """Return what was delivered as a share of the oracle's, at a provider or at all."""
    oracle = next(
        (run for run in runs if run.policy == "oracle" and run.seed == figures.seed), None
    )
    if oracle is None:
        return None
    most = _count_delivered(oracle, site)
    return _count_delivered(figures, site) / most if most else None


def _count_delivered(figures: Figures, site: str) -> int:
    return sum(one.delivered for one in figures.sites if site in ("", one.site))


def _draw_sites(runs: Sequence[Figures]) -> Table:
    table = Table(box=box.SIMPLE, title="By provider", title_justify="left", caption=_CAPTION)
    for name in ("provider", "policy"):
        table.add_column(name, no_wrap=True)
    for name in (
        *("messages", "delivered", "of oracle", "refused", "waiting", "throttled", "per 1000"),
        *("blocked", "delay", "p95", "lost to it"),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for site in [one.site for one in runs[0].sites]:
        for figures in runs:
            (one,) = [each for each in figures.sites if each.site == site]
            table.add_row(*_list_cells(one, figures, runs))
        table.add_section()
    return table


def _list_cells(one: SiteFigures, figures: Figures, runs: Sequence[Figures]) -> list[str]:
    share = find_share(figures, runs, one.site)
    return [
        one.site,
        figures.policy,
        f"{one.born:,}",
        f"{one.delivered:,}",
        "" if share is None else f"{share:.1%}",
        f"{one.refused:,}",
        f"{one.waiting:,}",
        f"{one.throttled:,}",
        f"{one.throttled_later:.1f}",
        f"{one.blocked:,}",
        show_seconds(one.mean_delay),
        show_seconds(one.p95_delay),
        f"{one.bounced_wrongly + one.expired:,}",
    ]


def _draw_sources(runs: Sequence[Figures]) -> Table:
    table = Table(box=box.SIMPLE, title="By source", title_justify="left")
    for name in ("provider", "source", "policy"):
        table.add_column(name, no_wrap=True)
    for name in ("delivered", "throttled", "blocked", "pace", "score", "warm after"):
        table.add_column(name, justify="right")
    for number, site in enumerate(runs[0].sites):
        for place, source in enumerate(site.sources):
            for figures in runs:
                one = figures.sites[number].sources[place]
                table.add_row(
                    site.site,
                    source.source,
                    figures.policy,
                    f"{one.delivered:,}",
                    f"{one.throttled:,}",
                    f"{one.blocked:,}",
                    "" if one.pace is None else f"{one.pace:.2f}/s",
                    "" if one.score is None else f"{one.score:.2f}",
                    "" if one.warm_after is None else f"{one.warm_after} days",
                )
        table.add_section()
    return table


def _tell_events(runs: Sequence[Figures]) -> Iterator[str]:
    for figures in runs:
        for site in figures.sites:
            who = f"{site.site}, {figures.policy}"
            yield from (f"{who}: {_tell_change(found)}" for found in site.found)
            yield from (f"{who}: {_tell_block(block)}" for block in site.blocks[:10])
            if len(site.blocks) > 10:
                yield f"{who}: {len(site.blocks) - 10} more blocks"
            if site.lost:
                yield f"{who}: LOST {site.lost} messages"


def _tell_change(found: Found) -> str:
    when = f"its limit went from {found.before:.2f}/s to {found.after:.2f}/s"
    if found.seconds is None:
        return f"{when}: not found"
    return f"{when}: found within {show_seconds(found.seconds)}"


def _tell_block(block: BlockFigures) -> str:
    recovered = (
        "had not its part again"
        if block.recovered_after is None
        else f"had its part again {show_seconds(block.recovered_after)} later"
    )
    return (
        f"{block.source} was blocked{' for what it did' if block.provoked else ''} for "
        f"{show_seconds(block.lasted)}: silent after {block.silent_after:.1f} s; {recovered}"
    )


def show_seconds(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.1f} d"
