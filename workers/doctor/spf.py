"""Would mail of a domain from an address of ours pass SPF? RFC 7208, as far as that can be told beforehand.

A receiver evaluates a message; we know only the address and the domain. So what asks for more is not
evaluated: macros, ``exists`` and ``ptr``. When such a term could make another result of it, the result
is *unknown*, and the reason says which term it was. All else is evaluated as §4.6 and §5 say, the
limits on look-ups included: a record that breaks them is a permanent error at receivers, too.

relay/ingress/networks/spf.py answers another question: which networks a record lists.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Literal

from relay.config.shapes import DOMAIN
from relay.config.units import Network
from relay.errors import OutgateError
from relay.net.resolver import NameNotFound, NameUnavailable, Resolver
from workers.quote import limit

Result = Literal["pass", "fail", "softfail", "neutral", "none", "permerror", "temperror", "unknown"]

# §4.6.4: terms that cause look-ups, in all records together; names of one mx; look-ups for nothing.
MOST_LOOKUPS = 10
MOST_HOSTS = 10
MOST_VOIDS = 2
_MOST_TERMS = 2000  # of one record; ours

_VERSION = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)  # §4.5
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)")
_MECHANISM = re.compile(r"([-+?~]?)([A-Za-z][A-Za-z0-9_.-]*)((?:[:/].*)?)")
# Behind the name of a or mx: a domain, how much of an IPv4 address counts, and of an IPv6 one (§5.6).
_HOSTS = re.compile(r"(?::([^/]+))?(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?")
_NETWORK = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/(?:0|[1-9][0-9]{0,2}))?")  # netmasks are none
_RESULTS: dict[str, Result] = {
    "": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"
}  # fmt: skip
_LOOKING_UP = frozenset(("include", "a", "mx", "ptr", "exists"))
_NOT_EVALUATED = frozenset(("ptr", "exists"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Chain = tuple[str, ...]  # how we came to a record, the first domain first


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a receiver would find, and which term it was, or what the trouble is."""

    result: Result
    text: str


class _Broken(OutgateError):
    """The records are a permanent error (§2.6.7)."""


@dataclass(frozen=True, slots=True)
class _Term:
    """One mechanism. ``text``: as it stands there."""

    result: Result  # if it matches
    name: str
    text: str
    domain: str = ""
    network: Network | None = None
    lengths: tuple[int, int] = (32, 128)  # of a prefix: IPv4, IPv6
    has_macro: bool = False


@dataclass(frozen=True, slots=True)
class _Record:
    terms: tuple[_Term, ...]
    redirect: str


async def evaluate(resolver: Resolver, address: str, domain: str) -> Verdict:
    """Return what mail of ``domain`` (MAIL FROM, or EHLO for the null sender) from an address gets.

    Never raises for what the DNS says or does not say. ``domain`` in A-labels, lower case.
    """
    evaluation = _Evaluation(resolver, ipaddress.ip_address(address))
    try:
        return await evaluation.check((domain,))
    except _Broken as error:
        return Verdict("permerror", str(error))
    except NameUnavailable as error:
        return Verdict("temperror", str(error))


class _Evaluation:
    """One evaluation: the counts are over all records together."""

    def __init__(self, resolver: Resolver, address: Address) -> None:
        self._resolver = resolver
        self._address = address
        self._family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._lookups = 0
        self._voids = 0

    async def check(self, chain: Chain) -> Verdict:
        """Evaluate the record of the last domain of the chain (§4.6)."""
        text = await self._find_record(chain)
        if text is None:
            return Verdict("none", f"{chain[-1]} has no SPF record")
        record = _read(chain, text)
        unsure: list[Verdict] = []  # what would come of terms that cannot be evaluated
        for term in record.terms:
            matches = await self._match(chain, term)
            if matches is True:
                return _decide(Verdict(term.result, f"{term.text} of {chain[-1]}"), unsure)
            if matches is not False:
                unsure.append(Verdict(term.result, matches))
        if not record.redirect:
            return _decide(Verdict("neutral", f"nothing in {chain[-1]} matches"), unsure)
        if "%" in record.redirect:
            return Verdict("unknown", f"redirect={record.redirect} of {chain[-1]} has a macro")
        verdict = await self._go(chain, record.redirect)
        if verdict.result == "none":  # §6.1
            raise _break(chain, f"redirect to {record.redirect}, which has no SPF record")
        return _decide(verdict, unsure)

    async def _find_record(self, chain: Chain) -> str | None:
        """Return the SPF record; None when there is none. Several are an error (§4.5)."""
        found = (await self._resolver.find_txt(chain[-1])).records
        records = [one for one in found if _VERSION.match(one)]
        if len(records) > 1:
            raise _break(chain, f"{len(records)} SPF records: there may be one")
        if not records:
            return None
        if not all(32 <= octet < 127 for octet in records[0]):
            raise _break(chain, "the SPF record is not ASCII text")
        return records[0].decode("ascii")

    async def _match(self, chain: Chain, term: _Term) -> bool | str:
        """Tell whether a mechanism matches, or why nobody can say beforehand."""
        if term.name in _LOOKING_UP:
            self._count(chain)
        if term.has_macro:
            return f"{term.text} of {chain[-1]} has a macro"
        if term.name in _NOT_EVALUATED:
            return f"{term.text} of {chain[-1]} depends on the message"
        if term.name == "all":
            return True
        if term.network is not None:
            return self._address in term.network
        if term.name == "include":
            return await self._include(chain, term)
        return await self._match_hosts(chain, term)

    async def _include(self, chain: Chain, term: _Term) -> bool | str:
        """§5.2: only what passes there matches here."""
        verdict = await self.check((*chain, term.domain))
        if verdict.result == "none":
            raise _break(chain, f"{term.text}: there is no SPF record")
        return verdict.text if verdict.result == "unknown" else verdict.result == "pass"

    async def _match_hosts(self, chain: Chain, term: _Term) -> bool:
        """§5.3, §5.4: the domain's addresses, or those of its mail hosts."""
        domain = term.domain or chain[-1]
        hosts = [domain] if term.name == "a" else await self._find_hosts(chain, domain)
        length = term.lengths[0 if self._address.version == 4 else 1]
        for host in hosts:
            try:
                found = (await self._resolver.find_addresses(host, self._family)).records
            except NameNotFound:
                found = ()
            if not found:
                self._count_void(chain, host)
            if any(_contains(one, length, self._address) for one in found):
                return True
        return False

    async def _find_hosts(self, chain: Chain, domain: str) -> list[str]:
        try:
            found = (await self._resolver.find_mx(domain)).records
        except NameNotFound:
            found = ()
        if not found:
            self._count_void(chain, domain)
        if len(found) > MOST_HOSTS:
            raise _break(chain, f"mx of {domain}: more than {MOST_HOSTS} hosts")
        return [one.name for one in found if one.name]

    async def _go(self, chain: Chain, domain: str) -> Verdict:
        self._count(chain)
        return await self.check((*chain, domain))

    def _count(self, chain: Chain) -> None:
        self._lookups += 1
        if self._lookups > MOST_LOOKUPS:
            raise _break(chain, f"more than {MOST_LOOKUPS} look-ups (RFC 7208 §4.6.4)")

    def _count_void(self, chain: Chain, name: str) -> None:
        self._voids += 1
        if self._voids > MOST_VOIDS:
            raise _break(chain, f"more than {MOST_VOIDS} look-ups for nothing, {name} the last")


def _decide(verdict: Verdict, unsure: list[Verdict]) -> Verdict:
    """A result holds when what could not be evaluated before it would have made the same of it."""
    other = next((one for one in unsure if one.result != verdict.result), None)
    return verdict if other is None else Verdict("unknown", other.text)


def _contains(address: str, length: int, ours: Address) -> bool:
    return ours in ipaddress.ip_network(f"{address}/{length}", strict=False)


# -- reading a record


def _read(chain: Chain, text: str) -> _Record:
    """Take a record apart. An error anywhere in it makes all of it one (§4.6)."""
    words = [word for word in text.split(" ")[1:] if word]
    if len(words) > _MOST_TERMS:
        raise _break(chain, f"more than {_MOST_TERMS} terms")
    terms: list[_Term] = []
    redirect = ""
    for word in words:
        if found := _MODIFIER.fullmatch(word):
            if found[1].lower() == "redirect":  # others are passed over (§6)
                if redirect:
                    raise _break(chain, "two redirects")
                redirect = found[2] if "%" in found[2] else _read_domain(chain, word, found[2])
        else:
            terms.append(_read_mechanism(chain, word))
    # §6.1: "all" makes a redirect not count, wherever either stands.
    closed = any(term.name == "all" for term in terms)
    return _Record(tuple(terms), "" if closed else redirect)


def _read_mechanism(chain: Chain, word: str) -> _Term:
    found = _MECHANISM.fullmatch(word)
    if found is None:
        raise _break(chain, f"{limit(word, 60)} is no SPF term")
    result, name, rest, shown = _RESULTS[found[1]], found[2].lower(), found[3], limit(word, 60)
    if name == "all" and not rest:
        return _Term(result, name, shown)
    if name in ("ip4", "ip6") and rest[:1] == ":":
        return _Term(result, name, shown, network=_read_network(chain, name, rest[1:], shown))
    if name in ("include", "exists") and len(rest) > 1 and rest[0] == ":":
        if "%" in rest:
            return _Term(result, name, shown, has_macro=True)
        return _Term(result, name, shown, _read_domain(chain, shown, rest[1:]))
    if name in ("a", "mx", "ptr"):
        return _read_hosts(chain, _Term(result, name, shown), rest)
    raise _break(chain, f"{shown} is no SPF mechanism")


def _read_hosts(chain: Chain, term: _Term, rest: str) -> _Term:
    if "%" in rest:
        return _Term(term.result, term.name, term.text, has_macro=True)
    found = _HOSTS.fullmatch(rest)
    lengths = (int(found[2] or 32), int(found[3] or 128)) if found else (0, 0)
    if found is None or lengths[0] > 32 or lengths[1] > 128:
        raise _break(chain, f"{term.text} cannot be read")
    domain = _read_domain(chain, term.text, found[1]) if found[1] else ""
    return _Term(term.result, term.name, term.text, domain, lengths=lengths)


def _read_network(chain: Chain, name: str, value: str, shown: str) -> Network:
    kind = ipaddress.IPv4Network if name == "ip4" else ipaddress.IPv6Network
    try:
        if not _NETWORK.fullmatch(value):
            raise ValueError
        network: Network = kind(value, strict=False)
    except ValueError:
        raise _break(chain, f"{shown}: expected a network") from None
    return network


def _read_domain(chain: Chain, shown: str, value: str) -> str:
    domain = value.lower().rstrip(".")
    if not DOMAIN.fullmatch(domain):
        raise _break(chain, f"{limit(shown, 60)}: expected a domain")
    return domain


def _break(chain: Chain, text: str) -> _Broken:
    way = f" (by way of {' > '.join(chain[:-1])})" if len(chain) > 1 else ""
    return _Broken(f"{chain[-1]}{way}: {text}")
