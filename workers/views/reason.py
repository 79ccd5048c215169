"""The reason why deliveries wait, what opens next, and when: read off the store, as workers see it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.config import Config, Rate
from relay.store.gateview import Gate, GateView, Left
from relay.store.gather import gather, together
from relay.store.keys import NOWHERE, SHUT, Lane, Queue, read_lane
from relay.store.queue import Store
from relay.store.share import Shares, State
from relay.store.standing import Standing, Standings
from relay.store.suspension import Suspension, Suspensions
from workers.berth import make_limits
from workers.share import slow_down
from workers.site import Sites
from workers.views.standing import add_why, format_pace, tell_probes, tell_quarantine
from workers.views.words import format_span, format_time

_SHUT_OUT = frozenset({"quarantine", "probe"})
# Words for what receivers' answers have brought about. It may last longer than a delivery's own wait.
_STANDING = _SHUT_OUT | {"throttled", "warm-up", "pace", "tenant put off"}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something waits. ``word`` is for programs; ``opens``: seconds since 1970, None: open."""

    word: str
    text: str
    opens: float | None = None


@dataclass(slots=True)
class Situation:
    """What holds for all queues at ``now`` (the store's clock)."""

    config: Config
    sites: Sites
    now: float
    suspended: list[Suspension]
    alive: dict[str, float]
    gates: dict[str, Gate]
    tenants: dict[str, Left]
    shares: dict[str, State] = field(default_factory=dict)  # of all tenants
    standings: dict[tuple[str, str], Standing] = field(default_factory=dict)  # by site and source
    # By site: tenants that it has put off, until when (seconds since 1970), and why.
    put_off: dict[str, dict[str, tuple[float, str]]] = field(default_factory=dict)

    # -- who may send -------------------------------------------------------------------------

    def find_suspension(
        self, *, tenant: str = "", domain: str = "", site: str = "", source: str = ""
    ) -> Suspension | None:
        """Return the suspension that ends last of those that cover this."""
        found = [
            one
            for one in self.suspended
            if one.covers(tenant=tenant, site=site, source=source)
            or (domain and one.domain == domain and one.tenant in ("", tenant))
        ]
        return max(found, key=lambda one: one.until or float("inf"), default=None)

    def list_members(self, pool: str, source: str = "") -> list[str]:
        """Return the sources that may send for a pool, or the one that something is pinned to."""
        members = self.config.pool.get(pool, {})
        return [source] if source else [name for name, weight in members.items() if weight]

    # -- why ----------------------------------------------------------------------------------

    def explain(self, queue: Queue, lane: str, paused: float | None = None) -> Reason:
        """Tell why what is ready in a queue waits.

        ``lane``: where it stands; "": nowhere, until ``paused``.
        """
        one = read_lane(lane) if lane else Lane(self._find_pool(queue.tenant), "", "", "", "")
        site = "" if one.site == SHUT else one.site
        stop = self._find_stop(queue, site)
        if stop is not None:
            return stop
        if one.site == SHUT:
            return Reason("resuming", "was suspended; a worker takes it up again", self.now)
        served = f"source:{queue.source}" if queue.source else f"pool:{one.pool}"
        if served not in self.alive:
            what = f"source {queue.source}" if queue.source else f"pool {one.pool}"
            return Reason("unserved", f"no worker that is alive serves {what}")
        if not lane and paused is not None:
            text = "its hosts were not reached, or have enough in hand"
            return Reason("pause", f"{text}; next look {self.tell(paused)}", paused)
        if not site:
            return Reason("look-up", "its site is being looked up")
        if site == NOWHERE:
            return Reason("nowhere", "no route could be told; the next look ends or defers it")
        return self._explain_gates(queue, one.pool, site)

    def explain_due(self, queue: Queue, site: str, due: float) -> Reason:
        """Tell what a queue waits for that has nothing ready: a time, and what may come after it."""
        stop = self._find_stop(queue, site, queue.source)
        if stop is not None:
            return stop
        if site in self.gates:
            reason = self._explain_gates(queue, self._find_pool(queue.tenant), site)
            if reason.word == "rest" or _outlasts(reason, due):
                return reason
        return Reason("due", f"next attempt {self.tell(due)}", due)

    def _find_stop(self, queue: Queue, site: str, source: str = "") -> Reason | None:
        """Tell who does not let a queue's mail go to a site: an operator, or its tenant's share."""
        covering = self.find_suspension(
            tenant=queue.tenant, domain=queue.domain, site=site, source=source
        )
        if covering is not None:
            return self.describe(covering)
        share = self.shares.get(queue.tenant)
        if share is None or share.state != "hold":
            return None
        undo = f"`outgate resume --tenant {queue.tenant}`"
        text = f"its tenant is held: {share.reason}; until the share has fallen, or {undo}"
        return Reason("tenant held", text)

    def _find_pool(self, tenant: str) -> str:
        found = (one.pool for one in self.config.tenant if one.name == tenant)
        return next(found, next(iter(self.config.pool), ""))

    def _explain_gates(self, queue: Queue, pool: str, site: str) -> Reason:
        gate = self.gates.get(site)
        if gate is None:
            return Reason("ready", "could go now", self.now)
        if queue.tenant in self.put_off.get(site, {}):
            until, why = self.put_off[site][queue.tenant]
            text = f"{site} has put tenant {queue.tenant} off until {self._tell_until(until)}"
            return Reason("tenant put off", add_why(text, why), until)
        found = [self._explain_source(gate, name) for name in self.list_members(pool, queue.source)]
        closed = [reason for reason in found if reason]
        if closed and len(closed) == len(found):
            return _join(closed, site)
        tenant = self.tenants.get(queue.tenant)
        if tenant is not None and tenant.count < 1:
            share = self.shares.get(queue.tenant)
            why = f" (its tenant is slowed: {share.reason})" if share and share.state else ""
            text = f"rate of tenant {queue.tenant} is used up{why}"
            return self._wait("tenant rate", text, tenant)
        if not gate.is_open:
            return self._wait("site rate", f"rate of site {site} is used up", gate.left)
        most = self.sites.find(site).connections
        there = sum(gate.connections.values())
        if most and there >= most:
            return Reason("connections", f"all {most} connections of site {site} are in use")
        if gate.owed:
            names = ", ".join(sorted(gate.owed))
            return Reason("turn", f"it is the turn of source {names}, passed over after 1 s")
        return Reason("ready", "could go now: workers take it as they have room", self.now)

    def _explain_source(self, gate: Gate, source: str) -> Reason | None:
        """Tell why a source does not send to a site; None: it may."""
        covering = self.find_suspension(site=gate.site, source=source)
        if covering is not None:
            return self.describe(covering)
        if f"source:{source}" not in self.alive:
            return Reason("unserved", f"no worker that is alive has source {source}")
        rest = gate.rests.get(source)
        if rest is not None:
            text = f"site {gate.site} was not reached from source {source}"
            times = f", {rest.failures} times" if rest.failures > 1 else ""
            return Reason(
                "rest", f"{text}{times}; it is tried again {self.tell(rest.until)}", rest.until
            )
        standing = self._explain_standing(gate.site, source)
        if standing is not None:
            return standing
        left = gate.source_left.get(source)
        if left is not None and left.count < 1:
            return self._wait("source rate", f"rate of source {source} there is used up", left)
        return None

    def _explain_standing(self, site: str, source: str) -> Reason | None:
        """Tell what a source's standing at a site does not allow: the gate's order, and words."""
        one = self.standings.get((site, source))
        if one is None:
            return None
        name = f"source {source}"
        if (shut := one.quarantine) is not None:
            if shut.until > self.now:
                text = tell_quarantine(shut, self.now, at=site)
                return Reason("quarantine", f"{name} is {text}", shut.until)
            if shut.probe_until > self.now:
                text = f"{name} is probed at {site}, a message at a time"
                return Reason(
                    "probe", f"{text}: {tell_probes(shut, self.config)}", shut.probe_until
                )
        if one.rests_until > self.now:
            text = f"{name} was throttled at {site}: silent for"
            text = f"{text} {format_span(one.rests_until - self.now)}"
            return Reason("throttled", add_why(text, one.why), one.rests_until)
        day = one.warmup
        if day is not None and day.allowance is not None and day.used >= day.allowance:
            text = f"warm-up of {name} at {site}: today's {day.allowance:,} are used"
            return Reason("warm-up", f"{text}, next {self.tell(day.next_day)}", day.next_day)
        if one.pace_opens > self.now:
            text = f"pace {format_pace(one.pace)} of {name} at {site} is used up"
            return Reason("pace", f"{text}; opens {self.tell(one.pace_opens)}", one.pace_opens)
        return None

    def _wait(self, word: str, text: str, left: Left) -> Reason:
        return Reason(word, f"{text}; opens {self.tell(left.opens)}", left.opens)

    def describe(self, one: Suspension) -> Reason:
        """Return a suspension as a reason."""
        by = f" by {one.who}" if one.who else ""
        why = f": {one.why}" if one.why else ""
        ends = "until resumed" if one.until is None else f"ends {self.tell(one.until)}"
        text = f"{one.name or 'everything'} suspended{by}{why}; {ends}"
        return Reason("suspended", text, one.until)

    def tell(self, moment: float) -> str:
        """Say when: in how long, and at what time if that is not soon."""
        span = moment - self.now
        at = f", at {format_time(moment)}" if span >= 3600 else ""
        return f"in {format_span(span)}{at}"

    def _tell_until(self, moment: float) -> str:
        return f"{format_time(moment)} (in {format_span(moment - self.now)})"


@dataclass(frozen=True, slots=True)
class Moment:
    """What must be known before the rest of a situation can be asked for."""

    now: float  # seconds since 1970, on the store's clock
    shares: dict[str, State]  # of all tenants


async def read_moment(store: Store, config: Config) -> Moment:
    """Read it: one journey to the store."""
    found = await together(
        now=Suspensions(store.link).read_clock, shares=lambda: _read_shares(store, config)
    )
    return Moment(**found)


async def read_situation(
    store: Store,
    config: Config,
    *,
    sites: Iterable[str] = (),
    tenants: Iterable[str] = (),
    moment: Moment | None = None,
) -> Situation:
    """Read what holds now, with the gates of some sites and the rates of some tenants.

    A journey to the store, and one for the ``moment`` where it was not read beside something else:
    while mail flows at full speed, each takes its time.
    """
    moment = moment or await read_moment(store, config)
    now = moment.now
    view = GateView(store.link, now)
    known = Sites(config)
    limits = [
        make_limits(known.find(name))
        for name in dict.fromkeys(sites)
        if name not in ("", NOWHERE, SHUT)
    ]
    sources, pools = [source.name for source in config.source], list(config.pool)
    standings = Standings(store.link, config)
    names = [one.site for one in limits]
    rates = _find_rates(config, set(tenants), moment.shares)
    found = await together(
        gates=lambda: view.read(limits, sources, pools),
        suspended=Suspensions(store.link).read,
        alive=view.read_presence,
        tenants=lambda: gather(lambda name: view.read_tenant(name, rates[name]), rates),
        standings=lambda: standings.read(names, now),
        put_off=lambda: standings.read_put_off(names, now),
    )
    return Situation(config=config, sites=known, now=now, shares=moment.shares, **found)


async def _read_shares(store: Store, config: Config) -> dict[str, State]:
    if not config.reputation.enabled:
        return {}
    shares = Shares(store.link, config.reputation.tenant)
    return await shares.read([tenant.name for tenant in config.tenant])


def _find_rates(
    config: Config, wanted: set[str], shares: Mapping[str, State]
) -> dict[str, tuple[Rate, ...]]:
    """Return the rates in force, of the tenants that have some: who is slowed has others."""
    rates = {t.name: t.rate.windows for t in config.tenant if t.rate and t.name in wanted}
    slow = config.reputation.tenant.slow_to.windows
    for name, share in shares.items():
        if share.state == "slow":
            rates[name] = slow_down(rates.get(name, ()), slow)
    return rates


def _outlasts(reason: Reason, due: float) -> bool:
    """Tell whether a standing keeps mail for longer than until it is due."""
    return reason.word in _STANDING and reason.opens is not None and reason.opens > due


def _join(closed: Sequence[Reason], site: str) -> Reason:
    """Return why none of several sources sends: of the one that does so first."""
    first = _first(closed)
    if all(reason.word in _SHUT_OUT for reason in closed):
        text = f"all sources are quarantined at {site}: mail waits, nothing is sent anyway"
        return Reason(first.word, f"{text}; first, {first.text}", first.opens)
    return first


def _first(reasons: Sequence[Reason]) -> Reason:
    """Return the one that opens first; one without a time opens last."""
    return min(reasons, key=lambda one: float("inf") if one.opens is None else one.opens)
