"""What would become of mail to a domain now: all that a worker decides on, and why, in words.

Nothing is decided here: the router and its policies are a worker's own, and so is the way in which
sessions are opened. Only what workers remember of earlier sessions (``tls.downgrade``) is not asked.
"""

import dataclasses

import msgspec
import trio

from relay.config import Config
from relay.config.schema import Source
from relay.model import Outcome
from relay.net.resolver import Found, Mx, NameNotFound, NameUnavailable, Resolver, Tlsa
from workers.hosts import Addresses, Host, Hosts, NoAddress, find_family
from workers.prohibited import Prohibited
from workers.quote import limit
from workers.route import MAX_HOSTS, Path, Router
from workers.site import matches_any
from workers.tls.demand import Demands, Wish
from workers.tls.guard import Failing
from workers.tls.outlook import (
    MAX_RECORDS,
    Forecast,
    HostView,
    MxView,
    Sts,
    conclude,
    describe_guard,
    describe_record,
)
from workers.tls.pkix import Authorities
from workers.tls.probe import Session, visit
from workers.tls.rua import find_rua
from workers.tls.sts import StsPolicies


async def forecast(config: Config, domain: str, *, connect: bool = True) -> Forecast:
    """Decide for a recipient domain (lower case, A-labels) as a worker would; send nothing.

    ``connect``: open sessions with its hosts, too. Raises StartError for files that cannot be
    used, or a machine without name servers.
    """
    return await _Forecaster(config).make(domain, connect=connect)


@dataclasses.dataclass(frozen=True, slots=True)
class _Heard:
    """What the router's witness is told."""

    wish: Wish
    found: Addresses
    demands: Demands


class _Forecaster:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._authorities = Authorities.load(config.delivery.ca_file)
        self._resolver = resolver = Resolver(config.dns)
        self._prohibited = Prohibited(config.delivery.prohibited_hosts)
        self._hosts = Hosts(config, resolver)
        self._policies = self._make_policies() if config.tls.mta_sts else None
        self._heard: _Heard | None = None
        self._router = Router(config, resolver, self._policies, witness=self._hear)

    def _make_policies(self) -> StsPolicies:
        return StsPolicies(
            self._config,
            self._resolver,
            None,
            is_allowed=lambda address: not self._prohibited.covers_address(address),
            spawn=lambda *_: None,  # to refresh what is old: here nothing gets old
        )

    def _hear(self, wish: Wish, found: Addresses, demands: Demands) -> None:
        self._heard = _Heard(wish, found, demands)

    async def make(self, domain: str, *, connect: bool) -> Forecast:
        source, found = await self._find(domain)
        route = any(matches_any(one.domains, domain) for one in self._config.route)
        records = () if route or domain.startswith("[") else await self._find_mx(domain)
        heard = self._heard
        hosts: list[HostView] = []
        if heard is not None:
            hosts = await self._view_hosts(found, records, heard, source if connect else None)
        verdict, text = conclude(found, hosts, self._config.tls.downgrade)
        return Forecast(
            domain=domain,
            verdict=verdict,
            text=limit(text, 1000),
            origin=("route" if route else "mx" if records else "implicit") if heard else "",
            mx=tuple(
                MxView(one.preference, limit(one.name, 255))
                for one in sorted(records)[:MAX_RECORDS]
            ),
            secure=heard.wish.secure if heard else False,
            nameservers=tuple(map(str, self._config.dns.nameservers)) or ("/etc/resolv.conf",),
            trusted=self._resolver.is_trusted,
            site=found.site if isinstance(found, Path) else "",
            level=heard.wish.level if heard else "",
            sts=await self._view_sts(domain) if heard and not route else None,
            reports=await self._find_reports(domain) if heard else (),
            hosts=tuple(hosts),
        )

    # -- the domain

    async def _find(self, domain: str) -> tuple[Source, Path | Outcome]:
        """Return the path of the first source, or of the first that can reach the hosts at all."""
        source, *others = self._config.source
        found = await self._router.find(domain, find_family(source.address))
        if isinstance(found, NoAddress):
            for other in others:
                if find_family(other.address) is found.family:
                    return other, await self._router.find(domain, found.family)
        return source, found

    async def _find_mx(self, domain: str) -> tuple[Mx, ...]:
        try:
            return (await self._resolver.find_mx(domain)).records
        except (NameNotFound, NameUnavailable):
            return ()  # the outcome says so

    async def _view_sts(self, domain: str) -> Sts | None:
        if self._policies is None:
            return None
        policy, failing = await self._policies.find(domain)
        trouble = limit(self._policies.explain(domain))
        if policy is not None:
            return Sts(True, policy.mode, policy.id, policy.mx, policy.max_age, trouble)
        try:
            await self._resolver.find_txt(f"_mta-sts.{domain}")
        except NameUnavailable as error:
            return Sts(False, trouble=limit(str(error)))
        return Sts(bool(failing), trouble=trouble)

    async def _find_reports(self, domain: str) -> tuple[str, ...]:
        try:
            return await find_rua(self._resolver, domain)
        except NameUnavailable:
            return ()

    # -- its hosts

    async def _view_hosts(
        self,
        found: Path | Outcome,
        records: tuple[Mx, ...],
        heard: _Heard,
        source: Source | None,
    ) -> list[HostView]:
        """Return the hosts, those that are tried first; with sessions from ``source``."""
        tried = found.hosts if isinstance(found, Path) else ()
        preferences = {record.name: record.preference for record in sorted(records, reverse=True)}
        groups: dict[tuple[str, int], list[Host]] = {}
        for host in tried:
            groups.setdefault((host.name, host.port), []).append(host)
        for name in dict.fromkeys(
            [*heard.found, *sorted(preferences, key=preferences.__getitem__)]
        ):
            if all(name != known for known, _ in groups):
                groups[name, self._find_port(name)] = []
        views: dict[tuple[str, int], HostView] = {}

        async def view(place: tuple[str, int], hosts: list[Host]) -> None:
            made = await self._view(place, hosts, heard, preferences.get(place[0]))
            if source is not None and hosts:
                session = await self._visit(hosts, source)
                made = msgspec.structs.replace(made, session=session)
            views[place] = made

        async with trio.open_nursery() as nursery:
            for place, hosts in list(groups.items())[:MAX_RECORDS]:
                nursery.start_soon(view, place, hosts)
        return [views[place] for place in groups if place in views]

    def _find_port(self, name: str) -> int:
        """Return the port of a host that is not tried."""
        named = (
            end.port for route in self._config.route for end in route.hosts if end.host == name
        )
        return next(named, self._config.delivery.port)

    async def _view(
        self, place: tuple[str, int], hosts: list[Host], heard: _Heard, preference: int | None
    ) -> HostView:
        name, port = place
        answer = heard.found.get(name)
        unknown: Found[str] = Found(name=name)
        addresses = answer if isinstance(answer, Found) else unknown
        made = HostView(
            name=limit(name, 255),
            preference=preference,
            port=port,
            addresses=addresses.records[:MAX_RECORDS],
            addresses_secure=addresses.secure,
        )
        if not hosts:
            unfit = heard.demands.unfit.get(name)
            text = unfit.text if unfit else self._explain_left_out(name, answer)
            failing: Failing = unfit.failing if unfit else ""
            return msgspec.structs.replace(made, left_out=limit(text), failing=failing)
        records, text = await self._find_tlsa(place, addresses, heard.wish)
        guard = hosts[0].guard
        return msgspec.structs.replace(
            made,
            tlsa=tuple(map(describe_record, records[:MAX_RECORDS])),
            tlsa_text=limit(text),
            policy=guard.policy,
            level=guard.level,
            demand=describe_guard(guard),
        )

    def _explain_left_out(self, name: str, answer: Found[str] | str | None) -> str:
        own = {self._config.ingress.hostname, *(source.ehlo for source in self._config.source)}
        if isinstance(answer, str):
            return answer
        if answer is not None and not answer.records:
            return "it has no address that a source can reach"
        if answer is not None:
            if any(map(self._prohibited.covers_address, answer.records)):
                return "its addresses are prohibited (delivery.prohibited_hosts)"
            return "its addresses are those of this gateway"
        if self._prohibited.covers_name(name):
            return "it is prohibited (delivery.prohibited_hosts)"
        if name in {one.lower() for one in own}:
            return "it is this gateway"
        return (
            "it comes behind this gateway in preference, is no host name, or there are "
            f"{MAX_HOSTS} before it"
        )

    async def _find_tlsa(
        self, place: tuple[str, int], addresses: Found[str], wish: Wish
    ) -> tuple[tuple[Tlsa, ...], str]:
        """Return the records of a host, and why they do not count ("": they do, or there are none)."""
        text = self._explain_no_dane(wish, addresses)
        # RFC 7672 §2.2.2, as in demand.py: where the host is an alias, its real name first.
        for base in dict.fromkeys((addresses.name, place[0])):
            try:
                found = await self._resolver.find_tlsa(f"_{place[1]}._tcp.{base}")
            except NameUnavailable as error:
                return (), str(error)
            if found.records:
                return found.records, text or ("" if found.secure else "they are not validated")
        return (), ""

    def _explain_no_dane(self, wish: Wish, addresses: Found[str]) -> str:
        if not self._config.tls.dane:
            return "DANE is switched off (tls.dane)"
        if not self._resolver.is_trusted:
            return "our name servers are not believed to have validated anything"
        if wish.level == "none":
            return "no TLS is wanted there (tls = none)"
        if not wish.secure:
            return "the MX records are not validated: the domain has no DNSSEC"
        return "" if addresses.secure else "the host's addresses are not validated"

    async def _visit(self, hosts: list[Host], source: Source) -> Session:
        """Try the addresses of a host until one will have a session; return the last try."""
        sessions: list[Session] = []
        for host in hosts:
            sessions.append((await visit(host, source, self._authorities)).session)
            if sessions[-1].state != "failed":
                break
        return sessions[-1]
