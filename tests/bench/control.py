"""The control loop against a fixed table and an oracle: mixes x seeds x policies, in virtual time.

Nothing here is about this machine's speed: the figures are the same on any. Each run is a process' work,
with a store of its own; as many at a time as there are cores.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.progress import Progress
from tests.bench.promise import Promise
from tests.kit.redis import open_server
from workers.simulation.figures import Figures, SiteFigures, make_figures
from workers.simulation.mix import load_mix
from workers.simulation.policies import NAMES, Name
from workers.simulation.run import simulate
from workers.simulation.table import find_share, show_seconds

MIXES = ("strict", "several", "small", "changing", "warmup")
_GOODPUT = 0.92  # of the oracle's
_THROTTLED = 5.0  # of a thousand attempts, after the first hour
_SILENT = 5.0  # s, after the first word of a block


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run."""

    mixes: tuple[str, ...] = MIXES
    seeds: int = 10
    # Of the fixed table, which nothing was promised of: its storms of retries take longer than all the
    # rest, and are much the same on every seed.
    fixed_seeds: int = 2


QUICK = Size(("strict", "changing"), 1, 1)

_Job = tuple[str, int, Name]


@dataclass(frozen=True, slots=True)
class Control:
    """All runs, by mix."""

    runs: dict[str, list[Figures]]
    seconds: float

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        for mix, runs in self.runs.items():
            yield from _promise(mix, runs)

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        yield f"The control loop, {sum(map(len, self.runs.values()))} runs in {self.seconds:.0f} s:"
        for mix, runs in self.runs.items():
            for policy in NAMES:
                yield f"  {mix}, {policy}: {_describe([r for r in runs if r.policy == policy], runs)}"


def measure_control(progress: Progress, size: Size) -> Control:
    """Run everything."""
    # The longest first, or the last one runs alone.
    jobs: list[_Job] = [
        (mix, seed, policy)
        for policy in ("fixed", "loop", "oracle")
        for mix in size.mixes
        for seed in range(1, (size.fixed_seeds if policy == "fixed" else size.seeds) + 1)
    ]
    begun = time.monotonic()
    runs: dict[str, list[Figures]] = {mix: [] for mix in size.mixes}
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count() or 1, maxtasksperchild=4) as pool:
        for done, (mix, figures) in enumerate(pool.imap_unordered(_run, jobs), 1):
            runs[mix].append(figures)
            progress.show(done, len(jobs), time.monotonic() - begun)
    for found in runs.values():
        found.sort(key=lambda figures: (NAMES.index(figures.policy), figures.seed))
    return Control(runs, time.monotonic() - begun)


def _run(job: _Job) -> tuple[str, Figures]:
    mix, seed, policy = job
    with open_server(appendonly="no") as server:
        return mix, make_figures(simulate(load_mix(mix), seed, policy, server.url))


def _promise(mix: str, runs: Sequence[Figures]) -> Iterator[Promise]:
    loop = [figures for figures in runs if figures.policy == "loop"]
    shares = [share for one in loop if (share := find_share(one, runs)) is not None]
    mean, worst = statistics.fmean(shares or [0.0]), min(shares, default=0.0)
    yield Promise(
        f"{mix}: goodput {mean:.1%} of the oracle's over {len(shares)} seeds, {worst:.1%} on the worst "
        f"(at least {_GOODPUT:.0%} over all)",
        mean >= _GOODPUT,
    )
    throttled = max(one.throttled_later for one in loop)
    yield Promise(
        f"{mix}: {throttled:.1f} of 1000 attempts throttled after an hour, at worst "
        f"(at most {_THROTTLED:g})",
        throttled <= _THROTTLED,
    )
    for name in ("lost", "bounced_wrongly", "expired"):
        count = sum(one.total(name) for one in loop)
        yield Promise(f"{mix}: {name.replace('_', ' ')}: {count} (none)", count == 0)
    yield from _promise_silence(mix, loop)


def _promise_silence(mix: str, loop: Sequence[Figures]) -> Iterator[Promise]:
    blocks = [block for one in loop for site in one.sites for block in site.blocks]
    if not blocks:
        return
    silent = max(block.silent_after for block in blocks)
    yield Promise(
        f"{mix}: silent {silent:.1f} s after a block, at worst (at most {_SILENT:g})",
        silent <= _SILENT,
    )
    left = sum(block.recovered_after is None for block in blocks if not block.provoked)
    yield Promise(f"{mix}: {left} sources had not recovered from a block (none)", not left)


def _describe(mine: Sequence[Figures], runs: Sequence[Figures]) -> str:
    shares = [share for one in mine if (share := find_share(one, runs)) is not None]
    sites = [site for one in mine for site in one.sites]
    parts = [
        f"goodput {statistics.fmean(shares):.1%}",
        f"throttled {statistics.fmean(one.throttled_later for one in mine):.1f}/1000",
        f"delay {show_seconds(statistics.fmean(one.mean_delay for one in mine))}",
        f"blocks provoked {sum(site.provoked for site in sites)}",
        f"lost {sum(site.lost for site in sites)}",
        f"bounced wrongly {sum(site.bounced_wrongly + site.expired for site in sites)}",
    ]
    parts += _describe_limits(sites, "halved", lambda before, after: after < before)
    parts += _describe_limits(sites, "doubled", lambda before, after: after > before)
    days = [s.warm_after for site in sites for s in site.sources if s.warm_after is not None]
    if days:
        parts.append(f"warm after {statistics.median(days):g} days")
    return ", ".join(parts)


def _describe_limits(
    sites: Sequence[SiteFigures], name: str, fits: Callable[[float, float], bool]
) -> Iterator[str]:
    found = [f.seconds for site in sites for f in site.found if fits(f.before, f.after)]
    times = [seconds for seconds in found if seconds is not None]
    if not found:
        return
    missed = f", {len(found) - len(times)} times not" if len(times) < len(found) else ""
    when = show_seconds(statistics.median(times)) if times else "never"
    yield f"limit {name}: found in {when}{missed}"
