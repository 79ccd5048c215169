"""Who may send: network and MAIL FROM domain together name the tenant, or nobody does.

Where there is no MAIL FROM domain, the network names those whose mail it may be, and what is in the
message must prove whose it is. No network, no clock. A refusal says what was missing, never what
would have been enough.
"""

import ipaddress
from dataclasses import dataclass
from typing import Protocol

from relay.address import find_domain
from relay.config.schema import Config, Tenant
from relay.config.shapes import DOMAIN
from relay.config.units import Network
from relay.ingress.networks.blocks import Blocks
from relay.ingress.networks.definition import Seeds

# Addresses whose tenants are remembered. A sender has a few hundred; a scanner must not grow it.
_REMEMBERED = 4096


class Sets(Protocol):
    """What is known of networks. ``version`` is another after every change."""

    @property
    def version(self) -> int:
        """How often something has changed."""

    def find(self, names: tuple[str, ...]) -> tuple[Network, ...]:
        """Return the networks behind names of sets, addresses and CIDR blocks."""

    def is_known(self, names: tuple[str, ...]) -> bool:
        """Tell whether all sets among these names have networks."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a sender may not send: the reply's text, for the sender, and the reason, for the log.

    ``temporary``: networks that would have to be known are not known yet; the sender should come
    again (451), and not give its mail back.
    """

    text: str
    reason: str
    temporary: bool = False


class Admission:
    """Decides from the client's address and the envelope's sender."""

    def __init__(self, config: Config, sets: Sets | None = None) -> None:
        """``sets``: default: the seeds, which never change."""
        self._sets = sets or Seeds(config)
        self._tenants = config.tenant
        self._owners = {domain: t for t in config.tenant for domain in t.domains}
        self._known: dict[str, frozenset[str]] = {}
        self._read_sets()

    def find_tenant(self, client: str, sender: bytes) -> Tenant | Refusal:
        """Return the tenant that may send as ``sender`` from ``client`` (an IP address)."""
        near = self._find_near(client)
        if not near:
            reason = f"{client} is in no tenant's networks"
            return self._refuse("Relaying denied", reason, unknown=bool(self._unknown))
        if not sender:
            # Everybody's vacation notices look like this: an address proves nothing here.
            text, reason = "Relaying denied for the null sender", "null sender without proof"
            return self._refuse(text, reason, unknown=not self.knows_all_candidates())
        domain = find_domain(sender)
        tenant = self._find_owner(domain) if domain else None
        if tenant is None:
            return Refusal("Sender domain not served here", f"no tenant has {domain}")
        if tenant.name not in near:
            reason = f"{client} is not in the networks of tenant {tenant.name}"
            return self._refuse("Relaying denied", reason, unknown=tenant.name in self._unknown)
        return tenant

    def find_candidates(self, client: str) -> tuple[Tenant, ...]:
        """Return the tenants whose mail a null sender's from ``client`` may be, if it proves that.

        None: nobody's, whatever is in it.
        """
        near = self._find_near(client)
        return tuple(tenant for tenant in self._tenants if tenant.proof and tenant.name in near)

    def knows_all_candidates(self) -> bool:
        """Tell whether ``find_candidates`` leaves nobody out whose networks are not known yet."""
        if self._version != self._sets.version:
            self._read_sets()
        return not any(tenant.proof and tenant.name in self._unknown for tenant in self._tenants)

    def is_near(self, client: str) -> bool:
        """Tell whether an address is in any tenant's networks."""
        return bool(self._find_near(client))

    def owns(self, tenant: Tenant, domain: str) -> bool:
        """Tell whether a domain (lower case, A-labels) is the tenant's own."""
        owner = self._find_owner(domain)
        return owner is not None and owner.name == tenant.name

    def _find_owner(self, domain: str) -> Tenant | None:
        """Return whose domain it is: the nearest that is configured, at or above it, decides."""
        if (owner := self._owners.get(domain)) is not None:
            return owner
        if not DOMAIN.fullmatch(domain):
            return None  # "a..acme.example" is below nothing
        above = domain.partition(".")[2]
        while above:
            if (owner := self._owners.get(above)) is not None:
                # Also when it is another's, or has nothing to do with what is further up.
                return owner if owner.subdomains else None
            above = above.partition(".")[2]
        return None

    def _find_near(self, client: str) -> frozenset[str]:
        """Return the names of tenants whose networks hold this address."""
        if self._version != self._sets.version:
            self._read_sets()
        near = self._known.get(client)
        if near is None:
            address = ipaddress.ip_address(client)
            inside = {names for names, blocks in self._blocks.items() if address in blocks}
            near = frozenset(t.name for t in self._tenants if t.networks in inside)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[client] = near
        return near

    def _read_sets(self) -> None:
        """Take the networks as they are now, and forget what followed from those before."""
        self._version = self._sets.version
        # Most tenants name the same sets.
        lists = {tenant.networks for tenant in self._tenants}
        self._blocks = {names: Blocks(self._sets.find(names)) for names in lists}
        self._unknown = {t.name for t in self._tenants if not self._sets.is_known(t.networks)}
        self._known.clear()

    @staticmethod
    def _refuse(text: str, reason: str, *, unknown: bool) -> Refusal:
        if not unknown:
            return Refusal(text, reason)
        return Refusal(
            "Not ready to tell who may send, try again later",
            f"{reason}; there are sets whose networks are not known yet",
            temporary=True,
        )
