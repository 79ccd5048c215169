"""What a run's account comes to: the figures that policies are compared by."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workers.simulation.account import MINUTE, STEP, Block, SiteAccount
from workers.simulation.agenda import START
from workers.simulation.mix import end_of
from workers.simulation.run import Run

_FIRST_HOUR = 3600.0  # in which a policy may still be learning
# A limit counts as found when ten minutes' goodput is this near to it, and stays so for an hour.
_NEAR = 0.15
_WINDOW, _STAYS = 10, 60  # minutes
# A source is warm, or has recovered, when it delivers so much of what the others do on average.
_WARM, _RECOVERED = 0.8, 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """A limit that changed, and how long it took until goodput was what the new one allows."""

    at: float  # seconds since the start
    before: float  # messages/s that the provider took, all sources together
    after: float
    seconds: float | None  # None: never, or there was not enough mail to tell


@dataclass(frozen=True, slots=True)
class BlockFigures:
    """A block of a source, and what followed."""

    source: str
    at: float  # seconds since the start
    lasted: float
    provoked: bool
    silent_after: float  # seconds from the first reply that told of it to the last attempt
    recovered_after: float | None  # seconds from its end until the source had its part again


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """One source at one provider."""

    source: str
    attempts: int
    delivered: int
    throttled: int
    blocked: int
    pace: float | None  # at the end
    score: float | None
    warm_after: (
        int | None
    )  # days until it delivered as much as the others; None: it was warm, or not yet
    most_over: int | None  # attempts of a day above its warm-up's allowance; None: it had none


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """One provider."""

    site: str
    born: int
    delivered: int
    refused: int  # unknown recipients, spam: nobody could have delivered it
    bounced_wrongly: int  # for a throttle or a block
    expired: int
    waiting: int
    lost: int
    complaints: int
    attempts: int
    throttled: int
    throttled_later: float  # of a thousand attempts after the first hour
    blocked: int
    greylisted: int
    mean_delay: float  # s
    p95_delay: float
    found: tuple[Found, ...]
    blocks: tuple[BlockFigures, ...]
    sources: tuple[SourceFigures, ...]

    @property
    def provoked(self) -> int:
        """Blocks that the sources brought on themselves."""
        return sum(block.provoked for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Figures:
    """One run."""

    policy: str
    seed: int
    days: float
    sites: tuple[SiteFigures, ...]

    def total(self, name: str) -> int:
        """Return the sum of a count over all providers."""
        return sum(int(getattr(site, name)) for site in self.sites)

    @property
    def throttled_later(self) -> float:
        """Of a thousand attempts after the first hour, at all providers."""
        attempts = sum(site.attempts for site in self.sites) or 1
        return sum(site.throttled_later * site.attempts for site in self.sites) / attempts

    @property
    def mean_delay(self) -> float:
        """Of what was delivered, s."""
        delivered = self.total("delivered") or 1
        return sum(site.mean_delay * site.delivered for site in self.sites) / delivered


def make_figures(run: Run) -> Figures:
    """Reckon them."""
    sites = tuple(_make_site(run, site) for site in run.world.providers)
    return Figures(run.policy, run.seed, run.mix.lasts / 86400, sites)


def _make_site(run: Run, site: str) -> SiteFigures:
    account = run.account.sites[site]
    total = run.account.sum_up(site)
    later = run.account.sum_up(site, since=START + _FIRST_HOUR)
    waiting = account.born - account.ended
    delays = sorted(account.delays)
    return SiteFigures(
        site=site,
        born=account.born,
        delivered=account.delivered,
        refused=account.refused,
        bounced_wrongly=account.bounced_wrongly,
        expired=account.expired,
        waiting=waiting,
        lost=waiting - run.held[site],
        complaints=account.complaints,
        attempts=total.attempts,
        throttled=total.throttled,
        throttled_later=1000 * later.throttled / max(1, later.attempts),
        blocked=total.blocked,
        greylisted=total.greylisted,
        mean_delay=statistics.fmean(delays) if delays else 0.0,
        p95_delay=delays[int(len(delays) * 0.95)] if delays else 0.0,
        found=tuple(_find_changes(account, run, site)),
        blocks=tuple(_follow(run, block) for block in run.account.blocks if block.site == site),
        sources=tuple(_make_source(run, site, source) for source in run.world.addresses),
    )


def _make_source(run: Run, site: str, source: str) -> SourceFigures:
    total = run.account.sum_up(site, source=source)
    history = run.history.get((site, source))
    last = history[-1][1] if history else None
    return SourceFigures(
        source=source,
        attempts=total.attempts,
        delivered=total.delivered,
        throttled=total.throttled,
        blocked=total.blocked,
        pace=last.pace if last else None,
        score=last.score if last else None,
        warm_after=_find_warm_day(run, site, source),
        most_over=_find_excess(run, site, source),
    )


# -- limits that change -----------------------------------------------------------------------


def _find_changes(account: SiteAccount, run: Run, site: str) -> Iterator[Found]:
    changes = [
        one.at
        for one in run.world.find_profile(site).changes
        if one.rate and one.at < run.mix.lasts
    ]
    for number, at in enumerate(sorted(changes)):
        later = sorted(changes)[number + 1 :]
        first = int(at // MINUTE)
        last = int((later[0] if later else run.mix.lasts) // MINUTE)
        capacity = account.capacity
        yield Found(
            at=float(at),
            # They are taken at the minutes' ends.
            before=capacity[max(0, first - 2)],
            after=capacity[min(first, len(capacity) - 1)],
            seconds=_find_limit(account, first, last),
        )


def _find_limit(account: SiteAccount, first: int, last: int) -> float | None:
    """Return the seconds from a change (its minute) until goodput is near to the limit, and stays."""
    is_near = [_is_near(account, minute) for minute in range(first, last - _WINDOW + 1)]
    for offset in range(len(is_near)):
        stays = is_near[offset : offset + _STAYS]
        if is_near[offset] and not any(near is False for near in stays):
            # What was delivered in the window's first minute is what it found.
            return offset * MINUTE
    return None


def _is_near(account: SiteAccount, minute: int) -> bool | None:
    """Tell whether a window's goodput is near to the limit; None: there was too little mail to say."""
    window = slice(minute, minute + _WINDOW)
    limit = sum(account.capacity[window]) * MINUTE
    # Somebody could have sent more, at every moment.
    if min(account.waiting[window], default=0) < account.capacity[minute] * MINUTE:
        return None
    return abs(sum(account.minutes[window]) - limit) <= _NEAR * limit


# -- blocks -----------------------------------------------------------------------------------


def _follow(run: Run, block: Block) -> BlockFigures:
    return BlockFigures(
        source=block.source,
        at=block.heard - START,
        lasted=block.until - block.heard,
        provoked=block.provoked,
        silent_after=block.last - block.heard,
        recovered_after=_find_recovery(run, block),
    )


def _find_recovery(run: Run, block: Block) -> float | None:
    """Return the seconds from a block's end until the source delivers its part again."""
    mine = run.account.steps.get((block.site, block.source), {})
    others = [
        steps
        for (site, source), steps in run.account.steps.items()
        if site == block.site and source != block.source
    ]
    first = int((block.until - START) // STEP)
    for number in range(first, int((end_of(run.mix) - START) // STEP)):
        average = _average([steps[number].delivered for steps in others if number in steps])
        if average and number in mine and mine[number].delivered >= _RECOVERED * average:
            return max(0.0, START + number * STEP - block.until)
    return None


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


# -- warm-up ----------------------------------------------------------------------------------


def _find_warm_day(run: Run, site: str, source: str) -> int | None:
    """Return after how many days a source that was not warm delivered as much as those that were."""
    known = _list_warm(run, site)
    if source in known or not known:
        return None
    mine = run.account.count_days(site, source)
    theirs = [run.account.count_days(site, other) for other in known]
    for day in range(int(run.mix.lasts // 86400)):
        average = _average([days[day] for days in theirs])
        if average and mine[day] >= _WARM * average:
            return day
    return None


def _list_warm(run: Run, site: str) -> list[str]:
    """Return the sources that a provider knows, and that we do not warm up."""
    allowance = run.world.find_profile(site).allowance
    return [
        source.name
        for source in run.mix.source
        if not source.warmup and (allowance is None or source.address in allowance.known)
    ]


def _find_excess(run: Run, site: str, source: str) -> int | None:
    """Return by how many a day's attempts were above what the warm-up allowed, at worst."""
    history = run.history.get((site, source), [])
    attempts: dict[int, int] = {}
    for number, counts in run.account.steps.get((site, source), {}).items():
        day = int(number * STEP // 86400)
        attempts[day] = attempts.get(day, 0) + counts.attempts
    worst: int | None = None
    for time, standing in history:
        # The last look at a day stands at its end: that of the next day's beginning is not its.
        day = int((time - 1 - START) // 86400)
        warmup = standing.warmup
        if warmup is not None and warmup.allowance is not None and (time - START) % 86400:
            over = attempts.get(day, 0) - warmup.allowance
            worst = over if worst is None else max(worst, over)
    return worst
