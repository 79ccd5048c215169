"""The standing of sources at sites: what receivers' answers have made of them.

    report   what became of deliveries; what follows from it, at once and for all workers
    read     ... for people, as the gate would find it now

The reckoning is scripts/gate/report.lua, in the store, so that it is one for all workers and on one
clock; who enforces it is ``reserve``. The formulas and their reasons stand in DESIGN.md, Reputation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from relay.config import Config
from relay.config.schema import Reputation, Warmup
from relay.store.keys import SHARDS, find_shard, make_key
from relay.store.link import Link
from relay.store.view import ask

# What is shipped as "default": half as much again each day, from 50 to a hundred thousand in three
# weeks. Slower than what senders of good mail get away with, as fast as none is known to be hurt by.
DEFAULT_WARMUP = Warmup(
    days=(
        *(50, 75, 110, 170, 250, 380, 570, 850, 1300, 1900, 2900),
        *(4300, 6500, 9700, 15_000, 22_000, 33_000, 49_000, 74_000, 110_000),
    )
)
DAY = 86400
_PRIOR, _NEUTRAL = 20, 0.5  # of scripts/gate/_standing.lua


class Report(msgspec.Struct, omit_defaults=False, rename=None):
    """What became of deliveries from one source, since the last report."""

    source: str = msgspec.field(name="s")
    schedule: str = ""  # filled in by ``Standings.report``
    most: float = 0.0  # its configured rate, deliveries/s; 0: none
    delivered: int = msgspec.field(name="d", default=0)
    answered: int = msgspec.field(name="o", default=0)  # otherwise, whatever it was about
    throttled: int = msgspec.field(name="t", default=0)
    crowded: int = msgspec.field(name="f", default=0)  # told to open fewer connections
    blocked: int = msgspec.field(name="x", default=0)
    unknown: int = msgspec.field(name="n", default=0)  # recipients that nobody knows
    content: int = msgspec.field(name="m", default=0)  # refused as spam or malware
    complaints: int = msgspec.field(name="c", default=0)
    rest: float = 0.0  # seconds that an answer asks for
    usual: float = 0.0  # ... that are usual with this receiver
    why: str = ""  # what was said


class PutOff(msgspec.Struct):
    """A receiver has something against a tenant's name, from whichever source."""

    tenant: str = msgspec.field(name="t")
    rest: float = 0.0  # seconds that were asked for
    why: str = ""


class Change(msgspec.Struct, frozen=True):
    """What a report has changed. Times of the store are ms there, seconds here."""

    kind: str  # slowed, unpaced, narrowed, quarantined, released, put_off
    source: str = msgspec.field(name="s", default="")
    tenant: str = ""
    before: float | None = None  # pace or connections
    pace: float | None = None  # deliveries/s
    connections: int | None = None
    rest: float = 0.0  # seconds
    till: float = 0.0  # seconds since 1970
    count: int = 0
    score: float | None = None
    why: str = ""


class _Quarantine(msgspec.Struct, frozen=True):
    u: float
    n: int
    w: str = ""
    ok: int = 0
    pl: float = 0


class _Record(msgspec.Struct, frozen=True):
    """As scripts/gate/_standing.lua keeps it; its names are explained there."""

    g: float = 0
    b: float = 0
    at: float = 0
    p: float | None = None
    tk: float | None = None
    ka: float = 0
    till: float = 0
    why: str = ""
    c: int | None = None
    q: _Quarantine | None = None
    d: int | None = None
    y: int = 0
    u: float = 0
    de: float = 0
    ba: float = 0
    bad: bool = False
    yl: int | None = None
    yi: int | None = None


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A source sends nothing to a site until a time, and then a message at a time, to find out."""

    until: float  # seconds since 1970
    count: int  # how often, so far
    why: str
    probed: int  # messages that got through since
    probe_until: float = 0.0  # seconds since 1970; one is out until then, at the latest


@dataclass(frozen=True, slots=True)
class WarmDay:
    """Where a source is in its warm-up at a site."""

    day: int  # 1 is the first
    days: int  # after which it is warm
    allowance: int | None  # deliveries of today; None: warm
    used: int
    next_day: float  # seconds since 1970
    # Then, if today is a good day (after a block it is none any more); None: warm.
    next_allowance: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one source at one site."""

    site: str
    source: str
    score: float  # 0 to 1; 0.5 is unknown
    evidence: float  # answers behind it, weighted, of late
    pace: float | None  # deliveries/s; None: not paced
    connections: int | None
    rests_until: float  # seconds since 1970; after a throttle
    why: str  # what was said at it
    quarantine: Quarantine | None
    warmup: WarmDay | None
    pace_opens: float = 0.0  # seconds since 1970; until then what the pace lets go is used up


_encode = msgspec.json.Encoder().encode
_decode_change = msgspec.json.Decoder(Change).decode
_decode_record = msgspec.json.Decoder(_Record).decode


class Standings:
    """The standings, over one link. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link, config: Config) -> None:
        self._link = link
        self._warmups = find_warmups(config)
        self._schedules = make_schedules(config)
        self._half_life = config.reputation.half_life
        self._control = _encode(_make_control(config.reputation))

    async def report(
        self, site: str, reports: Sequence[Report], put_off: Sequence[PutOff] = ()
    ) -> list[Change]:
        """Hand in what became of deliveries to a site; return what has changed by it."""
        changes = await self._link.run(
            "report",
            make_key(find_shard(site), "standing", site),
            site,
            self._control,
            _encode([self._complete(one) for one in reports]),
            _encode([msgspec.structs.replace(one, rest=int(one.rest * 1000)) for one in put_off]),
        )
        return [_in_seconds(_decode_change(change)) for change in changes]

    def _complete(self, one: Report) -> Report:
        return msgspec.structs.replace(
            one,
            rest=int(one.rest * 1000),
            usual=int(one.usual * 1000),
            schedule=self._schedules.get(one.source, ""),
        )

    async def read(self, sites: Iterable[str], now: float) -> dict[tuple[str, str], Standing]:
        """Return what is known at ``now`` (seconds since 1970), by site and source."""
        names = list(sites)
        commands = (("HGETALL", make_key(find_shard(n), "standing", n)) for n in names)
        found = [flat async for flat in ask(self._link, commands)]
        return {
            (site, source.decode()): self._describe(site, source.decode(), record, now)
            for site, flat in zip(names, found, strict=True)
            for source, record in zip(flat[::2], flat[1::2], strict=True)
        }

    def begin(self, site: str, source: str, now: float) -> Standing:
        """Return what a source has at a site that has said nothing of it yet."""
        return self._describe(site, source, b"{}", now)

    async def list_sites(self) -> list[str]:
        """Return the sites where some source is paced, quarantined, narrowed or warmed up."""
        keys = [make_key(shard, "judged") for shard in range(SHARDS)]
        commands = (("ZRANGE", key, 0, -1) for key in keys)
        return [name.decode() async for names in ask(self._link, commands) for name in names]

    async def read_put_off(
        self, sites: Iterable[str], now: float
    ) -> dict[str, dict[str, tuple[float, str]]]:
        """Return the tenants that sites have put off: until when (seconds since 1970), and why."""
        names = list(sites)
        commands = (("HGETALL", make_key(find_shard(n), "tenants", n)) for n in names)
        replies = [flat async for flat in ask(self._link, commands)]
        return {n: _read_put_off(flat, now) for n, flat in zip(names, replies, strict=True)}

    def _describe(self, site: str, source: str, raw: bytes, now: float) -> Standing:
        record = _decode_record(raw)
        factor = 2 ** (-max(0.0, now - record.at / 1000) / self._half_life)
        good, bad = record.g * factor, record.b * factor
        quarantine = record.q
        return Standing(
            site=site,
            source=source,
            score=(good + _NEUTRAL * _PRIOR) / (good + bad + _PRIOR),
            evidence=good + bad,
            pace=record.p,
            connections=record.c,
            rests_until=record.till / 1000,
            why=record.why,
            quarantine=None if quarantine is None else _open_quarantine(quarantine),
            warmup=self._find_day(source, record, now),
            pace_opens=_find_opening(record, now),
        )

    def _find_day(self, source: str, record: _Record, now: float) -> WarmDay | None:
        warmup = self._warmups.get(source)
        if warmup is None:
            return None
        days, today = warmup.days, int(now // DAY)
        day, used, spoilt = _roll_day(record, warmup, today)
        then = max(1, min(day, len(days)) - 1) if spoilt else day + 1
        return WarmDay(
            day=min(day, len(days) + 1),
            days=len(days),
            allowance=days[day - 1] if day <= len(days) else None,
            used=used,
            next_day=float((today + 1) * DAY),
            next_allowance=days[then - 1] if then <= len(days) else None,
        )


def _roll_day(record: _Record, warmup: Warmup, today: int) -> tuple[int, int, bool]:
    """Return the day of a warm-up, what it has used, and whether it is spoilt.

    As ``roll_day`` of scripts/gate/_standing.lua has it. A record says what was so when it was written,
    and of a source that has sent nothing today that was another day.
    """
    if record.d is None:
        return 1, 0, False
    if record.y >= today:
        return record.d, int(record.u), record.bad
    day, last = record.d, len(warmup.days)
    if day <= last and record.u * 2 >= warmup.days[day - 1]:
        is_good = not record.bad and record.ba <= warmup.spoilt * (record.de + record.ba)
        day += is_good
    if record.bad:
        day = max(1, min(day, last) - 1)
    with_mail = record.y if record.u > 0 or record.yl is None else record.yl
    idle, forgiven = today - 1 - with_mail, int(warmup.idle // DAY)
    if idle > forgiven:
        before = forgiven if record.yi is None else record.yi
        day = max(1, min(day, last + 1) - (idle - before))
    return day, 0, False


def _find_opening(record: _Record, now: float) -> float:
    """Return when the bucket of a pace holds a delivery again, 0 if it does: ``open_pace``, there."""
    if record.p is None:
        return 0.0
    burst = max(1.0, record.p)
    filled = record.ka / 1000 or now
    left = burst if record.tk is None else record.tk
    left = min(burst, left + max(0.0, now - filled) * record.p)
    return 0.0 if left >= 1 - 1e-6 else max(now, filled) + (1 - left) / record.p


def _read_put_off(flat: Sequence[bytes], now: float) -> dict[str, tuple[float, str]]:
    found = {}
    for tenant, text in zip(flat[::2], flat[1::2], strict=True):
        _, ends, *why = text.decode("utf-8", "replace").split(" ", 2)
        if float(ends) / 1000 > now:
            found[tenant.decode()] = (float(ends) / 1000, "".join(why))
    return found


def _open_quarantine(record: _Quarantine) -> Quarantine:
    return Quarantine(record.u / 1000, record.n, record.w, record.ok, record.pl / 1000)


def find_warmups(config: Config) -> dict[str, Warmup]:
    """Return how sources are warmed up, of those that are."""
    known = {"default": DEFAULT_WARMUP} | config.warmup
    return {source.name: known[source.warmup] for source in config.source if source.warmup}


def make_schedules(config: Config) -> dict[str, str]:
    """Return the same as scripts/gate/_standing.lua reads it."""
    return {
        name: f"{warmup.spoilt} {int(warmup.idle * 1000)} {','.join(map(str, warmup.days))}"
        for name, warmup in find_warmups(config).items()
    }


def _make_control(settings: Reputation) -> Mapping[str, object]:
    return {
        "half": int(settings.half_life * 1000),
        "floor": settings.floor,
        "quarantine": [int(length * 1000) for length in settings.quarantine],
        "probes": settings.probes,
        "silence": int(settings.silence * 1000),
        "slowest": min(rate.count / rate.seconds for rate in settings.slowest.windows),
    }


def _in_seconds(change: Change) -> Change:
    return msgspec.structs.replace(change, rest=change.rest / 1000, till=change.till / 1000)
