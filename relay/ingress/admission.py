"""Who may send: network and MAIL FROM domain together name the tenant, or nobody does.

Pure: no network, no clock. A refusal says what was missing, never what would have been enough.
"""

import ipaddress
from dataclasses import dataclass

from relay.address import find_domain
from relay.config.schema import Config, Tenant
from relay.ingress.networks import find_networks

# Addresses whose tenants are remembered. A sender has a few hundred; a scanner must not grow it.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a sender may not send: the reply's text, for the sender, and the reason, for the log."""

    text: str
    reason: str


class Admission:
    """Decides from the client's address and the envelope's sender."""

    def __init__(self, config: Config) -> None:
        self._networks = [(tenant, find_networks(tenant.networks)) for tenant in config.tenant]
        self._owners = {domain: t for t in config.tenant for domain in t.domains}
        self._known: dict[str, frozenset[str]] = {}

    def find_tenant(self, client: str, sender: bytes) -> Tenant | Refusal:
        """Return the tenant that may send as ``sender`` from ``client`` (an IP address)."""
        near = self._find_near(client)
        if not near:
            return Refusal("Relaying denied", f"{client} is in no tenant's networks")
        if not sender:
            # Everybody's vacation notices look like this: an address proves nothing here.
            return Refusal("Relaying denied for the null sender", "null sender without proof")
        domain = find_domain(sender)
        tenant = self._owners.get(domain) if domain else None
        if tenant is None:
            return Refusal("Sender domain not served here", f"no tenant has {domain}")
        if tenant.name not in near:
            return Refusal(
                "Relaying denied", f"{client} is not in the networks of tenant {tenant.name}"
            )
        return tenant

    def _find_near(self, client: str) -> frozenset[str]:
        """Return the names of tenants whose networks hold this address."""
        near = self._known.get(client)
        if near is None:
            address = ipaddress.ip_address(client)
            near = frozenset(
                tenant.name
                for tenant, networks in self._networks
                if any(address in network for network in networks)
            )
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[client] = near
        return near
