"""What each set of networks is: its name, where its networks come from, and a seed.

Two are built in. ``google``: what ``_spf.google.com`` publishes, where Workspace sends from; the
seed is the record as seen in November 2026 (it has been flat since December 2025), for a gateway
that starts without a DNS. ``google-forwarding``: where Google sends what it forwards without having
verified the sender, as a help page had it in 2021. It is in no SPF record on purpose, so it is not
refreshed, and nobody has it who does not ask for it by name.

A [[network]] of the same name takes the place of a built-in one, with its seed.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from relay.config.schema import Config, NetworkSet
from relay.config.units import Network, parse_network

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Definition:
    """One set. Exactly one of ``spf`` and ``json``, or neither: then the seed is all there is."""

    name: str
    spf: str = ""  # a domain
    json: str = ""  # a file, or an https:// URL
    refresh: float = _HOUR  # seconds
    seed: tuple[Network, ...] = ()
    seeded: str = ""  # when the seed was current

    @property
    def origin(self) -> str:
        """Where the networks come from. What was had from elsewhere is not of this set."""
        if self.spf:
            return f"spf {self.spf}"
        return f"json {self.json}" if self.json else "built in"

    @property
    def is_fixed(self) -> bool:
        """Whether there is nothing to refresh it from."""
        return not self.spf and not self.json


def _read(*blocks: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, blocks))


_BUILT_IN = {
    one.name: one
    for one in (
        Definition(
            "google",
            spf="_spf.google.com",
            seed=_read(
                "74.125.0.0/16",
                "209.85.128.0/17",
                "2001:4860:4864::/56",
                "2404:6800:4864::/56",
                "2607:f8b0:4864::/56",
                "2800:3f0:4864::/56",
                "2a00:1450:4864::/56",
                "2c0f:fb50:4864::/56",
            ),
            seeded="November 2026",
        ),
        Definition(
            "google-forwarding",
            seed=_read("108.177.16.0/23", "142.250.220.0/23", "2600:1901:101::/48"),
            seeded="2021",
        ),
    )
}


def list_definitions(config: Config) -> dict[str, Definition]:
    """Return all sets that tenants may name, by name: the built-in ones and those configured."""
    return _BUILT_IN | {one.name: _define(one) for one in config.network}


def list_used(config: Config) -> dict[str, Definition]:
    """Return the sets that some tenant names, by name. Nothing else is worth a look-up."""
    named = {name for tenant in config.tenant for name in tenant.networks}
    return {name: one for name, one in list_definitions(config).items() if name in named}


def _define(network: NetworkSet) -> Definition:
    return Definition(network.name, network.spf, network.json, float(network.refresh))


_SEEDS = {name: one.seed for name, one in _BUILT_IN.items()}


def find_networks(
    names: tuple[str, ...], sets: Mapping[str, tuple[Network, ...]] = _SEEDS
) -> tuple[Network, ...]:
    """Return the networks behind names of sets, addresses and CIDR blocks.

    ``sets``: the networks of each set; default: the seeds of the built-in ones. Raises ValueError.
    """
    networks: list[Network] = []
    for name in names:
        found = sets.get(name)
        networks += (parse_network(name),) if found is None else found
    return tuple(networks)


class Seeds:
    """The sets as they are before anybody has looked anything up; they never change."""

    version = 0

    def __init__(self, config: Config) -> None:
        self._networks = {name: one.seed for name, one in list_used(config).items()}

    def find(self, names: tuple[str, ...]) -> tuple[Network, ...]:
        """Return the networks behind names of sets, addresses and CIDR blocks."""
        return find_networks(names, self._networks)

    def is_known(self, names: tuple[str, ...]) -> bool:
        """Tell whether all sets among these names have networks."""
        return all(self._networks.get(name, True) for name in names)
