"""Where a domain's mail goes: the hosts in order of trial, and the limits that hold there.

A configured ``[[route]]`` comes first, then the domain's MX records (RFC 5321 §5.1). Whatever
the DNS says about a domain is said by a stranger: host names are checked, the number of hosts
and addresses is bounded, and only hosts that may be one are taken from it (hosts.py). What TLS with
each host must show is a part of the path (tls/demand.py).

Permanent are: no such domain, a null MX, an address literal. All else that stands in the way of
a route is temporary: a bounce cannot be called back, and a zone with a slip in it is usually
repaired within the days that a message may wait.
"""

import dataclasses
import hashlib
import math
import random
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from relay.config import Config, Endpoint
from relay.config.schema import Route
from relay.model import Blame, Disposition, Outcome
from relay.net.resolver import Found, Mx, NameNotFound, NameUnavailable, Resolver
from workers.hosts import MAX_ADDRESSES, Addresses, Host, Hosts, defer, is_address
from workers.site import Sites, Terms, matches_any
from workers.tls.demand import Demands, Unfit, Wish, demand
from workers.tls.guard import Failing
from workers.tls.sts import StsPolicies, StsPolicy

MAX_HOSTS = 5  # of one domain; RFC 5321 §5.1 asks for at least two addresses to be tried
CACHE_SIZE = 10_000
# A route made of DNS answers is put together again after this many seconds; the resolver's cache
# knows the TTLs, this one only spares the work for every message of a burst.
PLAN_FOR = 5.0
# Who demands TLS of some of a site's mail only.
_OF_SOME = ("dane", "sts", "requiretls", "rule")

# RFC 1123 §2.1 host names, with the underscore that the wild has. A last label of digits only is
# an address that somebody wrote into an MX record.
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
    r"(?![0-9]+$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)


@dataclass(frozen=True, slots=True)
class Path:
    """The way to a host group. What may be done there: ``Router.sites.find(path.site)``."""

    site: str
    # The same for the same host group, site and demands, whatever the order of hosts: a session
    # that was made for less must never be used for mail that demands more.
    key: str
    hosts: tuple[Host, ...]  # in order of trial; never empty
    messages_per_connection: int
    is_shared: bool = False  # the site has an entry: other host groups may belong to it
    group: str = ""  # the name of the set of hosts

    @property
    def is_demanding(self) -> bool:
        """True when the domain, or the message, demands TLS that others at the site may not."""
        return any(host.guard.policy in _OF_SOME for host in self.hosts)


class Unprotected(Outcome, frozen=True, kw_only=True):
    """No host may be used, because of what TLS with it should be: ``host``, and why."""

    host: str
    failing: Failing


_T = TypeVar("_T")
# Domain, family of the source, what the message asks of TLS.
_Question = tuple[str, socket.AddressFamily | None, str]

# Hosts that are tried one tier after the other; within a tier in any order. A host is the tuple
# of its addresses.
_Tiers = tuple[tuple[tuple[Host, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A path before the draw among equals."""

    path: Path
    tiers: _Tiers
    expires: float


class Router:
    """Finds paths, and keeps them. One for each process.

    ``policies``: None does without MTA-STS. ``chance`` decides among hosts of equal preference; tests
    pass a seeded one. ``witness`` is told what was asked and decided about the hosts of a domain, those
    left out too: for who wants to explain it. ``sites`` knows the terms of every site that a path names.
    """

    def __init__(
        self,
        config: Config,
        resolver: Resolver,
        policies: StsPolicies | None = None,
        *,
        chance: random.Random | None = None,
        witness: Callable[[Wish, Addresses, Demands], object] | None = None,
    ) -> None:
        self.sites = Sites(config)
        self.policies = policies
        self._hosts = Hosts(config, resolver)
        self._dane = resolver if config.tls.dane and resolver.is_trusted else None
        self._config = config
        self._resolver = resolver
        self._witness = witness
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._fixed: dict[_Question, Path] = {}
        self._plans: dict[_Question, _Plan] = {}
        own = (config.ingress.hostname, *(source.ehlo for source in config.source))
        self._own_names = {name.lower() for name in own}

    def find_now(
        self, domain: str, family: socket.AddressFamily | None = None, asked: str = ""
    ) -> Path | None:
        """Return the path if it is known; None when ``find`` has to look it up."""
        if (path := self._fixed.get((domain, family, asked))) is not None:
            return path
        plan = self._plans.get((domain, family, asked))
        if plan is None or plan.expires <= trio.current_time():
            return None
        return _draw(plan, self._chance)

    async def find(
        self, domain: str, family: socket.AddressFamily | None = None, asked: str = ""
    ) -> Path | Outcome:
        """Return the path for a recipient domain (lower case, A-labels), or why there is none.

        ``family`` is the source's (``find_family``), ``asked`` the message's ``Envelope.tls``. The
        outcome is deferred or bounced, without command or code unless a standard gives one: no
        peer has said anything. It is a NoAddress when a source of the other family would find a
        path, and Unprotected when TLS is what stands in the way.
        """
        # Called for every delivery: no checkpoint where the answer is at hand.
        if (path := self.find_now(domain, family, asked)) is not None:
            return path
        found = await self._make_plan(domain, family, asked)
        if isinstance(found, Outcome):
            return found
        self._keep((domain, family, asked), found)
        return _draw(found, self._chance)

    def _keep(self, question: _Question, plan: _Plan) -> None:
        if plan.expires == math.inf:
            self._fixed[question] = plan.path
            _trim(self._fixed)
        else:
            self._plans.pop(question, None)  # to the end of the line
            self._plans[question] = plan
            _trim(self._plans)

    async def _make_plan(
        self, domain: str, family: socket.AddressFamily | None, asked: str
    ) -> _Plan | Outcome:
        # RFC 5321 §4.1.3: a literal sends around the MX records, and so around whatever the
        # receiver has in front of its hosts. Nobody in this century means it.
        if domain.startswith("["):
            return _refuse("5.1.2", f"{domain}: mail to an address literal is not sent from here")
        for route in self._config.route:
            if matches_any(route.domains, domain):
                return await self._follow_route(route, domain, family, asked)
        if not _HOST_NAME.fullmatch(domain):
            return _refuse("5.1.2", f"{domain[:255]!r} is not the name of a domain")
        return await self._follow_mx(domain, family, asked)

    # -- configured routes

    async def _follow_route(
        self, route: Route, domain: str, family: socket.AddressFamily | None, asked: str
    ) -> _Plan | Outcome:
        names = [endpoint.host.lower().rstrip(".") for endpoint in route.hosts]
        found = await self._hosts.find(names, family)
        group = self._name_group(
            [str(Endpoint(name, e.port)) for name, e in zip(names, route.hosts, strict=True)]
        )
        terms = self._find_terms(domain, names, group)
        # The operator has named the hosts: nobody can have forged them (RFC 7672 §2.2.2).
        wish = Wish(domain, terms.tls, asked, secure=True)
        ports = {name: e.port for name, e in zip(names, route.hosts, strict=True)}
        demands = await self._demand(wish, found, ports)
        # The order of hosts is the operator's: a tier for each.
        tiers = [
            (self._make_hosts(name, endpoint.port, found, demands, all_foreign=True),)
            for name, endpoint in zip(names, route.hosts, strict=True)
        ]
        usable = tuple(tier for tier in tiers if tier[0])
        if not usable:
            return await self._explain(domain, family, found, demands, everywhere=True)
        literal = all(is_address(name) for name in names)
        return self._plan(terms, group, usable, demands, math.inf if literal else PLAN_FOR)

    # -- MX

    async def _follow_mx(
        self, domain: str, family: socket.AddressFamily | None, asked: str
    ) -> _Plan | Outcome:
        try:
            found = await self._resolver.find_mx(domain)
        except NameNotFound as error:
            return _refuse("5.1.2", str(error))
        except NameUnavailable as error:
            return defer("4.4.3", str(error))
        records = found.records
        if not records:
            # RFC 5321 §5.1: the implicit MX, and only if there is no MX record at all.
            records = (Mx(0, domain),)
        elif all(record.name == "" for record in records):
            # RFC 7505 §3, and §4.1 for the codes.
            return _refuse("5.1.10", f"{domain} does not accept mail (null MX)", code=556)
        records = tuple(record for record in records if _HOST_NAME.fullmatch(record.name))
        if not records:
            return defer("4.4.4", f"{domain}: none of its MX records holds a host name")
        candidates = self._order(records)
        if not candidates:
            return defer("4.4.6", f"{domain}: its MX records point back to this gateway")
        # Those that are left, not the first: a prohibited host must not take another one's place.
        candidates = [mx for mx in candidates if self._hosts.is_allowed(mx.name)][:MAX_HOSTS]
        if not candidates:
            return defer("4.4.4", f"{domain}: its hosts are prohibited (delivery.prohibited_hosts)")
        secure = found.secure
        return await self._follow_hosts(domain, records, candidates, family, asked, secure=secure)

    def _order(self, records: Iterable[Mx]) -> list[Mx]:
        """Return the hosts that can be tried, best first, at random among equals."""
        # RFC 5321 §5.1: when we are in the list ourselves, hosts of our own preference and worse
        # are left out, or mail would go in a circle.
        limit = min((r.preference for r in records if r.name in self._own_names), default=1 << 16)
        usable = [record for record in records if record.preference < limit]
        usable.sort(key=lambda record: (record.preference, self._chance.random()))
        return usable

    async def _follow_hosts(
        self,
        domain: str,
        records: Sequence[Mx],
        candidates: Sequence[Mx],
        family: socket.AddressFamily | None,
        asked: str,
        *,
        secure: bool,
    ) -> _Plan | Outcome:
        found = await self._hosts.find([mx.name for mx in candidates], family)
        # The site is the receiver's best hosts; a backup MX elsewhere does not make it another. All
        # of them: which five are candidates is drawn anew each time.
        best = [mx.name for mx in records if mx.preference == candidates[0].preference]
        group = self._name_group([mx.name for mx in records])
        terms = self._find_terms(domain, best, group)
        policy = None if asked == "optional" else await self._find_policy(domain)
        ports = dict.fromkeys(found, self._config.delivery.port)
        demands = await self._demand(Wish(domain, terms.tls, asked, secure, policy), found, ports)
        tiers: dict[int, list[tuple[Host, ...]]] = {}
        for mx in candidates:
            if hosts := self._make_hosts(mx.name, self._config.delivery.port, found, demands):
                tiers.setdefault(mx.preference, []).append(hosts)
        if not tiers:
            return await self._explain(domain, family, found, demands)
        return self._plan(terms, group, tuple(map(tuple, tiers.values())), demands, PLAN_FOR)

    def _make_hosts(
        self, name: str, port: int, found: Addresses, demands: Demands, *, all_foreign: bool = False
    ) -> tuple[Host, ...]:
        """Return the addresses of one host that may be used, with what they must show."""
        answer, guard = found[name], demands.guards.get(name)
        if isinstance(answer, str) or guard is None:
            return ()
        usable = [a for a in answer.records if all_foreign or self._hosts.is_foreign(a)]
        return tuple(Host(name, address, port, guard) for address in usable[:MAX_ADDRESSES])

    async def _explain(
        self,
        domain: str,
        family: socket.AddressFamily | None,
        found: Addresses,
        demands: Demands,
        *,
        everywhere: bool = False,
    ) -> Outcome:
        """Say why no host is left."""
        for name, unfit in demands.unfit.items():
            return _shut_out(name, unfit)
        is_usable = (lambda _: True) if everywhere else self._hosts.is_foreign
        return await self._hosts.explain_nothing(domain, family, found, is_usable)

    # -- TLS

    async def _find_policy(self, domain: str) -> StsPolicy | None:
        if self.policies is None:
            return None
        policy, _ = self.policies.find_now(domain) or await self.policies.find(domain)
        return policy

    async def _demand(self, wish: Wish, found: Addresses, ports: Mapping[str, int]) -> Demands:
        known = {name: answer for name, answer in found.items() if isinstance(answer, Found)}
        demands = await demand(wish, known, ports, resolver=self._dane)
        if self._witness is not None:
            self._witness(wish, found, demands)
        return demands

    # -- sites

    def _find_terms(self, domain: str, names: Sequence[str], group: str) -> Terms:
        return self.sites.match(domain, names) or self.sites.find(group)

    def _plan(
        self, terms: Terms, group: str, tiers: _Tiers, demands: Demands, keep: float
    ) -> _Plan:
        path = Path(
            site=terms.name,
            key=f"{terms.name}/{group}/{demands.label}",
            hosts=tuple(host for tier in tiers for addresses in tier for host in addresses),
            messages_per_connection=terms.messages_per_connection,
            is_shared=terms.name in self.sites,
            group=group,
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


def _refuse(status: str, text: str, *, code: int = 0) -> Outcome:
    return Outcome(Disposition.BOUNCED, Blame.RECIPIENT, code=code, status=status, text=text)


def _shut_out(name: str, unfit: Unfit) -> Outcome:
    """Return the outcome where TLS keeps a host, the last one, from being used."""
    return Unprotected(
        Disposition.BOUNCED if unfit.status.startswith("5") else Disposition.DEFERRED,
        Blame.MESSAGE if unfit.status.startswith("5") else Blame.HOST,
        status=unfit.status,
        text=unfit.text,
        host=name,
        failing=unfit.failing,
    )
