"""Three ways to decide how much to send: the control loop, a fixed table, and an oracle.

loop    the gateway as it ships: gates, standings and reporters in a store
fixed   the same with the loop off: the shipped table of limits, which nobody edits
oracle  asks each provider what it would take, and sends that: what nobody can do better
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from relay.config import Config
from relay.store.gate import Gates, Grant, Reserved, SiteLimits, Want
from relay.store.standing import Standing, Standings, make_schedules
from relay.store.stilllink import StillLink
from workers.berth import find_rate
from workers.emulation.providers.profile import Profile
from workers.emulation.providers.provider import Limits
from workers.reporter import Reporter
from workers.simulation.agenda import Agenda
from workers.simulation.world import World
from workers.site import Sites, Terms

Name = Literal["loop", "fixed", "oracle"]
NAMES: tuple[Name, ...] = ("loop", "fixed", "oracle")

_LEASE = 1e6  # s, of connections: no worker dies here, so none renews them
_MANY = 1 << 20
# The oracle deals out what it may send within this time, so that nothing waits for a slow source, s.
_AHEAD = 2.0
# Seconds since 1970 are exact to a quarter of a microsecond: more than a hair apart, less than half of
# one too early is no wait at all.
_HAIR = 1e-4  # s
_MOST_CONNECTIONS = 50  # of the oracle, where nothing limits them
_NOBODY_KNOWS = 30.0  # s
_PATIENCE = 1.0  # s, for a connection that another worker has


class Policy(Protocol):
    """What a worker asks."""

    name: Name

    def find_terms(self, site: str) -> Terms:
        """Return what is configured for a site."""

    def make_gates(self, worker: str) -> Gates:
        """Return a worker's gates."""

    def make_reporter(self) -> Reporter | None:
        """Return a worker's reporter, if it has one."""

    def hold(self, site: str, source: str) -> float:
        """Return the seconds to wait before a message that is about to begin."""

    def hand_back(self, site: str, source: str, count: int) -> None:
        """So many that were granted do not begin."""

    async def read(self, sites: Iterable[str], now: float) -> Mapping[tuple[str, str], Standing]:
        """Return what is known of sources, by site and source."""


class _Silence:
    """An event log that nobody reads."""

    def write(self, line: bytes) -> None:
        """Forget it."""


class Gateway:
    """The gateway's own code, in a store: with the loop, or without."""

    def __init__(self, config: Config, link: StillLink) -> None:
        """``config.reputation.enabled`` decides which of the two."""
        self.name: Name = "loop" if config.reputation.enabled else "fixed"
        self._config = config
        self._link = link
        self._sites = Sites(config)
        self._standings = Standings(link, config)

    def find_terms(self, site: str) -> Terms:
        """As configured, else as shipped, else the defaults."""
        return self._sites.find(site)

    def make_gates(self, worker: str) -> Gates:
        """Real ones, and real scripts behind them."""
        schedules = make_schedules(self._config)
        return Gates(self._link, lease=_LEASE, worker=worker, schedules=schedules)

    def make_reporter(self) -> Reporter | None:
        """A real one, whose events nobody reads."""
        if not self._config.reputation.enabled:
            return None
        return Reporter(
            self._config,
            self._standings,
            _Silence(),  # type: ignore[arg-type]  # of an EventLog it only writes
            find_rate=lambda site: find_rate(self._sites.find(site)),
        )

    def hold(self, site: str, source: str) -> float:
        """The gate has decided; nothing holds a message after it."""
        return 0.0

    def hand_back(self, site: str, source: str, count: int) -> None:
        """As in a real worker: a few turns and a little of a rate are lost."""

    async def read(self, sites: Iterable[str], now: float) -> Mapping[tuple[str, str], Standing]:
        """Ask the store."""
        return await self._standings.read(sites, now)


@dataclass(slots=True)
class _Account:
    """What the oracle keeps of a source at a site."""

    booked: int = 0  # granted, not begun
    begun: float = -math.inf  # when the last message was
    open: int = 0


class Oracle:
    """Knows what every provider takes."""

    name: Name = "oracle"

    def __init__(self, world: World, agenda: Agenda) -> None:
        self._world = world
        self._agenda = agenda
        self._sites = Sites(world.config)
        self.accounts: dict[tuple[str, str], _Account] = {}

    def find_terms(self, site: str) -> Terms:
        """What it would have configured: no limits but the provider's own."""
        profile = self._world.providers[site].profile
        return replace(
            self._sites.find(site),
            messages_per_connection=profile.messages_per_connection or _MANY,
            connections=None,
            rates=(),
            source_connections=_find_connections(profile),
            source_rates=(),
        )

    def make_gates(self, worker: str) -> Gates:
        """All workers have the same ones."""
        return OracleGates(self, self._agenda)

    def make_reporter(self) -> Reporter | None:
        """It has nothing to learn."""
        return None

    def hold(self, site: str, source: str) -> float:
        """Messages begin at even distances: then no bucket is ever empty, however small."""
        account, limits = self.find(site, source), self.look(site, source)
        now = self._agenda.now
        slot = account.begun + 1 / limits.rate + _HAIR
        wait = max(slot, limits.penalised_until, limits.blocked_until) - now
        if wait > _HAIR / 2:
            return wait
        account.begun = now
        account.booked -= 1
        return 0.0

    def hand_back(self, site: str, source: str, count: int) -> None:
        """What it has in hand is exact."""
        self.find(site, source).booked -= count

    async def read(self, sites: Iterable[str], now: float) -> Mapping[tuple[str, str], Standing]:
        """Nothing is kept."""
        return {}

    def find(self, site: str, source: str) -> _Account:
        """Return the account of a source at a site."""
        return self.accounts.setdefault((site, source), _Account())

    def look(self, site: str, source: str) -> Limits:
        """Return the truth."""
        return self._world.providers[site].limits(self._world.addresses[source])

    def find_room(self, site: str, source: str) -> tuple[int, float]:
        """Return how many more a source may have in hand, and if none, seconds until it is worth to ask."""
        account, limits = self.find(site, source), self.look(site, source)
        closed = max(limits.penalised_until, limits.blocked_until) - self._agenda.now
        if closed > 0:
            return 0, closed
        left = _MANY if limits.allowance_left is None else limits.allowance_left
        if left <= account.booked:
            return 0, _NOBODY_KNOWS
        ahead = _MANY if math.isinf(limits.rate) else math.ceil(limits.rate * _AHEAD)
        room = min(left, max(1, ahead)) - account.booked
        return (room, 0.0) if room > 0 else (0, 1 / limits.rate)


def _find_connections(profile: Profile) -> int:
    most = [change.connections for change in profile.changes if change.connections is not None]
    most.append(profile.connections)
    return _MOST_CONNECTIONS if 0 in most else max(most)


class OracleGates(Gates):
    """Gates that ask the oracle instead of a store. One process, so there is nothing to share."""

    def __init__(self, oracle: Oracle, agenda: Agenda) -> None:
        self._oracle = oracle
        self._agenda = agenda
        self._turns: Counter[str] = Counter()

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
        """Deal out one by one, to whom has had the least."""
        rooms, waits = {}, [_NOBODY_KNOWS]
        for want in wants:
            room, wait = self._oracle.find_room(limits.site, want.source)
            if not want.connections and self._is_full(limits.site, want.source, want.most):
                room, wait = 0, _PATIENCE
            rooms[want.source] = min(room, want.room)
            if room <= 0:
                waits.append(wait)
        granted: Counter[str] = Counter()
        for _ in range(min(most, backlog, sum(rooms.values()))):
            source = min((s for s in rooms if rooms[s] > 0), key=lambda s: self._turns[s])
            rooms[source] -= 1
            granted[source] += 1
            self._turns[source] += 1
        for source, count in granted.items():
            self._oracle.find(limits.site, source).booked += count
        grants = tuple(Grant(want.source, granted[want.source], 0) for want in wants)
        return Reserved(grants, None if granted else min(waits), "" if granted else "pace")

    def refund(
        self, limits: SiteLimits, pool: str, unused: Mapping[str, int], weights: Mapping[str, int]
    ) -> None:
        """Take back what was not used."""
        for source, count in unused.items():
            self._oracle.hand_back(limits.site, source, count)

    async def take_slot(self, limits: SiteLimits, source: str, connection: str, most: int) -> bool:
        """As many as the provider takes just now."""
        if self._is_full(limits.site, source, most):
            return False
        self._oracle.find(limits.site, source).open += 1
        return True

    def _is_full(self, site: str, source: str, most: int) -> bool:
        truth = self._oracle.look(site, source).connections
        return self._oracle.find(site, source).open >= (most if truth is None else truth)

    def free_slot(self, limits: SiteLimits, source: str, connection: str) -> None:
        """One fewer is open."""
        self._oracle.find(limits.site, source).open -= 1

    async def fail(
        self, site: str, source: str, *, first: float, most: float, text: str = ""
    ) -> tuple[int, float]:
        """It knows when to come back."""
        return 1, 1.0

    def recover(self, site: str, source: str) -> None:
        """It was never away."""
