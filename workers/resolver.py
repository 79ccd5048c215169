"""Names to mail hosts and addresses: the only module that knows dnspython.

Three answers are kept apart, because they mean three different things to a message: records;
no such name, or no such record (permanent, for whoever asked for it); and *unavailable* (SERVFAIL,
silence, nonsense from every server: try later, and never take it for "no record").

Answers of all three kinds are kept in one bounded cache, so that a thousand deliveries to a
domain whose name servers are dead cost one time-out and not a thousand.
"""

import ipaddress
import socket
from collections import OrderedDict
from typing import NamedTuple

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
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
CACHE_SIZE = 20_000
# Sockets open at a time: names that do not answer must not use up the process' descriptors.
CONCURRENT = 256
# One name server may take this long before the next is asked (and the first again).
TRY_FOR = 2.0

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


class _Answer(NamedTuple):
    """What the cache keeps: records as text, or the exception to raise."""

    expires: float
    records: tuple[str, ...] = ()
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
        self._cache: OrderedDict[tuple[str, dns.rdatatype.RdataType], _Answer] = OrderedDict()
        self._flights: dict[tuple[str, dns.rdatatype.RdataType], trio.Event] = {}
        self._slots = trio.CapacityLimiter(CONCURRENT)
        self._backend = dns.asyncbackend.get_backend("trio")

    async def find_mx(self, name: str) -> tuple[Mx, ...]:
        """Return the MX records of a domain as they are, unsorted; () when it has none.

        Raises NameNotFound, NameUnavailable.
        """
        records = await self._find(name, dns.rdatatype.MX)
        pairs = (record.split(" ", 1) for record in records)
        return tuple(Mx(int(preference), host) for preference, host in pairs)

    async def find_addresses(
        self, name: str, family: socket.AddressFamily | None = None
    ) -> tuple[str, ...]:
        """Return the addresses of a host, aliases followed; () when it has none of the family.

        Without a family: IPv4 first, then IPv6. One of the two is enough when the other could
        not be had. Raises NameNotFound, NameUnavailable.
        """
        found: list[str] = []
        unavailable: NameUnavailable | None = None
        for kind in _FAMILIES[family]:
            try:
                found += await self._find(name, kind)
            except NameUnavailable as error:
                unavailable = error
        if unavailable is not None and not found:
            raise unavailable
        return tuple(found)

    async def _find(self, name: str, kind: dns.rdatatype.RdataType) -> tuple[str, ...]:
        answer = await self._ask((name.lower().rstrip("."), kind))
        if answer.problem is not None:
            raise answer.problem(answer.text)
        return answer.records

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
            answer = self._cache[key] = await self._query(*key)
            self._cache.move_to_end(key)
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
            return answer
        finally:
            del self._flights[key]
            flight.set()

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
        if answer.rrset is None:
            return _Answer(_expiry(ttl, NEGATIVE_CEILING))
        return _Answer(_expiry(ttl, CEILING), tuple(_read(record) for record in answer.rrset))


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
    return stub


def _make_server(endpoint: Endpoint) -> dns.nameserver.Nameserver:
    try:
        ipaddress.ip_address(endpoint.host)
    except ValueError:
        raise ConfigError(
            [f"dns.nameservers: expected IP addresses, got {endpoint.host!r}"]
        ) from None
    return dns.nameserver.Do53Nameserver(endpoint.host, endpoint.port)


def _read(record: object) -> str:
    """Return a record as text: "10 mx.example.org" or an address."""
    return str(record).lower().rstrip(".")


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
