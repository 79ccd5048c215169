"""What all parts of a worker process share: settings, the store, and who else is there.

Presence, suspensions and what tenants are held or slowed for are mirrored here. A worker says every few seconds that it is alive, and
which sources and pools it serves; the rotation deals turns to those that are. A source that cannot
be used from here is not announced by us; another worker may.
"""

import logging
import math
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from relay.config import Config, Rate
from relay.config.schema import Source
from relay.errors import SourceUnusable, StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.model import Delivery
from relay.net.egress import Egress, make_egress
from relay.store.gate import Gates
from relay.store.queue import Store
from relay.store.suspension import Suspension, Suspensions
from workers.ending import Ending
from workers.hosts import find_family
from workers.opening import Opener
from workers.reporter import Reporter
from workers.route import Router
from workers.share import TenantShares

_log = logging.getLogger("outgate.worker")

ANNOUNCE = 5.0  # seconds between two signs of life; three of them may be missed (store/gate.py)
_CHECK_PATIENCE = 10.0


@dataclass
class Desk:
    """Shared by the feeders and lanes of one worker process."""

    config: Config
    store: Store
    gates: Gates
    router: Router
    ending: Ending
    opener: Opener
    events: EventLog
    worker: str
    sources: dict[str, Source]
    egresses: dict[str, Egress]
    suspensions: Suspensions
    reporter: Reporter
    suspended: list[Suspension] = field(default_factory=list)
    ahead: float = 0.0  # seconds by which the store's clock is ahead of ours
    tenant_rates: dict[str, tuple[Rate, ...]] = field(default_factory=dict)
    shares: TenantShares = field(init=False)
    _alive: frozenset[str] = frozenset()
    _excluded: dict[tuple[str, socket.AddressFamily], float] = field(default_factory=dict)
    _unusable: dict[str, str] = field(default_factory=dict)  # source -> why
    _closed: dict[tuple[str, str], float] = field(default_factory=dict)  # source, site -> until

    def __post_init__(self) -> None:
        self.shares = TenantShares(self.config, self.store.link, self.events)

    def now(self) -> float:
        """Return the store's time, seconds since 1970: workers' clocks may be minutes apart."""
        return time.time() + self.ahead

    # -- sources ------------------------------------------------------------------------------

    def list_ours(self, pool: str) -> list[str]:
        """Return our sources of a pool that can be used just now."""
        members = self.config.pool.get(pool, {})
        return [n for n, weight in members.items() if weight and self.is_usable(n)]

    def is_usable(self, source: str) -> bool:
        """Tell whether a source is ours, and its address is to be had."""
        return source in self.sources and source not in self._unusable

    def find_weights(self, pool: str) -> dict[str, int]:
        """Return weights of the sources of a pool that somebody alive serves."""
        members = self.config.pool.get(pool, {})
        return {
            name: weight
            for name, weight in members.items()
            if weight and (f"source:{name}" in self._alive or self.is_usable(name))
        }

    def is_served(self, pool: str, source: str = "") -> bool:
        """Tell whether somebody alive sends for a pool, or from a source."""
        return (f"source:{source}" if source else f"pool:{pool}") in self._alive

    def set_aside(self, source: Source, error: SourceUnusable) -> None:
        """A source cannot be used from here: say so once, and do without it until it can."""
        if source.name in self._unusable:
            return
        self._unusable[source.name] = str(error)
        _log.error("source %s: %s; its work goes to others", source.name, error)
        self._report("suspended", source, str(error))

    async def watch_sources(self) -> None:
        """Try the sources that were set aside; an address may come back. Until cancelled."""
        while True:
            await trio.sleep(ANNOUNCE)
            for name in list(self._unusable):
                await self.try_source(self.sources[name])

    async def try_source(self, source: Source) -> None:
        """See whether a source can be used, and note it."""
        try:
            with trio.fail_after(_CHECK_PATIENCE):
                await self.egresses[source.name].check()
        except SourceUnusable as error:
            self.set_aside(source, error)
        except trio.TooSlowError:
            self.set_aside(source, SourceUnusable("its proxy does not answer"))
        else:
            if self._unusable.pop(source.name, None) is not None:
                _log.warning("source %s can be used again", source.name)
                self._report("resumed", source, "it can be used again")

    def _report(self, name: str, source: Source, text: str) -> None:
        event = {
            "time": time.time(),
            "event": name,
            "source": source.name,
            "worker": self.worker,
            "text": text,
        }
        self.events.write(encode_event(event))

    def exclude(self, site: str, family: socket.AddressFamily, seconds: float) -> None:
        """A site has no address of a family: our sources of that family leave it to others."""
        self._excluded[site, family] = trio.current_time() + seconds

    def reaches(self, source: str, site: str) -> bool:
        """Tell whether a source is of a family that the site has addresses of, as far as we know."""
        if not self._excluded:
            return True
        address = next((s.address for s in self.config.source if s.name == source), "")
        until = self._excluded.get((site, find_family(address)), -math.inf)
        return until <= trio.current_time()

    def close(self, source: str, site: str, until: float) -> None:
        """A receiver has put a source off, or blocked it: until a time of the store's clock.

        The gate lets it have nothing until then; here it is known for what has been claimed already.
        """
        now = self.now()
        self._closed = {pair: end for pair, end in self._closed.items() if end > now}
        self._closed[source, site] = max(until, self._closed.get((source, site), 0.0))

    def is_closed(self, source: str, site: str) -> bool:
        """Tell whether a source has to be silent at a site, as far as we have heard."""
        return bool(self._closed) and self._closed.get((source, site), 0.0) > self.now()

    # -- who is there -------------------------------------------------------------------------

    def list_signs(self) -> list[str]:
        """Return what we announce."""
        usable = [name for name in self.sources if name not in self._unusable]
        pools = [pool for pool in self.config.pool if self.list_ours(pool)]
        return [
            f"worker:{self.worker}",
            *(f"source:{name}" for name in usable),
            *(f"pool:{pool}" for pool in pools),
        ]

    async def announce(self) -> None:
        """Give a sign of life and see who else does. Raises StoreUnavailable, StoreError."""
        self._alive = await self.gates.announce(*self.list_signs())
        self.ahead = await self.suspensions.read_clock() - time.time()

    async def read_suspensions(self) -> None:
        """Mirror what operators have suspended, and who is held. Raises StoreUnavailable, StoreError."""
        self.suspended = await self.suspensions.read()
        await self.shares.read()

    async def leave(self) -> None:
        """Take back our signs of life; who has the same sources or pools is asked for theirs."""
        with trio.move_on_after(ANNOUNCE):
            try:
                await self.gates.leave(*self.list_signs())
                await self.store.tell("present")
            except (StoreUnavailable, StoreError):
                return

    # -- suspensions --------------------------------------------------------------------------

    def is_suspended(self, *, tenant: str = "", site: str = "", source: str = "") -> bool:
        """Tell whether an operator has suspended all that matches these, or the tenant is held."""
        return self.shares.state(tenant).state == "hold" or any(
            one.covers(tenant=tenant, site=site, source=source) and not self._has_ended(one)
            for one in self.suspended
        )

    def find_why(self, tenant: str) -> str:
        """Return why a tenant that is suspended is: the word of a feeder that waits for it."""
        state = self.shares.state(tenant)
        return f"held: {state.reason}" if state.state == "hold" else "suspended"

    def find_tenant_rates(self, tenant: str) -> tuple[Rate, ...]:
        """Return the rates of a tenant's deliveries, lower ones while it is slowed; () for none."""
        return self.shares.find_rates(tenant, self.tenant_rates.get(tenant, ()))

    def is_withheld(self, delivery: Delivery, *, site: str, source: str) -> bool:
        """Tell whether an operator lets a delivery not go to a site from a source, for now."""
        return (
            self.is_suspended(site=site, source=source)
            or self.is_suspended(tenant=delivery.tenant, site=site)
            or any(
                one.domain == delivery.domain
                and one.tenant in ("", delivery.tenant)
                and not self._has_ended(one)
                for one in self.suspended
            )
        )

    def find_end(self) -> float | None:
        """Return the seconds until the first suspension ends by itself."""
        ends = [one.until for one in self.suspended if one.until and not self._has_ended(one)]
        return min(ends) - self.now() if ends else None

    def _has_ended(self, one: Suspension) -> bool:
        return one.until is not None and one.until <= self.now()


def make_egresses(sources: Iterable[Source]) -> dict[str, Egress]:
    """Return the way out of each source. Raises ConfigError."""
    return {source.name: make_egress(source) for source in sources}
