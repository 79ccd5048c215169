"""Where a domain's mail goes: the hosts in order of trial, and the limits that hold there.

A configured ``[[route]]`` comes first, then the domain's MX records (RFC 5321 §5.1). Whatever
the DNS says about a domain is said by a stranger: host names are checked, the number of hosts
and addresses is bounded, and neither loopback nor our own addresses are ever taken from it.
Only a route in the configuration may name those.

Permanent are: no such domain, a null MX, an address literal. All else that stands in the way of
a route is temporary: a bounce cannot be called back, and a zone with a slip in it is usually
repaired within the days that a message may wait.
"""

import dataclasses
import hashlib
import ipaddress
import math
import random
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from relay.config import Config, Endpoint
from relay.config.schema import Route, TlsLevel
from relay.model import Blame, Disposition, Outcome
from relay.net.resolver import Mx, NameNotFound, NameUnavailable, Resolver
from workers.site import Sites, matches_any

MAX_HOSTS = 5  # of one domain; RFC 5321 §5.1 asks for at least two addresses to be tried
MAX_ADDRESSES = 3  # of one host
CACHE_SIZE = 10_000
# A route made of DNS answers is put together again after this many seconds; the resolver's cache
# knows the TTLs, this one only spares the work for every message of a burst.
PLAN_FOR = 5.0

# RFC 1123 §2.1 host names, with the underscore that the wild has. A last label of digits only is
# an address that somebody wrote into an MX record.
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
    r"(?![0-9]+$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)
# RFC 6761 §6.3: never asked for in the DNS. Only routes get here with it.
_LOCALHOST = {socket.AF_INET: ("127.0.0.1",), socket.AF_INET6: ("::1",)}
_NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_OTHER = {socket.AF_INET: socket.AF_INET6, socket.AF_INET6: socket.AF_INET}


@dataclass(frozen=True, slots=True)
class Host:
    """One address of one host. ``name`` is what its certificate must say."""

    name: str  # lower case, no final dot
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Path:
    """The way to a host group. What may be done there: ``Router.sites.find(path.site)``."""

    site: str
    key: str  # the same for the same host group, site and TLS level, whatever the order of hosts
    hosts: tuple[Host, ...]  # in order of trial; never empty
    tls: TlsLevel
    messages_per_connection: int
    is_shared: bool = False  # the site has an entry: other host groups may belong to it


class NoAddress(Outcome, frozen=True, kw_only=True):
    """A deferral that a source of the other ``family`` would not meet: the hosts have only that."""

    family: socket.AddressFamily


_T = TypeVar("_T")
_Question = tuple[str, socket.AddressFamily | None]  # domain, family of the source

# By name of the host: its addresses, or why nobody knows them.
_Addresses = dict[str, tuple[str, ...] | str]

# Hosts that are tried one tier after the other; within a tier in any order. A host is the tuple
# of its addresses.
_Tiers = tuple[tuple[tuple[Host, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A path before the draw among equals."""

    path: Path
    tiers: _Tiers
    expires: float


def find_family(address: str) -> socket.AddressFamily:
    """Return the family that a source of this address can reach; "0.0.0.0" is IPv4, "::" IPv6."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Router:
    """Finds paths, and keeps them. One for each process.

    ``chance`` decides among hosts of equal preference; tests pass a seeded one. ``sites`` knows
    the terms of every site that a path names.
    """

    def __init__(
        self, config: Config, resolver: Resolver, *, chance: random.Random | None = None
    ) -> None:
        self.sites = Sites(config)
        self._config = config
        self._resolver = resolver
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._fixed: dict[_Question, Path] = {}
        self._plans: dict[_Question, _Plan] = {}
        own = (config.ingress.hostname, *(source.ehlo for source in config.source))
        self._own_names = {name.lower() for name in own}
        self._own_addresses = {source.address for source in config.source}
        self._own_addresses.update(endpoint.host for endpoint in config.ingress.listen)

    def find_now(self, domain: str, family: socket.AddressFamily | None = None) -> Path | None:
        """Return the path if it is known; None when ``find`` has to look it up."""
        if (path := self._fixed.get((domain, family))) is not None:
            return path
        plan = self._plans.get((domain, family))
        if plan is None or plan.expires <= trio.current_time():
            return None
        return _draw(plan, self._chance)

    async def find(self, domain: str, family: socket.AddressFamily | None = None) -> Path | Outcome:
        """Return the path for a recipient domain (lower case, A-labels), or why there is none.

        ``family`` is the source's (``find_family``). The outcome is deferred or bounced, without
        command or code unless a standard gives one: no peer has said anything. It is a NoAddress
        when a source of the other family would find a path.
        """
        # Called for every delivery: no checkpoint where the answer is at hand.
        if (path := self.find_now(domain, family)) is not None:
            return path
        found = await self._make_plan(domain, family)
        if isinstance(found, Outcome):
            return found
        self._keep((domain, family), found)
        return _draw(found, self._chance)

    def _keep(self, question: _Question, plan: _Plan) -> None:
        if plan.expires == math.inf:
            self._fixed[question] = plan.path
            _trim(self._fixed)
        else:
            self._plans.pop(question, None)  # to the end of the line
            self._plans[question] = plan
            _trim(self._plans)

    async def _make_plan(self, domain: str, family: socket.AddressFamily | None) -> _Plan | Outcome:
        # RFC 5321 §4.1.3: a literal sends around the MX records, and so around whatever the
        # receiver has in front of its hosts. Nobody in this century means it.
        if domain.startswith("["):
            return _refuse("5.1.2", f"{domain}: mail to an address literal is not sent from here")
        for route in self._config.route:
            if matches_any(route.domains, domain):
                return await self._follow_route(route, domain, family)
        if not _HOST_NAME.fullmatch(domain):
            return _refuse("5.1.2", f"{domain[:255]!r} is not the name of a domain")
        return await self._follow_mx(domain, family)

    # -- configured routes

    async def _follow_route(
        self, route: Route, domain: str, family: socket.AddressFamily | None
    ) -> _Plan | Outcome:
        names = [endpoint.host.lower().rstrip(".") for endpoint in route.hosts]
        literal = all(_is_address(name) for name in names)
        found = await self._resolve(names, family)
        hosts = [
            tuple(Host(name, address, endpoint.port) for address in found[name][:MAX_ADDRESSES])
            for name, endpoint in zip(names, route.hosts, strict=True)
            if not isinstance(found[name], str)
        ]
        # The order of hosts is the operator's: a tier for each.
        tiers = tuple((host,) for host in hosts if host)
        if not tiers:
            return await self._explain_nothing(domain, family, found, lambda _: True)
        group = self._name_group(
            [str(Endpoint(name, e.port)) for name, e in zip(names, route.hosts, strict=True)]
        )
        return self._plan(domain, names, group, tiers, math.inf if literal else PLAN_FOR)

    # -- MX

    async def _follow_mx(self, domain: str, family: socket.AddressFamily | None) -> _Plan | Outcome:
        try:
            records = (await self._resolver.find_mx(domain)).records
        except NameNotFound as error:
            return _refuse("5.1.2", str(error))
        except NameUnavailable as error:
            return _defer("4.4.3", str(error))
        if not records:
            # RFC 5321 §5.1: the implicit MX, and only if there is no MX record at all.
            records = (Mx(0, domain),)
        elif all(record.name == "" for record in records):
            # RFC 7505 §3, and §4.1 for the codes.
            return _refuse("5.1.10", f"{domain} does not accept mail (null MX)", code=556)
        records = tuple(record for record in records if _HOST_NAME.fullmatch(record.name))
        if not records:
            return _defer("4.4.4", f"{domain}: none of its MX records holds a host name")
        candidates = self._order(records)
        if not candidates:
            return _defer("4.4.6", f"{domain}: its MX records point back to this gateway")
        return await self._follow_hosts(domain, records, candidates, family)

    def _order(self, records: Iterable[Mx]) -> list[Mx]:
        """Return the hosts to try, best first, at random among equals."""
        # RFC 5321 §5.1: when we are in the list ourselves, hosts of our own preference and worse
        # are left out, or mail would go in a circle.
        limit = min((r.preference for r in records if r.name in self._own_names), default=1 << 16)
        usable = [record for record in records if record.preference < limit]
        usable.sort(key=lambda record: (record.preference, self._chance.random()))
        return usable[:MAX_HOSTS]

    async def _follow_hosts(
        self,
        domain: str,
        records: Sequence[Mx],
        candidates: Sequence[Mx],
        family: socket.AddressFamily | None,
    ) -> _Plan | Outcome:
        found = await self._resolve([mx.name for mx in candidates], family)
        tiers: dict[int, list[tuple[Host, ...]]] = {}
        for mx in candidates:
            addresses = found[mx.name]
            if isinstance(addresses, str):
                continue
            usable = [address for address in addresses if self._is_foreign(address)]
            if usable:
                port = self._config.delivery.port
                hosts = tuple(Host(mx.name, address, port) for address in usable[:MAX_ADDRESSES])
                tiers.setdefault(mx.preference, []).append(hosts)
        if not tiers:
            return await self._explain_nothing(domain, family, found, self._is_foreign)
        # The site is the receiver's best hosts; a backup MX elsewhere does not make it another. All
        # of them: which five are candidates is drawn anew each time.
        best = [mx.name for mx in records if mx.preference == candidates[0].preference]
        group = self._name_group([mx.name for mx in records])
        return self._plan(domain, best, group, tuple(map(tuple, tiers.values())), PLAN_FOR)

    def _is_foreign(self, address: str) -> bool:
        """Tell whether an address from the DNS can be somebody else's mail host.

        A stranger's zone must not make us talk to ourselves or to what listens beside us.
        """
        if address in self._own_addresses:
            return False
        ip = ipaddress.ip_address(address)
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return not (ip.is_loopback or ip.is_unspecified or ip.is_multicast or ip.is_link_local)

    async def _resolve(
        self, names: Sequence[str], family: socket.AddressFamily | None
    ) -> _Addresses:
        """Return for each name its addresses, or the text of why nobody knows them."""
        found: _Addresses = {}

        async def look_up(name: str) -> None:
            try:
                found[name] = (await self._resolver.find_addresses(name, family)).records
            except NameNotFound:
                found[name] = ()
            except NameUnavailable as error:
                found[name] = str(error)

        async with trio.open_nursery() as nursery:
            for name in dict.fromkeys(names):
                if (known := _read_literal(name, family)) is not None:
                    found[name] = known
                else:
                    nursery.start_soon(look_up, name)
        return {name: found[name] for name in names}  # not in the order of the answers

    async def _explain_nothing(
        self,
        domain: str,
        family: socket.AddressFamily | None,
        found: _Addresses,
        is_usable: Callable[[str], bool],
    ) -> Outcome:
        """Say why no host is left. Temporary in all cases: the domain exists, and wants mail."""
        for answer in found.values():
            if isinstance(answer, str):
                return _defer("4.4.3", answer)
        if family is None:
            return _defer("4.4.4", f"{domain}: no usable address for its hosts: {_show(found)}")
        text = f"{domain}: no usable {_NAMES[family]} address for its hosts: {_show(found)}"
        other = _OTHER[family]
        rest = await self._resolve(list(found), other)
        if not any(is_usable(address) for answer in rest.values() for address in _known(answer)):
            return _defer("4.4.4", text)
        text += f"; they have {_NAMES[other]} addresses: {_show(rest)}"
        return NoAddress(Disposition.DEFERRED, Blame.HOST, status="4.4.4", text=text, family=other)

    # -- sites

    def _plan(
        self, domain: str, names: Sequence[str], group: str, tiers: _Tiers, keep: float
    ) -> _Plan:
        terms = self.sites.match(domain, names) or self.sites.find(group)
        path = Path(
            site=terms.name,
            # The TLS level is part of it: a session made without verification must never be
            # reused for mail that demands it.
            key=f"{terms.name}/{group}/{terms.tls}",
            hosts=tuple(host for tier in tiers for addresses in tier for host in addresses),
            tls=terms.tls,
            messages_per_connection=terms.messages_per_connection,
            is_shared=terms.name in self.sites,
        )
        return _Plan(path, tiers, trio.current_time() + keep)

    def _name_group(self, names: Iterable[str]) -> str:
        """Name a set of hosts: short, readable, another for every other set, and for every site.

        The name is a key of queues and limits, made of what strangers write into the DNS: nobody
        may find a set of hosts whose name is another's. So 64 bits of digest, and no plain host
        name that is a site's too.
        """
        first, *rest = sorted(set(names))
        if not rest and first not in self.sites:
            return first
        digest = hashlib.blake2b(",".join([first, *rest]).encode(), digest_size=8).hexdigest()
        return f"{first}+{len(rest)}-{digest}"


def _trim(cache: dict[_Question, Any]) -> None:
    """Drop what has been there longest."""
    if len(cache) > CACHE_SIZE:
        del cache[next(iter(cache))]


def _draw(plan: _Plan, chance: random.Random) -> Path:
    """Return the path with the order drawn anew.

    RFC 5321 §5.1: at random among hosts of equal preference. The addresses of one host are to be
    tried in the order that the DNS gave; it gives them in turn, and the cache must not undo that.
    """
    if plan.expires == math.inf:
        return plan.path
    hosts: list[Host] = []
    for tier in plan.tiers:
        for host in _shuffle(tier, chance):
            hosts += _shuffle(host, chance)
    path = plan.path
    return dataclasses.replace(path, hosts=tuple(hosts))


def _shuffle(items: Sequence[_T], chance: random.Random) -> Sequence[_T]:
    return items if len(items) == 1 else chance.sample(items, len(items))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read_literal(name: str, family: socket.AddressFamily | None) -> tuple[str, ...] | None:
    """Return the addresses of a host that needs no look-up, or None."""
    if _is_address(name):
        return (name,) if family in (None, find_family(name)) else ()
    if name == "localhost":
        return _LOCALHOST[family or socket.AF_INET]
    return None


def _show(found: _Addresses) -> str:
    return ", ".join(
        f"{name} ({', '.join(_known(answer)[:MAX_ADDRESSES]) or 'none'})"
        for name, answer in found.items()
    )


def _known(answer: tuple[str, ...] | str) -> tuple[str, ...]:
    return () if isinstance(answer, str) else answer


def _refuse(status: str, text: str, *, code: int = 0) -> Outcome:
    return Outcome(Disposition.BOUNCED, Blame.RECIPIENT, code=code, status=status, text=text)


def _defer(status: str, text: str) -> Outcome:
    return Outcome(Disposition.DEFERRED, Blame.HOST, status=status, text=text)
