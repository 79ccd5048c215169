"""Mail hosts: their addresses, and which of them may be connected to.

Whatever the DNS says about a host is said by a stranger: what is ours, or nobody's on the Internet
(``delivery.prohibited_hosts``), is not taken from it. Only a route in the configuration may name that.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import trio

from relay.config import Config
from relay.model import Blame, Disposition, Outcome
from relay.net.resolver import Found, NameNotFound, NameUnavailable, Resolver
from workers.prohibited import Prohibited
from workers.tls.guard import OPPORTUNISTIC, Guard

MAX_ADDRESSES = 3  # of one host

# RFC 6761 §6.3: never asked for in the DNS. Only routes get here with it.
_LOCALHOST = {socket.AF_INET: ("127.0.0.1",), socket.AF_INET6: ("::1",)}
_NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_OTHER = {socket.AF_INET: socket.AF_INET6, socket.AF_INET6: socket.AF_INET}

# By name of the host: its addresses, or why nobody knows them.
Addresses = Mapping[str, Found[str] | str]


@dataclass(frozen=True, slots=True)
class Host:
    """One address of one host."""

    name: str  # lower case, no final dot
    address: str
    port: int
    guard: Guard = OPPORTUNISTIC


class NoAddress(Outcome, frozen=True, kw_only=True):
    """A deferral that a source of the other ``family`` would not meet: the hosts have only that."""

    family: socket.AddressFamily


def find_family(address: str) -> socket.AddressFamily:
    """Return the family that a source of this address can reach; "0.0.0.0" is IPv4, "::" IPv6."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Hosts:
    """Looks hosts up. One for each process."""

    def __init__(self, config: Config, resolver: Resolver) -> None:
        self._resolver = resolver
        self._prohibited = Prohibited(config.delivery.prohibited_hosts)
        self._own = {source.address for source in config.source}
        self._own.update(endpoint.host for endpoint in config.ingress.listen)

    def is_foreign(self, address: str) -> bool:
        """Tell whether an address from the DNS can be somebody else's mail host."""
        return address not in self._own and not self._prohibited.covers_address(address)

    def is_allowed(self, name: str) -> bool:
        """Tell whether a host of this name may be connected to."""
        return not self._prohibited.covers_name(name)

    async def find(self, names: Iterable[str], family: socket.AddressFamily | None) -> Addresses:
        """Return for each name its addresses, in this order; all are asked for at once."""
        names = list(dict.fromkeys(names))
        found: dict[str, Found[str] | str] = {}

        async def look_up(name: str) -> None:
            try:
                found[name] = await self._resolver.find_addresses(name, family)
            except NameNotFound:
                found[name] = Found(name=name)
            except NameUnavailable as error:
                found[name] = str(error)

        async with trio.open_nursery() as nursery:
            for name in names:
                if (known := _read_literal(name, family)) is not None:
                    found[name] = Found(known, name=name)
                else:
                    nursery.start_soon(look_up, name)
        return {name: found[name] for name in names}  # not in the order of the answers

    async def explain_nothing(
        self,
        domain: str,
        family: socket.AddressFamily | None,
        found: Addresses,
        is_usable: Callable[[str], bool],
    ) -> Outcome:
        """Say why no host is left. Temporary in all cases: the domain exists, and wants mail."""
        for answer in found.values():
            if isinstance(answer, str):
                return defer("4.4.3", answer)
        if family is None:
            return defer("4.4.4", f"{domain}: no usable address for its hosts: {_show(found)}")
        text = f"{domain}: no usable {_NAMES[family]} address for its hosts: {_show(found)}"
        other = _OTHER[family]
        rest = await self.find(found, other)
        if not any(
            is_usable(address) for answer in rest.values() for address in list_known(answer)
        ):
            return defer("4.4.4", text)
        text += f"; they have {_NAMES[other]} addresses: {_show(rest)}"
        return NoAddress(Disposition.DEFERRED, Blame.HOST, status="4.4.4", text=text, family=other)


def defer(status: str, text: str) -> Outcome:
    """Return the outcome of a look-up that may go better another time."""
    return Outcome(Disposition.DEFERRED, Blame.HOST, status=status, text=text)


def is_address(name: str) -> bool:
    """Tell whether a host is named by its address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def list_known(answer: Found[str] | str) -> Sequence[str]:
    """Return the addresses of an answer; none where nobody knows them."""
    return () if isinstance(answer, str) else answer.records


def _read_literal(name: str, family: socket.AddressFamily | None) -> tuple[str, ...] | None:
    """Return the addresses of a host that needs no look-up, or None."""
    if is_address(name):
        return (name,) if family in (None, find_family(name)) else ()
    if name == "localhost":
        return _LOCALHOST[family or socket.AF_INET]
    return None


def _show(found: Addresses) -> str:
    return ", ".join(
        f"{name} ({', '.join(list_known(answer)[:MAX_ADDRESSES]) or 'none'})"
        for name, answer in found.items()
    )
