"""Numbers over time: differences of what only grows, put into even steps. Pure.

Nothing is made up: where nobody looked, or the store was away, there is a gap (None), not a line.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.store.counters import Counted

FLOW = ("accepted", "delivered", "deferred", "bounced", "refused")
_LEDGER = ("accepted", "delivered", "bounced")
# What is looked at, how often, and how long it is kept, s: the last is kept for admin.remember.
STEPS: Mapping[int, float] = {10: 2 * 3600, 60: 2 * 86400, 600: math.inf}
LEAST = 60  # of what is looked at every minute
_POINTS = 500  # of a series: what a screen can show
_LONGEST = 60.0  # s between two looks; a difference over more says nothing about when


@dataclass(frozen=True, slots=True)
class Reading:
    """What was counted until a time, seconds since 1970."""

    time: float
    totals: Mapping[str, int]
    queued: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted in some ``seconds``; ``time`` is the step's beginning."""

    time: int
    seconds: float
    counts: Mapping[str, int]
    queued: int


def make_reading(time: float, ledger: Mapping[str, int], counted: Counted) -> Reading:
    """Put together what is known of mail; our own notices are left out."""
    totals = {name: ledger.get(name, 0) for name in _LEDGER}
    totals["deferred"] = _sum(counted, "attempts", "deferred")
    totals["refused"] = _sum(counted, "messages", "refused")
    for labels, count in counted.get("tls_sessions", {}).items():
        if len(labels) == 3:
            direction, level, version = labels
            kind = version or "clear" if direction == "in" else level if version else "clear"
            name = f"{direction} {kind}"
            totals[name] = totals.get(name, 0) + count
    return Reading(time, totals, ledger.get("queued", 0))


def _sum(counted: Counted, name: str, result: str) -> int:
    return sum(count for labels, count in counted.get(name, {}).items() if labels[-1:] == (result,))


def subtract(before: Reading, after: Reading, step: int) -> Sample | None:
    """Return what was counted between two readings; None if they are too far apart to tell when.

    What has become less has begun anew: the store was emptied, and all that is there came since.
    """
    seconds = after.time - before.time
    if not 0 < seconds <= _LONGEST:
        return None
    counts = {}
    for name, total in after.totals.items():
        grown = total - before.totals.get(name, 0)
        counts[name] = grown if grown >= 0 else total
    return Sample(align(after.time - seconds / 2, step), seconds, counts, after.queued)


def align(time: float, step: int) -> int:
    """Return the beginning of the step that a time is in."""
    return int(time // step) * step


def add(first: Sample | None, second: Sample, step: int) -> Sample:
    """Return both together, as one of a longer step."""
    time = align(second.time, step)
    if first is None:
        return Sample(time, second.seconds, second.counts, second.queued)
    counts = dict(first.counts)
    for name, count in second.counts.items():
        counts[name] = counts.get(name, 0) + count
    return Sample(time, first.seconds + second.seconds, counts, second.queued)


# -- series ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grid:
    """The steps of a series: ``count`` of them, from ``start``, made of samples of step ``base``."""

    base: int
    step: int
    start: int
    count: int

    def place(self, time: float) -> int | None:
        """Return which step a time is in, None for none of them."""
        at = int((time - self.start) // self.step)
        return at if 0 <= at < self.count else None


def plan(window: float, now: float, *, least: int = 0) -> Grid:
    """Return the steps of the last ``window`` seconds. ``least``: what is not looked at more often.

    The last step is over: of one that is not, nothing is known yet. Raises ValueError.
    """
    if not 60 <= window <= 400 * 86400:
        raise ValueError("window: expected a minute to 400 days")
    base = next(step for step, kept in STEPS.items() if step >= least and window <= kept)
    step = base * max(1, math.ceil(window / base / _POINTS))
    count = math.ceil(window / step)
    return Grid(base, step, align(now, base) - count * step, count)


@dataclass(slots=True)
class _Bin:
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    queued: int | None = None


def draw_flow(samples: Iterable[Sample], grid: Grid) -> dict[str, Any]:
    """Return the series of a window: rates per second, what was queued, and TLS in all of it."""
    bins = [_Bin() for _ in range(grid.count)]
    tls: dict[str, dict[str, int]] = {"in": {}, "out": {}}
    for sample in samples:
        at = grid.place(sample.time)
        if at is None:
            continue
        one = bins[at]
        one.seconds += sample.seconds
        one.queued = sample.queued
        for name, count in sample.counts.items():
            direction, _, kind = name.partition(" ")
            if kind:
                tls[direction][kind] = tls[direction].get(kind, 0) + count
            else:
                one.counts[name] = one.counts.get(name, 0) + count
    return {
        "step": grid.step,
        "start": grid.start,
        "series": {name: [_find_rate(one, name) for one in bins] for name in FLOW},
        "queued": [one.queued for one in bins],
        "tls": {
            direction: {kind: n for kind, n in kinds.items() if n}
            for direction, kinds in tls.items()
        },
    }


def _find_rate(one: _Bin, name: str) -> float | None:
    return round(one.counts.get(name, 0) / one.seconds, 3) if one.seconds else None


def draw_last(
    points: Iterable[tuple[float, Sequence[Any]]], grid: Grid, width: int
) -> list[list[Any]]:
    """Return ``width`` series of the values at some times: in each step the last."""
    series: list[list[Any]] = [[None] * grid.count for _ in range(width)]
    for time, values in points:
        at = grid.place(time)
        if at is not None:
            for line, value in zip(series, values, strict=True):
                line[at] = value
    return series
