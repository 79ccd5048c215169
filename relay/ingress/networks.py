"""Named sets of networks for ``tenant.networks``.

``google``: what ``_spf.google.com`` published, as seen in November 2026 (the record has been flat
since December 2025). Google says that it changes often; this version does not refresh it.
"""

import ipaddress

from relay.config.units import Network, parse_network

_GOOGLE = (
    "74.125.0.0/16",
    "209.85.128.0/17",
    "2001:4860:4864::/56",
    "2404:6800:4864::/56",
    "2607:f8b0:4864::/56",
    "2800:3f0:4864::/56",
    "2a00:1450:4864::/56",
    "2c0f:fb50:4864::/56",
)


def find_networks(names: tuple[str, ...]) -> tuple[Network, ...]:
    """Return the networks behind names, addresses and CIDR blocks. Raises ValueError."""
    networks: list[Network] = []
    for name in names:
        if name == "google":
            networks += (ipaddress.ip_network(block) for block in _GOOGLE)
        else:
            networks.append(parse_network(name))
    return tuple(networks)
