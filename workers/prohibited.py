"""Hosts that mail is never sent to, whatever a stranger's MX records say.

``delivery.prohibited_hosts`` lists networks, addresses and names. A zone can name any address: those
of our own network must not be reached through us. An IPv4 address can be written as an IPv6 one,
and is then carried to the IPv4 host by this machine or a translator; so those forms count as well.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from relay.config.units import Network, parse_network
from workers.site import matches_any

# Networks of which the last 32 bits are an IPv4 address.
_CARRIERS = tuple(
    int(ipaddress.IPv6Address(base)) >> 32
    for base in (
        "::",  # RFC 4291 §2.5.5.1: IPv4-compatible; deprecated
        "::ffff:0:0",  # RFC 4291 §2.5.5.2: IPv4-mapped; the kernel connects over IPv4
        "::ffff:0:0:0",  # RFC 2765 §2.1: IPv4-translated
        "64:ff9b::",  # RFC 6052 §2.1: NAT64
        "64:ff9b:1::",  # RFC 8215: NAT64 of a network's own, with the usual prefix of 96 bits
    )
)
_SIX_TO_FOUR = 0x2002  # RFC 3056 §2: 2002:V4ADDR::/48


class Prohibited:
    """What is listed. Immutable."""

    def __init__(self, entries: Iterable[str]) -> None:
        """``entries`` as in the configuration: networks, addresses, names."""
        names: list[str] = []
        # By family and mask: as many look-ups in a set as there are lengths of prefixes.
        self._networks: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for entry in entries:
            if (network := _read_network(entry)) is None:
                names.append(entry)
            else:
                masks = self._networks[network.version]
                masks.setdefault(int(network.netmask), set()).add(int(network.network_address))
        self._names = tuple(names)

    def covers_name(self, name: str) -> bool:
        """Tell whether a host is listed by its name (lower case, without the final dot)."""
        return matches_any(self._names, name)

    def covers_address(self, address: str) -> bool:
        """Tell whether an address is listed, in whatever form. Raises ValueError for no address."""
        ip = ipaddress.ip_address(address)
        number = int(ip)
        if self._covers(ip.version, number):
            return True
        return ip.version == 6 and any(self._covers(4, inner) for inner in _find_carried(number))

    def _covers(self, version: int, number: int) -> bool:
        return any(number & mask in bases for mask, bases in self._networks[version].items())


def _read_network(entry: str) -> Network | None:
    try:
        return parse_network(entry)
    except ValueError:
        return None  # a name, then: the configuration was checked


def _find_carried(number: int) -> Iterator[int]:
    """Yield the IPv4 address that an IPv6 address stands for, if any."""
    if number >> 32 in _CARRIERS:
        yield number & 0xFFFFFFFF
    elif number >> 112 == _SIX_TO_FOUR:
        yield number >> 80 & 0xFFFFFFFF
