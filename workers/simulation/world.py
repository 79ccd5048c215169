"""The simulated world: providers, our addresses, and what there is to send."""

from collections.abc import Mapping

from relay.config import Config
from workers.emulation.providers.profile import Profile
from workers.emulation.providers.provider import Provider
from workers.simulation.agenda import Agenda
from workers.simulation.mix import Mix, make_config
from workers.simulation.traffic import Traffic


class World:
    """One run's world. The same seed makes the same one, whoever sends in it."""

    def __init__(self, mix: Mix, seed: int, agenda: Agenda, *, loop: bool) -> None:
        """``loop``: the gateway's configuration has the control loop on. Raises ConfigError."""
        self.mix = mix
        self.seed = seed
        self.config: Config = make_config(mix, loop=loop)
        self.addresses: Mapping[str, str] = {s.name: s.address for s in mix.source}
        self._names = {s.address: s.name for s in mix.source}
        self._tenants = {t.domain or f"{t.name}.example": t.name for t in mix.tenant}
        self.weights: Mapping[str, int] = {s.name: s.weight for s in mix.source}
        self.providers = {
            profile.name: Provider(profile, seed=seed * 1000 + number, clock=agenda.read_clock)
            for number, profile in enumerate(mix.provider)
        }
        profiles = self._profiles = {profile.name: profile for profile in mix.provider}
        self.traffic = {
            demand.provider: Traffic(demand, profiles[demand.provider], mix.tenant, seed)
            for demand in mix.demand
        }

    def find_profile(self, site: str) -> Profile:
        """Return a provider's profile as it was at the start."""
        return self._profiles[site]

    def find_source(self, address: str) -> str:
        """Return whose address it is."""
        return self._names[address]

    def find_tenant(self, sender: bytes) -> str:
        """Return whose mail it is, by the sender that Traffic made."""
        return self._tenants[sender.rpartition(b"@")[2].decode()]

    def find_capacity(self, site: str, sources: list[str]) -> float:
        """Return the messages a second that a provider would take of these now, all together."""
        provider = self.providers[site]
        limits = [provider.limits(self.addresses[source]) for source in sources]
        return sum(one.rate for one in limits if not one.blocked_until)
