"""The DNS: the only module that knows dnspython.

Three answers are kept apart, because they mean three different things to a message: records;
no such name, or no such record (permanent, for whoever asked for it); and *unavailable* (SERVFAIL,
silence, nonsense from every server: try later, and never take it for "no record").

Answers of all three kinds are kept in one bounded cache, so that a thousand deliveries to a
domain whose name servers are dead cost one time-out and not a thousand. An answer may hold 64 KiB,
and a stranger decides how much: one that takes much memory counts as many.

An answer is *secure* when the name server says that it has validated it (the AD bit, RFC 4035
§3.2.3), and we believe that server: anybody on the way could set the bit. Believed is a server on
this host, or whatever ``dns.trust_ad`` says. An answer that failed validation never arrives: it is
SERVFAIL, so unavailable.
"""

import ipaddress
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.rdtypes.ANY.TLSA
import dns.resolver
import dns.reversename
import trio

from relay.config import Endpoint
from relay.config.schema import Dns
from relay.errors import ConfigError, OutgateError, StartError

# How long an answer is kept, in seconds, whatever its TTL says. The floor keeps a TTL of 0 from
# turning every message into a query; the ceiling keeps a moved host from being missed for long.
FLOOR = 5.0
CEILING = 3600.0
# RFC 2308 §5 allows hours; a record that somebody has just added should be seen sooner.
NEGATIVE_CEILING = 60.0
# RFC 2308 §7: a failure may be remembered, for at most five minutes.
UNAVAILABLE_FOR = 5.0
# An answer is counted once for each such part of its records, in octets of memory.
SHARE = 1024
# Sockets open at a time: names that do not answer must not use up the process' descriptors.
CONCURRENT = 256
# One name server may take this long before the next is asked (and the first again).
TRY_FOR = 2.0

# RFC 7671 §9: a record whose digest has the wrong length cannot be used, and the others of its name
# can. dnspython refuses the whole answer; which records are of use is decided by tls/dane.py.
dns.rdtypes.ANY.TLSA.TLSA._cert_length_by_mtype = {}

_EDNS_PAYLOAD = 1232  # what passes without fragments: DNS flag day 2020
_FAMILIES = {
    socket.AF_INET: (dns.rdatatype.A,),
    socket.AF_INET6: (dns.rdatatype.AAAA,),
    None: (dns.rdatatype.A, dns.rdatatype.AAAA),
}


class NameNotFound(OutgateError):
    """The name does not exist (NXDOMAIN), with records of any type."""


class NameUnavailable(OutgateError):
    """Nobody could say whether the name exists: SERVFAIL, REFUSED, silence. Try later."""


class Mx(NamedTuple):
    """One MX record; ``name`` in lower case without the final dot, "" for the root."""

    preference: int
    name: str


class Tlsa(NamedTuple):
    """One TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Found(Generic[_T]):
    """An answer: records of one type (none: the name has none), and what they are worth.

    ``secure``: validated by a resolver that we believe. ``name``: whose records they are, after
    all aliases, in lower case without the final dot.
    """

    records: tuple[_T, ...] = ()
    secure: bool = False
    name: str = ""


class _Answer(NamedTuple):
    """What the cache keeps: what was found, or the exception to raise.

    In our own words: dnspython's records take three times the memory.
    """

    expires: float
    found: Found[Any] = Found()
    shares: int = 1  # of the cache
    problem: type[OutgateError] | None = None
    text: str = ""


class Resolver:
    """Looks names up, with a cache, each name once at a time. One for each process."""

    def __init__(self, config: Dns) -> None:
        """Raises ConfigError for a name server that is not an IP address, StartError when none
        is configured and the system has none either.
        """
        self._stub = _make_stub(config)
        self._timeout = config.timeout
        self._size = config.cache
        self.is_trusted = _is_trusted(config, self._stub)
        self._cache: OrderedDict[tuple[str, dns.rdatatype.RdataType], _Answer] = OrderedDict()
        self._shares = 0  # of all that is in the cache
        self._flights: dict[tuple[str, dns.rdatatype.RdataType], trio.Event] = {}
        self._slots = trio.CapacityLimiter(CONCURRENT)
        self._backend = dns.asyncbackend.get_backend("trio")

    @property
    def nameservers(self) -> tuple[str, ...]:
        """Whom we ask, in the order in which they are asked; for people."""
        return tuple(str(server).removeprefix("Do53:") for server in self._stub.nameservers)

    @property
    def size(self) -> int:
        """How many answers are kept."""
        return len(self._cache)

    async def find_mx(self, name: str) -> Found[Mx]:
        """Return the MX records of a domain as they are, unsorted.

        Raises NameNotFound, NameUnavailable.
        """
        return await self._find(name, dns.rdatatype.MX)

    async def find_addresses(
        self, name: str, family: socket.AddressFamily | None = None
    ) -> Found[str]:
        """Return the addresses of a host, aliases followed; none when it has none of the family.

        Without a family: IPv4 first, then IPv6. One of the two is enough when the other could
        not be had; all that were had must be secure. Raises NameNotFound, NameUnavailable.
        """
        answers: list[Found[str]] = []
        unavailable: NameUnavailable | None = None
        for kind in _FAMILIES[family]:
            try:
                answers.append(await self._find(name, kind))
            except NameUnavailable as error:
                unavailable = error
        if len(answers) == 1 and unavailable is None:
            return answers[0]
        addresses = tuple(one for answer in answers for one in answer.records)
        if unavailable is not None and not addresses:
            raise unavailable
        secure = all(answer.secure for answer in answers)
        return Found(addresses, secure, answers[0].name)

    async def find_tlsa(self, name: str) -> Found[Tlsa]:
        """Return the TLSA records of ``_25._tcp.host``; none when there is no such name.

        Raises NameUnavailable: then the host must not be used (RFC 7672 §2.1.2).
        """
        try:
            return await self._find(name, dns.rdatatype.TLSA)
        except NameNotFound:
            return Found(name=name)

    async def find_alias(self, name: str) -> Found[str]:
        """Return what a name is an alias of, one step and no further; none when it is none.

        That step can be secure where the rest of the way is not. Raises NameUnavailable.
        """
        try:
            return await self._find(name, dns.rdatatype.CNAME)
        except NameNotFound:
            return Found(name=name)

    async def find_txt(self, name: str) -> Found[bytes]:
        """Return the TXT records of a name, the strings of each joined; none without the name.

        Raises NameUnavailable.
        """
        try:
            return await self._find(name, dns.rdatatype.TXT)
        except NameNotFound:
            return Found(name=name)

    async def find_names(self, address: str) -> Found[str]:
        """Return the names that an IP address has (PTR, RFC 1035 §3.5); none without a record.

        Raises NameUnavailable; ValueError for what is no address.
        """
        ipaddress.ip_address(address)
        name = _name(dns.reversename.from_address(address))
        try:
            return await self._find(name, dns.rdatatype.PTR)
        except NameNotFound:
            return Found(name=name)

    async def find_authority(self, name: str) -> Found[str]:
        """Return the first name server of a zone, off its SOA record; none when it is no zone.

        The root, "", is a zone that is signed: an answer about it that is not ``secure`` comes from a
        resolver that does not validate, or is not believed. Raises NameNotFound, NameUnavailable.
        """
        return await self._find(name, dns.rdatatype.SOA)

    async def _find(self, name: str, kind: dns.rdatatype.RdataType) -> Found[Any]:
        answer = await self._ask((name.lower().rstrip("."), kind))
        if answer.problem is not None:
            raise answer.problem(answer.text)
        return answer.found

    async def _ask(self, key: tuple[str, dns.rdatatype.RdataType]) -> _Answer:
        """Answer from the cache, or wait for whoever is asking already, or ask."""
        while True:
            if (answer := self._cache.get(key)) and answer.expires > trio.current_time():
                self._cache.move_to_end(key)
                return answer
            if (flight := self._flights.get(key)) is None:
                return await self._lead(key)
            # Every answer goes through the cache, failures too. When the one who asked was
            # cancelled there is none, and the first to wake up here asks in its place.
            await flight.wait()

    async def _lead(self, key: tuple[str, dns.rdatatype.RdataType]) -> _Answer:
        """Ask on behalf of everybody who wants to know at this moment."""
        flight = self._flights[key] = trio.Event()
        try:
            answer = await self._query(*key)
            self._keep(key, answer)
            return answer
        finally:
            del self._flights[key]
            flight.set()

    def _keep(self, key: tuple[str, dns.rdatatype.RdataType], answer: _Answer) -> None:
        """Put an answer into the cache, and take out what has not been used for longest."""
        if (old := self._cache.pop(key, None)) is not None:
            self._shares -= old.shares
        self._cache[key] = answer
        self._shares += answer.shares
        # The new one stays, however large: who waits for it looks for it there.
        while self._shares > self._size and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._shares -= old.shares

    async def _query(self, name: str, kind: dns.rdatatype.RdataType) -> _Answer:
        async with self._slots:
            # A deadline of our own around dnspython's, which counts on the wall clock.
            with trio.move_on_after(self._timeout):
                return await self._resolve(name, kind)
        return _unavailable(f"{name}: no answer from the DNS within {self._timeout:g} s")

    async def _resolve(self, name: str, kind: dns.rdatatype.RdataType) -> _Answer:
        """Put the question to the name servers, and their answers into our words."""
        try:
            # No search list: the names of mail domains are complete.
            answer = await self._stub.resolve(
                dns.name.from_text(name, origin=dns.name.root),
                kind,
                raise_on_no_answer=False,
                search=False,
                backend=self._backend,
            )
        except dns.resolver.NXDOMAIN as error:
            responses = error.kwargs["responses"].values()
            ttl = min(response.resolve_chaining().minimum_ttl for response in responses)
            return _not_found(name, ttl)
        except (dns.name.LabelTooLong, dns.name.EmptyLabel, dns.name.NameTooLong):
            return _not_found(name, 0)  # cannot exist
        except dns.exception.Timeout:
            return _unavailable(f"{name}: no answer from the DNS within {self._timeout:g} s")
        except dns.exception.DNSException as error:
            return _unavailable(f"{name}: no usable answer from the DNS: {_explain(error)}")
        ttl = answer.chaining_result.minimum_ttl
        secure = self.is_trusted and bool(answer.response.flags & dns.flags.AD)
        owner = _name(answer.canonical_name)
        owner = name if owner == name else owner  # most often: then one string instead of two
        if answer.rrset is None:
            return _Answer(_expiry(ttl, NEGATIVE_CEILING), Found((), secure, owner))
        records = tuple(map(_READERS[kind], answer.rrset))
        shares = 1 + _weigh(records) // SHARE
        return _Answer(_expiry(ttl, CEILING), Found(records, secure, owner), shares)


def _make_stub(config: Dns) -> dns.asyncresolver.Resolver:
    """Return dnspython's resolver for the configured servers, or the system's."""
    if config.nameservers:
        stub = dns.asyncresolver.Resolver(configure=False)
        stub.nameservers = [_make_server(endpoint) for endpoint in config.nameservers]
    else:
        try:
            stub = dns.asyncresolver.Resolver()
        except dns.exception.DNSException as error:
            raise StartError(
                "no name server in /etc/resolv.conf: name one there, or set [dns] nameservers"
            ) from error
    stub.timeout = min(TRY_FOR, config.timeout)
    stub.lifetime = config.timeout
    stub.use_edns(0, 0, _EDNS_PAYLOAD)
    # RFC 6840 §5.7: AD in the question asks for AD in the answer, without all the signatures.
    stub.flags = dns.flags.RD | dns.flags.AD
    return stub


def _is_trusted(config: Dns, stub: dns.asyncresolver.Resolver) -> bool:
    """Tell whether the AD bit is believed: as configured, else from this host's own resolver."""
    if config.trust_ad is not None:
        return config.trust_ad
    servers = [getattr(server, "address", server) for server in stub.nameservers]
    return all(_is_loopback(str(server)) for server in servers)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False  # a URL, say


def _make_server(endpoint: Endpoint) -> dns.nameserver.Nameserver:
    try:
        ipaddress.ip_address(endpoint.host)
    except ValueError:
        raise ConfigError(
            [f"dns.nameservers: expected IP addresses, got {endpoint.host!r}"]
        ) from None
    return dns.nameserver.Do53Nameserver(endpoint.host, endpoint.port)


def _name(name: dns.name.Name) -> str:
    """Return a name in lower case without the final dot, "" for the root."""
    return str(name).lower().rstrip(".")


# What we make of dnspython's records; each of their types has attributes of its own.
_READERS: dict[dns.rdatatype.RdataType, Callable[[Any], Any]] = {
    dns.rdatatype.A: lambda one: one.address,
    dns.rdatatype.AAAA: lambda one: one.address,
    # Interned: thousands of domains name the same few hosts.
    dns.rdatatype.MX: lambda one: Mx(one.preference, sys.intern(_name(one.exchange))),
    dns.rdatatype.TLSA: lambda one: Tlsa(one.usage, one.selector, one.mtype, one.cert),
    dns.rdatatype.TXT: lambda one: b"".join(one.strings),
    dns.rdatatype.CNAME: lambda one: _name(one.target),
    dns.rdatatype.PTR: lambda one: _name(one.target),
    dns.rdatatype.SOA: lambda one: _name(one.mname),
}


def _weigh(records: Iterable[Any]) -> int:
    """Return about how many octets of memory records take."""
    return sum(
        sys.getsizeof(part)
        for record in records
        for part in (record if isinstance(record, tuple) else (record,))
    )


def _expiry(ttl: float, ceiling: float) -> float:
    return trio.current_time() + min(max(ttl, FLOOR), ceiling)


def _not_found(name: str, ttl: float) -> _Answer:
    return _Answer(
        _expiry(ttl, NEGATIVE_CEILING),
        problem=NameNotFound,
        text=f"{name}: no such name in the DNS",
    )


def _unavailable(text: str) -> _Answer:
    return _Answer(trio.current_time() + UNAVAILABLE_FOR, problem=NameUnavailable, text=text)


def _explain(error: dns.exception.DNSException) -> str:
    """Say in a few words what the servers answered: "SERVFAIL" and the like."""
    errors = error.kwargs.get("errors") if isinstance(error, dns.resolver.NoNameservers) else None
    if not errors:
        return type(error).__name__
    # (server, over TCP, port, error or name of the return code, response)
    return ", ".join(
        dict.fromkeys(f"{e[3]}" if isinstance(e[3], str) else type(e[3]).__name__ for e in errors)
    )
