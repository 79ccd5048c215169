"""What is counted while a simulation runs. The kinds of refusals are the providers' own word."""

from array import array
from collections import Counter
from dataclasses import dataclass, field, fields

from workers.emulation.providers.books import Books
from workers.emulation.providers.provider import Provider
from workers.simulation.agenda import START

STEP = 600.0  # s, of what is kept by source and site
MINUTE = 60.0
# After the first word of a block, attempts are still its matter for so long, s.
_AFTERMATH = 600.0

# What a provider's books call a refusal -> what it is here.
KINDS = {
    "throttled": "throttled",
    "over_allowance": "throttled",
    "over_connection": "throttled",
    "refused_connections": "throttled",
    "blocked": "blocked",
    "greylisted": "greylisted",
    "unknown": "refused",
    "spam": "refused",
    "without_tls": "other",
    "too_many": "other",
    "too_large": "other",
}
_FIELDS = tuple(each.name for each in fields(Books) if each.name in KINDS)


@dataclass(slots=True)
class Counts:
    """Attempts of a while, and what came of them."""

    attempts: int = 0
    delivered: int = 0
    throttled: int = 0
    blocked: int = 0
    greylisted: int = 0
    refused: int = 0  # the recipient, or the message: nobody could have delivered it
    other: int = 0

    def add(self, other: "Counts") -> None:
        """Add other counts to these."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(slots=True)
class Block:
    """A block of a source at a site, from the first that we heard of it."""

    site: str
    source: str
    heard: float  # seconds since 1970
    until: float
    provoked: bool  # not one that the profile has
    last: float = 0.0  # attempt in the while after it


@dataclass(slots=True)
class SiteAccount:
    """One provider: the ledger, delays, and what each minute brought."""

    born: int = 0
    delivered: int = 0
    refused: int = 0  # bounced: nobody could have delivered it
    bounced_wrongly: int = 0  # ... because of a throttle or a block
    expired: int = 0  # bounced: its time was over
    complaints: int = 0
    delays: "array[float]" = field(default_factory=lambda: array("f"))  # s, of what was delivered
    minutes: "array[int]" = field(default_factory=lambda: array("i"))  # delivered in each
    waiting: "array[int]" = field(default_factory=lambda: array("i"))  # at the end of each
    capacity: "array[float]" = field(default_factory=lambda: array("f"))  # messages/s, there

    @property
    def ended(self) -> int:
        """Messages whose fate is known."""
        return self.delivered + self.refused + self.bounced_wrongly + self.expired


class Account:
    """All that is counted in one run."""

    def __init__(self, providers: dict[str, Provider]) -> None:
        self.sites = {name: SiteAccount() for name in providers}
        self.steps: dict[tuple[str, str], dict[int, Counts]] = {}  # by site and source; by number
        self.blocks: list[Block] = []
        self.last_kind = ""  # of the attempt that has just ended
        self._providers = providers
        self._seen: dict[tuple[str, str], list[int]] = {}
        self._open: dict[tuple[str, str], Block] = {}

    def note(self, site: str, source: str, address: str, now: float, *, refused: bool) -> str:
        """Count an attempt that has just ended; return its kind: "delivered" or one of KINDS."""
        steps = self.steps.setdefault((site, source), {})
        number = int((now - START) // STEP)
        counts = steps.get(number)
        if counts is None:
            counts = steps[number] = Counts()
        counts.attempts += 1
        kind = self._find_kind(site, address) if refused else "delivered"
        setattr(counts, kind, getattr(counts, kind) + 1)
        self.last_kind = kind
        block = self._open.get((site, source))
        if block is not None and now < block.heard + _AFTERMATH:
            block.last = now
        if kind == "blocked":
            self._note_block(site, source, address, now)
        return kind

    def _find_kind(self, site: str, address: str) -> str:
        """Find which of a provider's counters has moved since we last looked."""
        books = self._providers[site].count(address)
        seen = self._seen.setdefault((site, address), [0] * len(_FIELDS))
        found = "other"
        for place, name in enumerate(_FIELDS):
            value: int = getattr(books, name)
            if value != seen[place]:
                seen[place], found = value, KINDS[name]
        return found

    def _note_block(self, site: str, source: str, address: str, now: float) -> None:
        provider = self._providers[site]
        until = provider.limits(address).blocked_until
        block = self._open.get((site, source))
        if block is not None and now < block.until:
            block.until = max(block.until, until)  # knocking has made it longer
            return
        planned = any(
            one.address == address and 0 <= now - provider.started - one.at < one.lasts
            for one in provider.profile.blocked
        )
        block = Block(site, source, now, until, provoked=not planned, last=now)
        self._open[site, source] = block
        self.blocks.append(block)

    def sum_up(self, site: str, *, source: str = "", since: float = START) -> Counts:
        """Return the counts of a source ("": of all) at a site, of steps that begin from a time on."""
        total = Counts()
        for (name, sender), steps in self.steps.items():
            if name == site and source in ("", sender):
                for number, counts in steps.items():
                    if START + number * STEP >= since:
                        total.add(counts)
        return total

    def count_days(self, site: str, source: str) -> "Counter[int]":
        """Return what was delivered on each day, from 0."""
        days: Counter[int] = Counter()
        for number, counts in self.steps.get((site, source), {}).items():
            days[int(number * STEP // 86400)] += counts.delivered
        return days
