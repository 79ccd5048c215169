"""Pictures of runs over time: what was delivered, throttled and waiting, pace and score.

They need matplotlib (``pip install 'outgate[plots]'``). Nothing else does, so it is imported late.
"""

import importlib.util
import io
from collections.abc import Sequence
from typing import Any

from workers.simulation.account import MINUTE, STEP
from workers.simulation.agenda import START
from workers.simulation.run import Run

_Axes = Any  # of matplotlib, which may not be there
_COLOURS = {"loop": "#1f6fb4", "fixed": "#c8553d", "oracle": "#6a9a4f"}
_MANY = 100  # from there on a curve of a few beside it would lie on the axis
_POINTS = 400  # of a curve; a month has forty thousand minutes


def can_plot() -> bool:
    """Tell whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_site(runs: Sequence[Run], site: str) -> bytes:
    """Draw one provider, all policies in one picture; return a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9.5), layout="constrained")
    axes: Any = figure.subplots(4, 1, sharex=True)
    _draw_goodput(axes[0], runs, site)
    _draw_waiting(axes[1], runs, site)
    _draw_refused(axes[2], runs, site)
    _draw_standing(axes[3], runs, site)
    days = runs[0].mix.lasts >= 3 * 86400
    axes[-1].set_xlabel("days" if days else "hours")
    axes[0].set_title(site, loc="left", fontweight="bold")
    for each in axes:
        each.grid(alpha=0.25)
        each.set_xlim(0, runs[0].mix.lasts / (86400 if days else 3600))
        if each.get_legend_handles_labels()[0]:
            # Beside the curves, not over them: where it covers nothing is not the same in two pictures.
            each.legend(
                loc="upper left", bbox_to_anchor=(1.06, 1.0), fontsize="small", frameon=False
            )
    octets = io.BytesIO()
    figure.savefig(octets, format="png", dpi=100)
    return octets.getvalue()


def _find_unit(run: Run) -> float:
    return 86400.0 if run.mix.lasts >= 3 * 86400 else 3600.0


def _thin_out(values: Sequence[float], width: int) -> list[float]:
    """Return the average of each ``width`` values."""
    return [
        sum(values[at : at + width]) / len(values[at : at + width])
        for at in range(0, len(values), width)
    ]


def _draw_minutes(axes: _Axes, run: Run, values: Sequence[float], **style: object) -> None:
    width = max(10, len(values) // _POINTS)
    curve = _thin_out(values, width)
    times = [(number + 0.5) * width * MINUTE / _find_unit(run) for number in range(len(curve))]
    axes.plot(times, curve, **style)


def _draw_goodput(axes: _Axes, runs: Sequence[Run], site: str) -> None:
    for run in runs:
        minutes = [count / MINUTE for count in run.account.sites[site].minutes]
        _draw_minutes(axes, run, minutes, color=_COLOURS[run.policy], label=run.policy, lw=1.2)
    capacity = list(runs[-1].account.sites[site].capacity)
    if capacity and max(capacity) < float("inf"):
        _draw_minutes(axes, runs[-1], capacity, color="#888888", label="limit", lw=1.0, ls="--")
    axes.set_ylabel("delivered/s")
    axes.set_ylim(bottom=0)


def _draw_waiting(axes: _Axes, runs: Sequence[Run], site: str) -> None:
    for run in runs:
        waiting = [float(count) for count in run.account.sites[site].waiting]
        _draw_minutes(axes, run, waiting, color=_COLOURS[run.policy], label=run.policy, lw=1.2)
    axes.set_ylabel("waiting")
    axes.set_ylim(bottom=0)


def _draw_refused(axes: _Axes, runs: Sequence[Run], site: str) -> None:
    for run in runs:
        count = int(run.mix.lasts // STEP)
        refused = [0.0] * count
        for (name, _), steps in run.account.steps.items():
            for number, counts in steps.items():
                if name == site and number < count:
                    refused[number] += counts.throttled + counts.blocked
        width = max(1, count // _POINTS)
        curve = _thin_out(refused, width)
        times = [(number + 0.5) * width * STEP / _find_unit(run) for number in range(len(curve))]
        axes.plot(times, curve, color=_COLOURS[run.policy], label=run.policy, lw=1.2)
    if axes.get_ylim()[1] > _MANY:
        axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    axes.set_ylabel("throttled and\nblocked in 10 min")


def _draw_standing(axes: _Axes, runs: Sequence[Run], site: str) -> None:
    """The loop's pace of each source, and its score as a dotted line."""
    scores = axes.twinx()
    for run in runs:
        for (name, source), history in sorted(run.history.items()):
            if name == site and run.policy == "loop":
                width = max(1, len(history) // _POINTS)
                times = [(time - START) / _find_unit(run) for time, _ in history][::width]
                paces = [
                    float("nan") if one.pace is None else one.pace for _, one in history[::width]
                ]
                (line,) = axes.plot(times, paces, label=f"{source}: pace", lw=1.2)
                score = [one.score for _, one in history[::width]]
                scores.plot(times, score, color=line.get_color(), ls=":", lw=1.0)
    axes.set_ylabel("pace/s of the loop")
    # No pace, no curve: then the scale means nothing.
    paced = any(one.pace is not None for run in runs for h in run.history.values() for _, one in h)
    axes.set_ylim(0, None if paced else 1)
    scores.set_ylabel("score (dotted)")
    scores.set_ylim(0, 1)
