"""What a replay shows while it runs: a bar on a terminal, a line now and then elsewhere."""

import contextlib
from collections.abc import Iterator

import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from workers.replay.report import format_time
from workers.replay.run import Run

_PER_SECOND = 4  # pictures
_PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal


@contextlib.contextmanager
def _open_bar(console: Console, total: int | None) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        bar.add_task("", total=total)
        yield bar


async def watch(run: Run, console: Console, octets: int) -> None:
    """Show how a replay goes on, until cancelled. ``octets``: of the corpus."""
    if not console.is_terminal or console.is_dumb_terminal:
        while True:
            await trio.sleep(_PLAIN_EVERY)
            console.print(tell(run), soft_wrap=True, markup=False)
    with _open_bar(console, _find_total(run, octets)) as bar:
        while True:
            done = _find_done(run, octets)
            bar.update(bar.task_ids[0], completed=done, description=tell(run))
            bar.refresh()
            await trio.sleep(1 / _PER_SECOND)


def _find_total(run: Run, octets: int) -> int | None:
    """Return what the bar counts up to: messages, tenths of seconds, or octets of the corpus."""
    plan = run.plan
    if plan.most is not None:
        return plan.most
    if plan.lasts < 1e9:
        return int(plan.lasts * 10)
    return octets * plan.rounds or None


def _find_done(run: Run, octets: int) -> int:
    plan = run.plan
    if plan.most is not None:
        return run.tally.ended
    if plan.lasts < 1e9:
        return int(run.elapsed * 10)
    return run.tally.position


def tell(run: Run) -> str:
    """Say in a line how a replay stands."""
    tally = run.tally
    accepted = tally.messages["accepted"] + tally.messages["partly"]
    errors = tally.messages["refused"] + tally.messages["failed"]
    recent = tally.course.slots[-3:-1] or tally.course.slots
    rate = sum(slot.accepted for slot in recent) / max(1, len(recent)) / tally.course.step
    latency = tally.dot.find(0.99)
    words = [f"{accepted:,} accepted", f"{rate:,.0f}/s", f"{errors:,} errors"]
    if tally.retries:
        words.append(f"{tally.retries:,} repeated")
    if latency is not None:
        words.append(f"p99 {format_time(latency)}")
    return ", ".join(words)
