"""The reason why deliveries wait, what opens next, and when: read off the store, as workers see it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.config import Config, Rate
from relay.store.gateview import Gate, GateView, Left
from relay.store.keys import NOWHERE, SHUT, Lane, Queue, read_lane
from relay.store.queue import Store
from relay.store.share import Shares, State
from relay.store.suspension import Suspension, Suspensions
from workers.berth import make_limits
from workers.cli.page import format_span, format_time
from workers.share import slow_down
from workers.site import Sites


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
            if reason.word == "rest":
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
        closed = [
            self._explain_source(gate, name) for name in self.list_members(pool, queue.source)
        ]
        if closed and all(closed):
            return _first([reason for reason in closed if reason])
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
        left = gate.source_left.get(source)
        if left is not None and left.count < 1:
            return self._wait("source rate", f"rate of source {source} there is used up", left)
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


async def read_situation(
    store: Store, config: Config, *, sites: Iterable[str] = (), tenants: Iterable[str] = ()
) -> Situation:
    """Read what holds now, with the gates of some sites and the rates of some tenants."""
    suspensions = Suspensions(store.link)
    now = await suspensions.read_clock()
    view = GateView(store.link, now)
    known = Sites(config)
    limits = [
        make_limits(known.find(name))
        for name in dict.fromkeys(sites)
        if name not in ("", NOWHERE, SHUT)
    ]
    sources = [source.name for source in config.source]
    shares = await _read_shares(store, config)
    rates = _find_rates(config, set(tenants), shares)
    return Situation(
        config=config,
        sites=known,
        now=now,
        suspended=await suspensions.read(),
        alive=await view.read_presence(),
        gates=await view.read(limits, sources, list(config.pool)),
        tenants={name: await view.read_tenant(name, rate) for name, rate in rates.items()},
        shares=shares,
    )


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


def _first(reasons: Sequence[Reason]) -> Reason:
    """Return the one that opens first; one without a time opens last."""
    return min(reasons, key=lambda one: float("inf") if one.opens is None else one.opens)
