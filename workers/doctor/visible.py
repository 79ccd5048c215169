"""The address of a source as receivers see it, if that can be told from here."""

import ipaddress

from relay.config.schema import Source

# Addresses that somebody translates on the way out (RFC 1918, RFC 6598, RFC 4193, link-local).
# Loopback is not among them: nothing that leaves from there is seen by anybody else.
_TRANSLATED = tuple(
    ipaddress.ip_network(block)
    for block in (
        *("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("fc00::/7", "fe80::/10"),
    )
)


def explain_unknown(source: Source) -> str:
    """Say why nobody here knows which address receivers see; "" when it is the source's own."""
    address = ipaddress.ip_address(source.address)
    if address.is_unspecified:
        how = "its proxy" if source.proxy else "the kernel"
        return f"{how} chooses the address ({source.address}), so it is not known here"
    if any(address in network for network in _TRANSLATED):
        return f"{source.address} is translated on its way out; which address receivers see is not known here"
    return ""


def read_address(source: Source) -> str:
    """Return the source's address as the DNS writes it: in lower case, in its shortest form."""
    return str(ipaddress.ip_address(source.address))


def describe(source: Source) -> str:
    """Return name and address: "a (192.0.2.1)"."""
    return f"{source.name} ({source.address})"
