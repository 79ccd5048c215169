"""The reporter: tells the store what receivers' answers say about sources, and the log what follows.

A worker process has one. What became of deliveries is gathered by site and source and handed in
together: good news every few seconds, bad news at once, because a source that is blocked must be
silent everywhere within seconds. What a report changes (pace, quarantine ...) is decided in the store
(relay/store/standing.py) and told to all workers from there.

Reports are not on any message's path. One that is lost with its process is a few seconds' evidence.
"""

import ipaddress
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import trio

from relay.config import Config
from relay.config.schema import Source
from relay.errors import StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.model import Disposition, Outcome
from relay.store.standing import Change, PutOff, Report, Standings
from workers.hint import find_hint

_EVERY = 5.0  # s
# Of sites with little news: ten thousand small ones are not worth ten thousand calls every time.
_PATIENCE = 30.0
_FEW = 10
_MOST = 20_000  # sites; beyond it good news are forgotten
_TEXT = 300
# Deliveries of a source that was put off or blocked which are told at once: what was under way, and the
# probes, one of which waits for the word of the other.
_WATCHED = 20

# What our own fault is not: these say something about the source, or the way that it sends.
_THROTTLED = frozenset({"slow-source", "slow-netblock"})
_STOPS = _THROTTLED | {"quarantine-source"}
_CONTENT = frozenset({"content_spam", "content_malware"})
# What a report counts.
_COUNTS = (
    *("delivered", "throttled", "crowded", "blocked"),
    *("unknown", "content", "complaints"),
)

_log = logging.getLogger("outgate.worker")


@dataclass(slots=True)
class _News:
    """What is to be told of one site."""

    since: float  # trio time
    reports: dict[str, Report] = field(default_factory=dict)  # by source
    put_off: dict[str, PutOff] = field(default_factory=dict)  # by tenant
    bad: bool = False  # or otherwise not to be kept back

    def find(self, source: str) -> Report:
        report = self.reports.get(source)
        if report is None:
            report = self.reports[source] = Report(source)
        return report

    def add(self, newer: "_News") -> None:
        """Take in what has come after it."""
        for source, report in newer.reports.items():
            ours = self.find(source)
            for name in _COUNTS:
                setattr(ours, name, getattr(ours, name) + getattr(report, name))
            ours.rest, ours.why = max(ours.rest, report.rest), report.why or ours.why
        self.put_off |= newer.put_off
        self.bad = self.bad or newer.bad

    @property
    def is_little(self) -> bool:
        return not self.bad and sum(one.delivered for one in self.reports.values()) < _FEW


class Reporter:
    """Of one worker process."""

    def __init__(
        self,
        config: Config,
        standings: Standings,
        events: EventLog,
        *,
        find_rate: Callable[[str], float] = lambda site: 0.0,
    ) -> None:
        """``find_rate``: the configured rate of each source at a site, deliveries/s; 0: none."""
        self._standings = standings
        self._events = events
        self._on = config.reputation.enabled
        self._neighbours = _find_neighbours(config.source)
        self._find_rate = find_rate
        self._news: dict[str, _News] = {}
        self._watched: dict[
            tuple[str, str], int
        ] = {}  # site, source: deliveries to be told at once
        self._bell = trio.Event()

    def note(self, site: str, source: str, tenant: str, outcomes: Iterable[Outcome]) -> bool:
        """Take in what one attempt brought.

        Returns True when the source should send nothing more to the site until the store has said
        how it goes on.
        """
        if not self._on:
            return False
        news = self._find_news(site)
        report = news.find(source)
        delivered = answered = stops = False
        for outcome in outcomes:
            if outcome.disposition is Disposition.DELIVERED:
                delivered = True
            elif outcome.action in _STOPS:
                if not stops:  # once for a message, however many recipients it has
                    self._blame_source(news, report, outcome)
                stops = True
            else:
                self._take_in(news, report, tenant, outcome)
                answered = answered or outcome.code > 0
        report.delivered += delivered
        report.answered += answered and not delivered and not stops
        if delivered and self._is_watched(site, source):
            news.bad = True
        if news.bad:
            self._bell.set()
        return stops

    def watch(self, site: str, source: str) -> None:
        """A source was put off or blocked at a site: what it delivers then is news."""
        if len(self._watched) >= _MOST:
            self._watched.clear()
        self._watched[site, source] = _WATCHED

    def _is_watched(self, site: str, source: str) -> bool:
        left = self._watched.pop((site, source), 0)
        if left > 1:
            self._watched[site, source] = left - 1
        return left > 0

    def _find_news(self, site: str) -> _News:
        news = self._news.get(site)
        if news is None:
            if len(self._news) >= _MOST:
                self._news = {name: one for name, one in self._news.items() if one.bad}
            news = self._news[site] = _News(trio.current_time())
        return news

    def _take_in(self, news: _News, report: Report, tenant: str, outcome: Outcome) -> None:
        """Count an answer that was not yes, and is not about the source."""
        match outcome.action:
            case "fewer-connections":
                report.crowded += 1
                news.bad = True
            case "slow-tenant":
                rest = max(outcome.rest, find_hint(outcome) or 0.0)
                news.put_off[tenant] = PutOff(tenant, rest, outcome.text[:_TEXT])
                news.bad = True
            case _:
                report.unknown += outcome.label == "mailbox_unknown"
                report.content += outcome.label in _CONTENT

    def _blame_source(self, news: _News, report: Report, outcome: Outcome) -> None:
        sources = [report.source]
        if outcome.action == "slow-netblock":
            sources = self._neighbours.get(report.source, sources)
        for name in sources:
            one = news.find(name)
            if outcome.action in _THROTTLED:
                one.throttled = (
                    max(1, one.throttled) if name != report.source else one.throttled + 1
                )
            else:
                one.blocked += 1
            one.rest = max(one.rest, find_hint(outcome) or 0.0)
            one.usual = max(one.usual, outcome.rest)
            one.why = outcome.text[:_TEXT]
        news.bad = True

    def note_signal(self, site: str, source: str, tenant: str, *, complaint: bool) -> None:
        """Count what came back later: a complaint, or a bounce of what a host had taken."""
        if self._on:
            report = self._find_news(site).find(source)
            report.complaints += complaint
            report.unknown += not complaint

    # -- handing in ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Hand in what gathers, until cancelled."""
        while True:
            with trio.move_on_after(_EVERY) as timer:
                await self._bell.wait()
            self._bell = trio.Event()
            await self.flush(bad_only=not timer.cancelled_caught)

    async def flush(self, *, bad_only: bool = False, everything: bool = False) -> None:
        """Hand in what has gathered. Bad news that the store does not take now are kept."""
        now = trio.current_time()
        for site, news in list(self._news.items()):
            waits = news.is_little and now - news.since < _PATIENCE
            is_due = everything or not (waits or (bad_only and not news.bad))
            # While we waited for the store it may have been forgotten (_MOST).
            if is_due and self._news.pop(site, None) is news:
                await self._hand_in(site, news)

    async def _hand_in(self, site: str, news: _News) -> None:
        for report in news.reports.values():
            report.most = self._find_rate(site)
        try:
            changes = await self._standings.report(
                site, list(news.reports.values()), list(news.put_off.values())
            )
        except (StoreUnavailable, StoreError) as error:
            _log.warning("site %s: not told what became of deliveries: %s", site, error)
            if news.bad:
                if (newer := self._news.get(site)) is not None:
                    news.add(newer)
                self._news[site] = news
            return
        for change in changes:
            self._tell(site, change)

    def _tell(self, site: str, change: Change) -> None:
        event: dict[str, object] = {
            "time": time.time(),
            "event": change.kind.replace("_", "-"),
            "site": site,
        }
        for name in ("source", "tenant", "before", "pace", "connections", "count", "score"):
            value = getattr(change, name)
            if value not in (None, "", 0):
                event[name] = value
        if change.rest:
            event["wait"] = round(change.rest, 1)
        if change.till:
            event["until"] = change.till
        self._events.write(encode_event(event | {"text": change.why}))


def _find_neighbours(sources: Sequence[Source]) -> dict[str, list[str]]:
    """Return for each source those of its netblock, itself included: a /24, of IPv6 a /64."""
    blocks: dict[object, list[str]] = {}
    for source in sources:
        address = ipaddress.ip_address(source.address)
        length = 24 if address.version == 4 else 64
        block = ipaddress.ip_network(f"{address}/{length}", strict=False)
        blocks.setdefault(block, []).append(source.name)
    return {name: names for names in blocks.values() for name in names}
