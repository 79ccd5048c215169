"""Sites: who is one receiver, and the terms that hold there.

A domain belongs to the first ``[[site]]`` of the configuration that matches it, else to one of the
large providers of ``providers.toml``, else to its set of MX hosts, under default terms.

By MX, a site matches when *all* of a domain's best hosts carry its names, not when any does. The
MX records of a domain are a stranger's to write, and what happens to mail is counted at the site:
with "any", a domain that lists one host of a provider beside dead ones of its own would rest the
provider for everybody, and its own mail would take the provider's turns. The price of "all": a
domain that really is split between a provider and another host is not counted with the provider.
That is little mail, and it has the default's limits. Backup hosts do not matter: mail meets them
when the best hosts are gone.

A [[site]] without ``mx`` and ``domains`` that has a provider's name overrides the limits that it
sets, in the provider's entry. Under another name it matches everything, and its terms hold for each
set of MX hosts by itself: what is left over is not one receiver, and one that is down must not hold
up the others.
"""

import difflib
import functools
import importlib.resources
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from relay.config import Config, Rate
from relay.config.load import read_sites
from relay.config.schema import Delivery, Limits, Site, TlsLevel
from relay.errors import ConfigError

CACHE_SIZE = 10_000  # sites without an entry whose terms are kept


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds at one site, over all workers of all machines."""

    name: str
    tls: TlsLevel
    messages_per_connection: int
    connections: int | None  # over all sources
    rates: tuple[Rate, ...]  # over all sources; deliveries
    source_connections: int  # of each source
    source_rates: tuple[Rate, ...]
    retry: tuple[float, ...]  # seconds between attempts; the last one repeats


class Sites:
    """All sites that have an entry, in the order in which they are asked. One for each process."""

    def __init__(self, config: Config) -> None:
        shipped = {site.name: site for site in load_providers()}
        named = {site.name for site in config.site}
        self._delivery = config.delivery
        self._sites = [
            *(_override(site, shipped.get(site.name)) for site in config.site),
            *(site for site in shipped.values() if site.name not in named),
        ]
        self._terms = {
            site.name: _make_terms(site, config.delivery)
            for site in self._sites
            if site.mx or site.domains
        }
        self._others: dict[str, Terms] = {}

        everything = (site for site in self._sites if not site.mx and not site.domains)
        self._default = next(everything, Site(name=""))

    def __contains__(self, name: str) -> bool:
        """Tell whether a site of that name has an entry."""
        return name in self._terms

    def match(self, domain: str, hosts: Sequence[str]) -> Terms | None:
        """Return the terms for a recipient domain whose best hosts are these, if it has an entry.

        All names in lower case, without the final dot. None: its MX set is its site (``find``).
        """
        for site in self._sites:
            if not site.mx and not site.domains:
                return None
            if _matches(site, domain, hosts):
                return self._terms[site.name]
        return None

    def find(self, name: str) -> Terms:
        """Return the terms of a site known by its name.

        Without an entry of its own it has those of the one that matches everything, or the defaults.
        """
        terms = self._terms.get(name) or self._others.get(name)
        if terms is None:
            site = msgspec.structs.replace(self._default, name=name)
            terms = self._others[name] = _make_terms(site, self._delivery)
            if len(self._others) > CACHE_SIZE:
                del self._others[next(iter(self._others))]
        return terms


@functools.cache
def load_providers() -> tuple[Site, ...]:
    """Return the entries for the large providers. An error in them is ours, not the operator's."""
    text = importlib.resources.files("workers").joinpath("providers.toml").read_text("utf-8")
    try:
        return read_sites(tomllib.loads(text))
    except ConfigError as error:
        raise ConfigError([f"workers/providers.toml: {line}" for line in error.problems]) from None


def find_notices(config: Config) -> Iterator[str]:
    """Yield what is allowed in ``[[site]]`` but probably not meant."""
    shipped = [site.name for site in load_providers()]
    for number, site in enumerate(config.site):
        if site.mx or site.domains or site.name in shipped:
            continue
        close = difflib.get_close_matches(site.name.lower(), shipped, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        rest = len(config.site) - number - 1
        others = f"the {rest} after it and " if rest else ""
        yield (
            f"site[{number}] ({site.name}) has neither mx nor domains: it matches everything, "
            f"{others}the providers that we know are never looked at{meant}"
        )


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Match "example.org" itself, "*.example.org" below it, "*" everything."""
    return any(
        pattern in (name, "*") or (pattern.startswith("*.") and name.endswith(pattern[1:]))
        for pattern in patterns
    )


def _matches(site: Site, domain: str, hosts: Sequence[str]) -> bool:
    if matches_any(site.domains, domain):
        return True
    return bool(site.mx and hosts) and all(matches_any(site.mx, host) for host in hosts)


def _override(site: Site, shipped: Site | None) -> Site:
    """Lay what an operator's entry sets over the provider's, if that is what it is for."""
    if shipped is None or site.mx or site.domains:
        return site
    return msgspec.structs.replace(
        shipped,
        connections=site.connections or shipped.connections,
        messages_per_connection=site.messages_per_connection or shipped.messages_per_connection,
        rate=site.rate or shipped.rate,
        tls=site.tls or shipped.tls,
        retry=site.retry or shipped.retry,
        source=Limits(
            connections=site.source.connections or shipped.source.connections,
            messages_per_connection=site.source.messages_per_connection
            or shipped.source.messages_per_connection,
            rate=site.source.rate or shipped.source.rate,
        ),
    )


def _make_terms(site: Site, default: Delivery) -> Terms:
    return Terms(
        name=site.name,
        tls=site.tls or "opportunistic",
        # The nearest says it: the source at this site, the site, all sites.
        messages_per_connection=site.source.messages_per_connection
        or site.messages_per_connection
        or default.messages_per_connection,
        connections=site.connections,
        rates=site.rate.windows if site.rate else (),
        source_connections=site.source.connections or default.connections,
        source_rates=site.source.rate.windows if site.source.rate else (),
        retry=tuple(site.retry or default.retry),
    )
