"""Metrics for Prometheus: the ledger, what waits, who sends, and what all processes have counted.

One look at the store for each time that somebody asks; what it costs does not grow with the queue. The
ledger's numbers are exact. What processes count themselves (relay/counters.py) is up to two seconds old,
and a crash loses as much. What strangers choose, sites above all, is bounded: SITES of them have their
names, the rest is "other".
"""

import contextlib
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from relay import __version__
from relay.config import Config
from relay.counters import HISTOGRAMS, LABELS, OTHER, SUM, TENANTS
from relay.errors import OutgateError
from relay.store.counters import SOURCE, Books, Counted
from relay.store.gather import together
from relay.store.link import Link
from relay.store.queue import Store
from relay.store.standing import Standing, Standings
from relay.store.suspension import Suspension, Suspensions
from workers.admin.top import Top
from workers.views.backlog import Backlog, read_backlog
from workers.views.selection import Selection
from workers.views.standing import KNOWN
from workers.views.status import read_readiness, read_status

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SITES = 50  # that have their names
_PATIENCE = 5.0  # s, for the look at the store
_OUTCOMES = ("accepted", "delivered", "bounced", "unknown")
_STATES = ("ready", "due", "claimed")
_KINDS = ("tenant", "domain", "site", "source")

_HELP = {
    "messages": "Messages by tenant, and what they were answered.",
    "message_bytes": "Octets of messages accepted (in) and delivered (out).",
    "attempts": "Transactions with hosts, and what they brought.",
    "replies": "Answers about recipients by what they were read as, or by the first digit.",
    "tls_sessions": "SMTP sessions that brought messages (in) or were opened (out), by their TLS.",
    "events_dropped": "Events that listeners were not told, because there were too many.",
    "accept_seconds": "From a message's final dot to its 250.",
    "delivery_seconds": "From there until a host has taken a delivery.",
    "attempt_seconds": "How long a transaction with a host took.",
}

Processes = Mapping[tuple[str, str, str], Mapping[str, float]]


@dataclass(slots=True)
class _Look:
    """What the store said."""

    status: dict[str, Any]
    backlog: Sequence[Backlog]
    suspended: list[Suspension]
    counted: Counted
    processes: Processes
    standings: list[Standing]
    replicas: int
    now: float
    sites: list[str] = field(default_factory=list)


class Metrics:
    """Makes the text. One for each process that shows it."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config
        self._books = Books(store.link)
        self._tops = {"site": Top(SITES), "tenant": Top(TENANTS)}
        self._turn = trio.Lock()  # what is "other" is reckoned from one look to the next

    async def render(
        self, backlog: Sequence[Backlog] | None = None, status: dict[str, Any] | None = None
    ) -> bytes:
        """Return the exposition, of CONTENT_TYPE. Without the store what does not need it.

        ``backlog``: what waits, ``status``: what ``read_status`` returned, when that has been looked
        at lately: they cost more than all the rest.
        """
        async with self._turn:
            look = None
            with contextlib.suppress(OutgateError), trio.move_on_after(_PATIENCE):
                look = await self._look(backlog, status)
            families = [] if look is None else list(self._describe(look))
        return await trio.to_thread.run_sync(self._write, families, look is not None)

    async def _look(
        self, backlog: Sequence[Backlog] | None, status: dict[str, Any] | None
    ) -> _Look:
        store, config = self._store, self._config
        if backlog is None:
            backlog, _ = await read_backlog(store, Selection())
        waiting = list(backlog)
        suspensions, standings = Suspensions(store.link), Standings(store.link, config)

        async def read_state() -> dict[str, Any]:
            return status or await read_status(store, config, waiting)

        read = await together(
            now=suspensions.read_clock,
            suspended=suspensions.read,
            counted=self._books.read,
            processes=self._books.read_gauges,
            judged=standings.list_sites,
            status=read_state,
            replicas=lambda: _count_replicas(store.link),
        )
        sites = self._choose(read["counted"], waiting)
        # Where a source is in trouble, that is to be seen, busy or not.
        judged = read.pop("judged")[:SITES]
        found = await standings.read(dict.fromkeys([*judged, *sites]), read["now"])
        ours = {source.name for source in config.source}
        return _Look(
            backlog=waiting,
            standings=[one for one in found.values() if one.source in ours],
            sites=sites,
            **read,
        )

    def _choose(self, counted: Counted, backlog: Sequence[Backlog]) -> list[str]:
        """Choose who is named; return the sites."""
        for name, label in (("attempts", "site"), ("messages", "tenant")):
            place = LABELS[name].index(label)
            self._tops[label].choose(name, _fit(name, counted), place)
        return self._tops["site"].names

    def _write(self, families: list[Metric], store_up: bool) -> bytes:
        """In a thread: files are read, and much text is written."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Given([*families, *_tell_host(self._config, store_up)]))
        return generate_latest(registry)

    # -- what it says ---------------------------------------------------------------------------

    def _describe(self, look: _Look) -> Iterator[Metric]:
        yield from _tell_books(look.status)
        yield from _tell_queues(look)
        yield from _tell_sources(look, self._config)
        yield from _tell_standings(look.standings, look.now)
        yield from _tell_operations(look, self._config)
        yield from _tell_store(look, self._config)
        yield from _tell_processes(look.processes)
        for name, labels in LABELS.items():
            yield self._count(name, labels, look.counted)
        for name in HISTOGRAMS:
            yield _spread(name, look.counted.get(name, {}))

    def _count(self, name: str, labels: tuple[str, ...], counted: Counted) -> Metric:
        family = CounterMetricFamily(f"outgate_{name}", _HELP[name], labels=labels)
        values: Iterable[tuple[tuple[str, ...], int]] = _fit(name, counted).items()
        for place, label in enumerate(labels):
            if label in self._tops:
                values = self._tops[label].show(name, dict(values), place)
        if not labels:
            values = dict(values).items() or [((), 0)]
        for found, value in values:
            family.add_metric(found, value)
        return family


class _Given(Collector):
    """A collector of what has been read already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return it."""
        return self._families


def _fit(name: str, counted: Counted) -> dict[tuple[str, ...], int]:
    """Return what was counted, but for what another version counted with other labels."""
    width = len(LABELS[name])
    return {labels: n for labels, n in counted.get(name, {}).items() if len(labels) == width}


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"outgate_{name}", text, labels=labels)


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"outgate_{name}", text, value=value)


def _spread(name: str, counted: Mapping[tuple[str, ...], int]) -> Metric:
    """Return a histogram: its buckets hold what is below their bound, all of it."""
    family = HistogramMetricFamily(f"outgate_{name}", _HELP[name])
    buckets, below = [], 0
    for bound in (*(f"{bound:g}" for bound in HISTOGRAMS[name]), "+Inf"):
        below += counted.get((bound,), 0)
        buckets.append((bound if bound == "+Inf" else str(float(bound)), float(below)))
    family.add_metric([], buckets, counted.get((SUM,), 0) / 1e6)
    return family


def _tell_books(status: dict[str, Any]) -> Iterator[Metric]:
    ledger, notices = status["ledger"], status["notices"]
    for name, text, book in (
        ("recipients", "Recipients of mail from outside, by what became of them.", ledger),
        ("notices", "Recipients of notices that we wrote ourselves.", notices),
    ):
        family = CounterMetricFamily(f"outgate_{name}", text, labels=["outcome"])
        for outcome in _OUTCOMES:
            family.add_metric([outcome], book[outcome])
        yield family
    yield _single(
        "recipients_queued", "Recipients of mail that is neither delivered nor bounced.",
        ledger["queued"],
    )  # fmt: skip
    yield _single(
        "ledger_difference", "Recipients that the ledger does not account for; 0, or mail is lost.",
        sum(abs(b["accepted"] - b["delivered"] - b["bounced"] - b["queued"]) for b in (ledger, notices)),
    )  # fmt: skip


def _tell_queues(look: _Look) -> Iterator[Metric]:
    deliveries = look.status["deliveries"]
    family = _gauge("deliveries", "Deliveries that wait, and those in workers' hands.", "state")
    for state in _STATES:
        family.add_metric([state], deliveries[state])
    yield family
    yield _single("queues", "Queues: tenants' recipient domains.", deliveries["queues"])
    yield _single(
        "oldest_delivery_age_seconds", "Since when the oldest delivery waits; 0: nothing waits.",
        deliveries["oldest"] or 0.0,
    )  # fmt: skip
    family = _gauge("site_deliveries", "Deliveries that wait, by site.", "site")
    waiting: Counter[str] = Counter()
    for one in look.backlog:
        waiting[one.site or "unknown"] += one.total
    named = dict(waiting.most_common(SITES))
    # What has been busy is shown with nothing, too: it has come to rest.
    for site in look.sites[: SITES - len(named)]:
        named.setdefault(site, 0)
    for site, count in named.items():
        family.add_metric([site], count)
    family.add_metric([OTHER], waiting.total() - sum(named.values()))
    yield family


def _tell_sources(look: _Look, config: Config) -> Iterator[Metric]:
    family = _gauge("source_up", "Whether some worker sends from a source.", "source")
    for name, alive in look.status["sources"].items():
        family.add_metric([name], int(alive))
    yield family
    counts = dict.fromkeys((source.name for source in config.source), 0.0)
    for gauges in look.processes.values():
        for name, value in gauges.items():
            source = name.removeprefix(SOURCE)
            if name != source and source in counts:
                counts[source] += value
    family = _gauge("connections", "SMTP sessions that are open from a source.", "source")
    for source, value in counts.items():
        family.add_metric([source], value)
    yield family
    yield _single("workers", "Worker processes that are alive.", look.status["workers"])


def _tell_standings(standings: Sequence[Standing], now: float) -> Iterator[Metric]:
    labels = ("source", "site")
    score = _gauge("standing_score", "What receivers' answers make of a source: 0 to 1.", *labels)
    pace = _gauge("standing_pace", "Deliveries a second that it is held to.", *labels)
    shut = _gauge("quarantined", "Whether a source sends nothing there but probes.", *labels)
    allowance = _gauge("warmup_allowance", "Deliveries of today's warm-up.", *labels)
    used = _gauge("warmup_used", "Those of them that are used.", *labels)
    for one in standings:
        names = (one.source, one.site)
        if one.evidence >= KNOWN:
            score.add_metric(names, one.score)
        if one.pace is not None:
            pace.add_metric(names, one.pace)
        shut.add_metric(names, int(one.quarantine is not None))
        if one.warmup is not None and one.warmup.allowance is not None:
            allowance.add_metric(names, one.warmup.allowance)
            used.add_metric(names, one.warmup.used)
    yield from (score, pace, shut, allowance, used)


def _tell_operations(look: _Look, config: Config) -> Iterator[Metric]:
    kinds = Counter(dict.fromkeys(_KINDS, 0))
    for one in look.suspended:
        kinds["+".join(kind for kind in _KINDS if getattr(one, kind)) or "everything"] += 1
    family = _gauge("suspensions", "Suspensions that hold, by what they are about.", "kind")
    for kind, count in kinds.items():
        family.add_metric([kind], count)
    yield family
    family = _gauge("tenant_state", "Whether a tenant is slowed or held.", "tenant", "state")
    names = [tenant.name for tenant in config.tenant]
    states = {name: one["state"] for name, one in look.status["tenants"].items()}
    # Those first that there is something to say of.
    for name in sorted(names, key=lambda name: not states.get(name))[:TENANTS]:
        for state in ("slow", "hold"):
            family.add_metric([name, state], int(states.get(name) == state))
    yield family


async def _count_replicas(link: Link) -> int:
    """Return how many replicas follow; of several masters the one that has fewest counts."""
    found = await link.call_each("INFO", "replication")
    counts = (
        int(line.partition(b":")[2])
        for _, info in found
        for line in info.splitlines()
        if line.startswith(b"connected_slaves:")
    )
    return min(counts, default=0)


def _tell_store(look: _Look, config: Config) -> Iterator[Metric]:
    store = look.status["store"]
    yield _single("store_memory_bytes", "Memory that the store uses.", store["memory"])
    yield _single(
        "store_memory_limit_bytes", "Memory that it may use; 0: as much as there is.",
        store["memory_limit"],
    )  # fmt: skip
    yield _single(
        "store_durable", "Whether what it acknowledges outlives a crash.",
        int(not store["weaknesses"]),
    )  # fmt: skip
    yield _single(
        "store_replicas", "Replicas that follow a master, where fewest do.", look.replicas
    )
    yield _single(
        "store_replicas_wanted", "Replicas that must have what is acknowledged (store.replicas).",
        config.store.replicas,
    )  # fmt: skip


def _tell_processes(processes: Processes) -> Iterator[Metric]:
    labels = ("service", "host", "pid")
    sessions = _gauge("sessions", "SMTP sessions that are open in a process.", *labels)
    memory = _gauge("process_resident_memory_bytes", "Memory of a process.", *labels)
    lag = _gauge("loop_lag_seconds", "How late the process's loop was, at most, of late.", *labels)
    cpu = CounterMetricFamily(
        "outgate_process_cpu_seconds", "Processor time of a process.", labels=labels
    )
    for names, gauges in processes.items():
        for name, family in (
            ("sessions", sessions),
            ("memory", memory),
            ("lag", lag),
            ("cpu", cpu),
        ):
            if name in gauges:
                family.add_metric(names, gauges[name])
    yield from (sessions, memory, lag, cpu)


def _tell_host(config: Config, store_up: bool) -> Iterator[Metric]:
    """What can be told without the store. Reads files."""
    yield _single("store_up", "Whether the store answers.", int(store_up))
    family = _gauge("build_info", "The version that shows this.", "version")
    family.add_metric([__version__], 1)
    yield family
    family = _gauge(
        "certificate_expiry_timestamp_seconds", "When a certificate of the ingress ends.", "name"
    )
    ends: dict[str, float] = {}
    for one in read_readiness(config, dt.datetime.now(dt.UTC))["certificates"]:
        name = next(iter(one["names"]), one["file"])
        expires = dt.datetime.fromisoformat(one["expires"]).timestamp()
        ends[name] = min(expires, ends.get(name, expires))
    for name, expires in ends.items():
        family.add_metric([name], expires)
    yield family
