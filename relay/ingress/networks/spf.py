"""Networks off SPF records (RFC 7208): what a domain says it sends from, as far as that is networks.

``ip4``, ``ip6``, ``include`` and ``redirect`` are followed. ``a``, ``mx``, ``ptr``, ``exists`` and
whatever has a macro in it would need a message to be asked about, or names to be looked up that say
nothing about networks: they are left out, and a note says so.

Only what *passes* counts (no qualifier, or "+"). What another qualifier is in front of is taken out
of what follows in its record, because the first match decides (§4.6.2): the result never holds an
address that the owner does not let pass.

A record that cannot be read, or be had, is an error and never "no networks". So the limit for void
look-ups (§4.6.4) is kept without counting: the first look-up that finds nothing ends the walk, as
an include of a domain without a record is an error anyway (§5.2).
"""

import ipaddress
import re
from dataclasses import dataclass, field

from relay.config.shapes import DOMAIN
from relay.config.units import Network
from relay.errors import OutgateError
from relay.ingress.networks.blocks import take_out
from relay.net.resolver import NameUnavailable, Resolver

# RFC 7208 §4.6.4: terms that cause look-ups, in all records together; the first is not one.
MOST_LOOKUPS = 10
MOST_NETWORKS = 10_000
# Each makes every later network of its record be looked at again.
MOST_TAKEN_OUT = 16
_MOST_NOTES = 20

# §4.5: the version, then a space or the end. Names and versions are without case (RFC 5234 §2.3).
_VERSION = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)")
_MECHANISM = re.compile(r"([-+?~]?)([A-Za-z0-9]+)(?:([:/])(.*))?")
# §5.6; ipaddress alone would take netmasks, too.
_IP4 = re.compile(r"[0-9.]{7,15}(?:/(?:0|[1-9][0-9]?))?")
_IP6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/(?:0|[1-9][0-9]{0,2}))?")
_NOT_FOLLOWED = ("a", "mx", "ptr", "exists")


class SpfUnusable(OutgateError):
    """A domain's SPF records cannot be had or read: which one, how we came there, and why."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What was found: networks as they stand there, and notes about what was left out."""

    networks: tuple[Network, ...]
    notes: tuple[str, ...] = ()


async def walk(resolver: Resolver, name: str) -> Walked:
    """Return the networks that pass by the SPF record of ``name``, a domain in A-labels.

    Raises SpfUnusable.
    """
    walker = _Walker(resolver)
    networks = await walker.read((name.lower().rstrip("."),))
    return Walked(tuple(dict.fromkeys(networks)), tuple(walker.notes[:_MOST_NOTES]))


@dataclass(slots=True)
class _Walker:
    """One walk. A *chain* is how we came to a record, the first name first."""

    resolver: Resolver
    notes: list[str] = field(default_factory=list)
    lookups: int = 0
    count: int = 0  # networks so far

    async def read(self, chain: tuple[str, ...]) -> list[Network]:
        """Return the networks that the last name of the chain lets pass."""
        record = _Record(chain, await self._find_record(chain))
        for term in record.mechanisms:
            await self._follow(record, term)
        # §6.1: "all" makes a redirect not count, wherever either stands.
        if record.redirect and not record.is_closed and (target := self._name(record, "redirect")):
            record.add("", await self._go(chain, target))
        return record.passing

    async def _follow(self, record: "_Record", term: "_Mechanism") -> None:
        """Add the networks of one mechanism."""
        if term.name == "include":
            if target := self._name(record, "include", term.value):
                record.add(term.qualifier, await self._go(record.chain, target))
        elif term.name in _NOT_FOLLOWED:
            self._note(record.chain, f"{term.name} is not followed")
        elif term.name in ("ip4", "ip6"):
            self.count += 1
            if self.count > MOST_NETWORKS:
                raise _fail(record.chain, f"more than {MOST_NETWORKS:,} networks")
            record.add(term.qualifier, [_read_network(record.chain, term)])

    async def _go(self, chain: tuple[str, ...], target: str) -> list[Network]:
        """Read the record that another one names."""
        if target in chain:
            raise _fail((*chain, target), "leads back to itself")
        self.lookups += 1
        if self.lookups > MOST_LOOKUPS:
            # RFC 7208 §4.6.4
            raise _fail((*chain, target), f"more than {MOST_LOOKUPS} look-ups")
        return await self.read((*chain, target))

    def _name(self, record: "_Record", word: str, value: str = "") -> str:
        """Return the domain that is to be read; "" for a macro, which needs a message."""
        target = (value or record.redirect).lower().rstrip(".")
        if "%" in target:
            self._note(record.chain, f"{word} {_show(target)} is not followed: it has a macro")
            return ""
        if not DOMAIN.fullmatch(target):
            raise _fail(record.chain, f"{word} of {_show(target)}: expected a domain")
        return target

    def _note(self, chain: tuple[str, ...], text: str) -> None:
        self.notes.append(f"{chain[-1]}: {text}")

    async def _find_record(self, chain: tuple[str, ...]) -> str:
        """Return the one SPF record of the last name (§4.5)."""
        try:
            found = await self.resolver.find_txt(chain[-1])
        except NameUnavailable as error:
            raise _fail(chain, str(error).removeprefix(f"{chain[-1]}: ")) from error
        records = [txt for txt in found.records if _VERSION.match(txt)]
        if len(records) != 1:
            what = f"{len(records)} SPF records, expected one" if records else "no SPF record"
            raise _fail(chain, what)
        if not _PRINTABLE.fullmatch(records[0]):
            raise _fail(chain, "the SPF record is not ASCII text")
        return records[0].decode("ascii")


@dataclass(frozen=True, slots=True)
class _Mechanism:
    qualifier: str
    name: str  # lower case
    value: str


class _Record:
    """One record, taken apart, and what passes by it so far."""

    def __init__(self, chain: tuple[str, ...], text: str) -> None:
        """Raises SpfUnusable for a term that no record may have (§4.6)."""
        self.chain = chain
        self.mechanisms: list[_Mechanism] = []
        self.redirect = ""
        self.is_closed = False  # by "all"
        self.passing: list[Network] = []
        self._taken: list[Network] = []
        for term in text.split(" ")[1:]:
            if term:
                self._take(term)

    def _take(self, term: str) -> None:
        if found := _MODIFIER.fullmatch(term):
            if found[1].lower() != "redirect":
                return  # exp, and what we do not know (§6)
            if self.redirect or not found[2]:
                raise _fail(self.chain, "expected one redirect, with a domain")
            self.redirect = found[2]
        elif (found := _MECHANISM.fullmatch(term)) is None:
            raise _fail(self.chain, f"{_show(term)} is no SPF term")
        else:
            self._take_mechanism(_Mechanism(found[1], found[2].lower(), found[4] or ""), found[3])

    def _take_mechanism(self, found: _Mechanism, separator: str | None) -> None:
        """Keep a mechanism, unless it stands behind "all" and so never matches (§5.1)."""
        if found.name == "all" and separator is None:
            if not self.is_closed and found.qualifier in ("", "+"):
                raise _fail(self.chain, "+all lets everybody pass")
            self.is_closed = True
        elif found.name in ("include", "ip4", "ip6") and (separator != ":" or not found.value):
            raise _fail(self.chain, f"{found.name} without a value")
        elif found.name not in ("include", "ip4", "ip6", *_NOT_FOLLOWED):
            raise _fail(self.chain, f"{_show(found.name)} is no SPF mechanism")
        elif not self.is_closed:
            self.mechanisms.append(found)

    def add(self, qualifier: str, networks: list[Network]) -> None:
        """Take what a term matches: it passes, or what comes later does not match it any more."""
        if qualifier in ("", "+"):
            for network in networks:
                self.passing += take_out([network], self._taken)
                # One with holes in it is many.
                if len(self.passing) > MOST_NETWORKS:
                    raise _fail(self.chain, f"more than {MOST_NETWORKS:,} networks")
            return
        self._taken += networks
        if len(self._taken) > MOST_TAKEN_OUT:
            raise _fail(self.chain, f"more than {MOST_TAKEN_OUT} networks that do not pass")


def _read_network(chain: tuple[str, ...], term: _Mechanism) -> Network:
    shape, kind = (
        (_IP4, ipaddress.IPv4Network) if term.name == "ip4" else (_IP6, ipaddress.IPv6Network)
    )
    if not shape.fullmatch(term.value):
        raise _fail(chain, f"{term.name} of {_show(term.value)}: expected a network")
    try:
        network: Network = kind(term.value)
    except ValueError as error:
        raise _fail(chain, f"{term.name} of {_show(term.value)}: {error}") from None
    return network


def _fail(chain: tuple[str, ...], text: str) -> SpfUnusable:
    """Say where in the chain it happened: "a.test, by way of b.test: no SPF record"."""
    way = f" (by way of {' > '.join(chain[:-1])})" if len(chain) > 1 else ""
    return SpfUnusable(f"{chain[-1]}{way}: {text}")


def _show(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:60]}...")
