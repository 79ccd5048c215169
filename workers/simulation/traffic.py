"""What there is to send, and when: seeded, and the same whatever becomes of it."""

import math
import random
from collections.abc import Sequence

from workers.emulation.providers.profile import Profile
from workers.simulation.agenda import START
from workers.simulation.mail import Mail
from workers.simulation.mix import Demand, OurTenant

_DAY, _HOUR = 86400, 3600


class Traffic:
    """Messages for one provider, as a Poisson process whose rate follows the day."""

    def __init__(
        self, demand: Demand, profile: Profile, tenants: Sequence[OurTenant], seed: int
    ) -> None:
        """Chance is this one's own: the other providers' mail does not change it."""
        self._random = random.Random(f"{seed} {demand.provider}")  # noqa: S311 - a play
        self._demand = demand
        domains = profile.domains or (f"{demand.provider}.example",)
        self._domains = [domain.removeprefix("*.").encode() for domain in domains]
        self._senders = [
            (tenant.name, f"news@{tenant.domain or tenant.name + '.example'}".encode())
            for tenant in tenants
        ]
        self._shares = [tenant.share for tenant in tenants]
        self._most = demand.daily / _DAY * (1 + demand.swing)

    def find_rate(self, time: float) -> float:
        """Return the messages a second that are expected at a time."""
        hours = (time - START) / _HOUR - self._demand.peak
        curve = 1 + self._demand.swing * math.cos(2 * math.pi * hours / 24)
        return self._demand.daily / _DAY * curve

    def draw_next(self, time: float) -> float:
        """Draw when the next one comes after a time: by thinning a process of the highest rate."""
        while True:
            time += self._random.expovariate(self._most)
            if self._random.random() * self._most <= self.find_rate(time):
                return time

    def make(self, time: float) -> Mail:
        """Return the message that has come."""
        ((tenant, sender),) = self._random.choices(self._senders, self._shares)
        person = self._random.randrange(self._demand.people)
        domain = self._domains[person % len(self._domains)]
        recipient = b"p%d@%s" % (person, domain)
        return Mail(self._demand.provider, tenant, sender, recipient, time)
