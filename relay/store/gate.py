"""Gates: what limits and shares over all workers of all hosts, on the store's clock.

    reserve      how many deliveries may each source take for a site now?
    refund       ... those were not used
    take_slot    may a source open another connection to a site? (a lease)
    fail         no host of a site could be reached: a source rests there
    announce     who is alive

A gate lives under its site's tag, a delivery under its domain's: a claim reserves here first, takes
there, and refunds what it did not find. If a worker dies between the two, a few turns and a little
of a rate are lost for a moment; no mail is. What is reserved is not a promise to send: the
delivery may turn out to be expired, or its claim may be lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.config.units import Rate
from relay.store.keys import find_shard, make_key
from relay.store.link import Link, Part

# Who was not heard of for this long counts as gone, s; workers announce themselves three times in it.
PRESENCE = 15.0
_MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class SiteLimits:
    """What holds at one site, for all sources together and for each."""

    site: str
    connections: int  # 0: no limit
    rates: tuple[Rate, ...] = ()
    source_rates: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True)
class Want:
    """What one of our sources could do at a site: take ``room`` deliveries.

    It has so many connections there, and may have ``most``.
    """

    source: str
    room: int
    connections: int
    most: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What a source may take. ``failures``: in a row, so that this one is a probe."""

    source: str
    count: int
    failures: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The answer of a gate. ``wait``: seconds until it is worth to ask again; None: who knows."""

    grants: tuple[Grant, ...]
    wait: float | None
    # "", "rest", "quarantine", "all quarantined", "probe", "throttled", "warm-up", "pace", "source rate",
    # "connections", "site rate" or "turn"
    why: str
    put_off: Mapping[str, float] = field(default_factory=dict)  # tenants -> for how many seconds


class Gates:
    """The gates, over one link. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(
        self,
        link: Link,
        *,
        lease: float,
        worker: str = "",
        schedules: Mapping[str, str] | None = None,
    ) -> None:
        """``lease``: seconds that a connection counts without a sign of life from its worker.

        ``worker``: under this name others see what was reserved and is not claimed yet.
        ``schedules``: of sources that are warmed up, as ``standing.make_schedules`` writes them.
        """
        self._link = link
        self._schedules = schedules or {}
        self._worker = worker
        self._lease = int(lease * 1000)

    async def reserve(
        self,
        limits: SiteLimits,
        pool: str,
        backlog: int,
        wants: Sequence[Want],
        weights: Mapping[str, int],
        *,
        most: int = 1 << 30,
    ) -> Reserved:
        """Ask for up to ``most`` deliveries, of ``backlog`` that are in sight.

        ``weights``: of all sources that are alive; each has its turns in what is in sight.
        """
        arguments: list[Part] = [pool, limits.site, backlog]
        arguments += [limits.connections, _write(limits.rates), _write(limits.source_rates)]
        arguments += [len(wants), most, self._worker]
        for want in wants:
            arguments += (want.source, want.room, want.connections, want.most)
        for name, weight in weights.items():
            arguments += (name, weight, self._schedules.get(name, ""))
        wait, why, put_off, *pairs = await self._link.run("reserve", _key(limits.site), *arguments)
        grants = tuple(
            Grant(want.source, count, failures)
            for want, count, failures in zip(wants, pairs[::2], pairs[1::2], strict=True)
        )
        tenants = {
            name.decode(): ms / 1000 for name, ms in zip(put_off[::2], put_off[1::2], strict=True)
        }
        return Reserved(grants, None if wait < 0 else wait / 1000, why.decode(), tenants)

    def refund(
        self, limits: SiteLimits, pool: str, unused: Mapping[str, int], weights: Mapping[str, int]
    ) -> None:
        """What was reserved is claimed; give back what was not used: names to counts.

        Nobody waits for it.
        """
        arguments: list[Part] = [pool, limits.site, _write(limits.rates)]
        arguments += [_write(limits.source_rates), self._worker]
        for name, count in unused.items():
            arguments += (name, weights.get(name, 1), count)
        self._link.start("refund", _key(limits.site), *arguments)

    async def charge_tenant(
        self, tenant: str, rates: Sequence[Rate], count: int
    ) -> tuple[int, float]:
        """Take up to ``count`` off a tenant's rate; return how many, and seconds until more."""
        granted, wait = await self._link.run(
            "meter", _key(tenant), f"tenant:{tenant}", _write(rates), count
        )
        return granted, wait / 1000

    def refund_tenant(self, tenant: str, rates: Sequence[Rate], count: int) -> None:
        """Give back what was charged. Nobody waits for it."""
        self._link.start("meter", _key(tenant), f"tenant:{tenant}", _write(rates), -count)

    # -- connections --------------------------------------------------------------------------

    async def take_slot(self, limits: SiteLimits, source: str, connection: str, most: int) -> bool:
        """Lease a connection from ``source``, which may have ``most``; False when it has them."""
        return bool(
            await self._link.run(
                "take_slot",
                _key(limits.site),
                limits.site,
                source,
                connection,
                self._lease,
                limits.connections,
                most,
            )
        )

    def free_slot(self, limits: SiteLimits, source: str, connection: str) -> None:
        """End a lease; to be called when the connection is closed. Nobody waits for it."""
        self._link.start(
            "free_slot",
            _key(limits.site),
            limits.site,
            source,
            connection,
            limits.connections,
        )

    async def renew_slots(self, site: str, pairs: Iterable[tuple[str, str]]) -> list[str]:
        """Give a sign of life for (source, connection) pairs; return connections that lost theirs."""
        flat = [part for pair in pairs for part in pair]
        lost = await self._link.run("renew_slots", _key(site), site, self._lease, *flat)
        return [name.decode() for name in lost]

    # -- rests --------------------------------------------------------------------------------

    async def fail(
        self, site: str, source: str, *, first: float, most: float, text: str = ""
    ) -> tuple[int, float]:
        """No host could be reached: rest, twice as long as the last time, ``most`` s at most.

        ``text`` says what happened. Returns how often in a row, and for how many seconds.
        """
        failures, rest = await self._link.run(
            "fail",
            _key(site),
            site,
            source,
            int(first * 1000),
            int(most * 1000),
            text[:_MAX_TEXT],
        )
        return failures, rest / 1000

    async def read_reason(self, site: str) -> str:
        """Return what happened when a host of a site was tried last, "" if it was met."""
        rests = await self._link.call("HVALS", make_key(find_shard(site), "rests", site))
        return max(
            (r.decode("utf-8", "replace").split(" ", 2)[1:] for r in rests), default=["", ""]
        )[1]

    def recover(self, site: str, source: str) -> None:
        """A host was reached again. Nobody waits for it."""
        self._link.start("recover", _key(site), site, source)

    # -- presence -----------------------------------------------------------------------------

    async def announce(self, *members: str) -> frozenset[str]:
        """Say that these are alive ("source:a", "pool:default" ...); return all that are."""
        alive = await self._link.run(
            "announce", make_key(0, "present"), int(PRESENCE * 1000), *members
        )
        return frozenset(member.decode() for member in alive)

    async def leave(self, *members: str) -> None:
        """Take back what ``announce`` said."""
        await self._link.call("ZREM", make_key(0, "present"), *members)


def _key(name: str) -> str:
    return make_key(find_shard(name), "rests", name)


def _write(rates: Sequence[Rate]) -> str:
    return ";".join(f"{rate.count} {rate.seconds} {rate.burst}" for rate in rates)
