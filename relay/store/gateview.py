"""Looking at the gates without changing them: what a site's gate holds, and who is alive.

The reading side of scripts/gate, for people: nothing here decides anything. Times are seconds since
1970, on the store's clock.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from relay.config.units import Rate
from relay.store.gate import PRESENCE, SiteLimits
from relay.store.keys import find_shard, make_key
from relay.store.link import Link, Part, Reply
from relay.store.view import ask

_SLOTS = 24  # of scripts/gate/_prelude.lua


@dataclass(frozen=True, slots=True)
class Rest:
    """A source does not try a site: so often in a row it met no host there, the last time why."""

    failures: int
    until: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of rates: so many may go now; when none may, ``opens`` is when one may."""

    count: float  # infinity: no rate
    opens: float


@dataclass(frozen=True, slots=True)
class Gate:
    """What a site's gate holds, over all workers."""

    site: str
    connections: dict[str, int]  # of each source that has some
    rests: dict[str, Rest]  # in force
    left: Left
    source_left: dict[str, Left]
    owed: dict[str, float]  # source -> since when its turn is not taken

    @property
    def is_open(self) -> bool:
        """True when no gate of the site itself stands in the way."""
        return self.left.count >= 1


class GateView:
    """The gates as they are at ``now``. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link, now: float) -> None:
        self._link = link
        self._now = now

    async def read_presence(self) -> dict[str, float]:
        """Return who is alive ("source:a", "pool:default", "worker:..."), and when last heard of."""
        flat = await self._link.call(
            "ZRANGEBYSCORE",
            make_key(0, "present"),
            int((self._now - PRESENCE) * 1000),
            "+inf",
            "WITHSCORES",
        )
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {member.decode(): float(heard) / 1000 for member, heard in pairs}

    async def read_tenant(self, tenant: str, rates: Sequence[Rate]) -> Left:
        """Return what is left of a tenant's rate."""
        key = make_key(find_shard(tenant), "meter", f"tenant:{tenant}")
        return read_left(rates, _pair(await self._link.call("HGETALL", key)), self._now)

    async def read_rests(self, sites: Iterable[str]) -> dict[str, dict[str, Rest]]:
        """Return the rests in force, of sites that have some."""
        names = list(sites)
        commands = (("HGETALL", make_key(find_shard(n), "rests", n)) for n in names)
        found = [self._read_rests(_pair(flat)) async for flat in ask(self._link, commands)]
        return {name: rests for name, rests in zip(names, found, strict=True) if rests}

    async def count_connections(
        self, sites: Iterable[str], sources: Sequence[str]
    ) -> dict[tuple[str, str], int]:
        """Return the leased connections of (site, source) pairs that have some."""
        pairs = [(site, source) for site in sites for source in sources]
        commands: Iterable[Sequence[Part]] = (
            ("ZCOUNT", make_key(find_shard(site), "berths", source, site), self._mark, "+inf")
            for site, source in pairs
        )
        counts = [int(count) async for count in ask(self._link, commands)]
        return {pair: count for pair, count in zip(pairs, counts, strict=True) if count}

    async def read(
        self, limits: Sequence[SiteLimits], sources: Sequence[str], pools: Sequence[str]
    ) -> dict[str, Gate]:
        """Return the gates of sites, by name. All is asked for at once: one journey, if they are few."""
        asked = [list(self._ask_gate(one, sources, pools)) for one in limits]
        replies = [reply async for reply in ask(self._link, chain.from_iterable(asked))]
        gates, start = {}, 0
        for one, commands in zip(limits, asked, strict=True):
            end = start + len(commands)
            gates[one.site] = self._read_gate(one, sources, replies[start:end])
            start = end
        return gates

    def _ask_gate(
        self, limits: SiteLimits, sources: Sequence[str], pools: Sequence[str]
    ) -> Iterator[Sequence[Part]]:
        """Yield what must be asked; where there is no rate, nobody keeps a meter."""
        site, shard = limits.site, find_shard(limits.site)
        yield "HGETALL", make_key(shard, "rests", site)
        for name in sources:
            yield "ZCOUNT", make_key(shard, "berths", name, site), self._mark, "+inf"
        if limits.rates:
            yield "HGETALL", make_key(shard, "meter", f"site:{site}")
        if limits.source_rates:
            for name in sources:
                yield "HGETALL", make_key(shard, "meter", f"source:{name}:{site}")
        for pool in pools:
            yield "HGETALL", make_key(shard, "turns", pool, site)

    def _read_gate(
        self, limits: SiteLimits, sources: Sequence[str], replies: Sequence[Reply]
    ) -> Gate:
        """Read the replies to ``_ask_gate``, in its order."""
        left = iter(replies)
        rests = self._read_rests(_pair(next(left)))
        connections = {name: int(next(left)) for name in sources}
        meter = _pair(next(left)) if limits.rates else {}
        meters = {name: _pair(next(left)) if limits.source_rates else {} for name in sources}
        return Gate(
            limits.site,
            connections,
            rests,
            read_left(limits.rates, meter, self._now),
            {name: read_left(limits.source_rates, one, self._now) for name, one in meters.items()},
            {
                field[1:]: float(since) / 1000
                for turn in left
                for field, since in _pair(turn).items()
                if field.startswith("@")
            },
        )

    @property
    def _mark(self) -> str:
        return f"({int(self._now * 1000)}"

    def _read_rests(self, fields: Mapping[str, str]) -> dict[str, Rest]:
        rests = {}
        for source, text in fields.items():
            failures, ends, *said = text.split(" ", 2)
            rest = Rest(int(failures), float(ends) / 1000, "".join(said))
            if rest.until > self._now:
                rests[source] = rest
        return rests


def read_left(rates: Sequence[Rate], stored: Mapping[str, str], now: float) -> Left:
    """Return what is left of rates, as `open_meter` of scripts/gate/_prelude.lua has it."""
    count, opens = math.inf, now
    for rate in rates:
        text = stored.get(str(rate.seconds), "")
        one = _read_sum(rate, text, now) if rate.is_cap else _read_pace(rate, text, now)
        count = min(count, one.count)
        if one.count < 1:
            opens = max(opens, one.opens)
    return Left(count, opens)


def _read_pace(rate: Rate, text: str, now: float) -> Left:
    """A bucket: "what was left, and when, ms"."""
    if not text:
        return Left(rate.burst, now)
    stored, _, at = text.partition(" ")
    gained = max(0.0, now - float(at) / 1000) * rate.count / rate.seconds
    left = min(rate.burst, float(stored) + gained)
    return Left(math.floor(left + 1e-6), now + max(0.0, 1 - left) * rate.seconds / rate.count)


def _read_sum(rate: Rate, text: str, now: float) -> Left:
    """Slots: "number:count,...", each a part of the time; the oldest goes as a whole."""
    length = rate.seconds / _SLOTS
    present = math.floor(now / length)
    slots = [(int(number), int(used)) for number, _, used in _split(text)]
    alive = [(number, used) for number, used in slots if number >= present - _SLOTS and used > 0]
    left = rate.count - sum(used for _, used in alive)
    oldest = min((number for number, _ in alive), default=present)
    return Left(max(0, left), (oldest + _SLOTS + 1) * length)


def _split(text: str) -> list[tuple[str, str, str]]:
    return [part.partition(":") for part in text.split(",") if part]


def _pair(flat: Sequence[bytes]) -> dict[str, str]:
    fields = [part.decode() for part in flat]
    return dict(zip(fields[::2], fields[1::2], strict=True))
