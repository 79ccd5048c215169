"""Small worlds."""

from collections.abc import Callable

import pytest

from relay.config.units import Rate, Rates, Seconds
from workers.emulation.providers.profile import Blocked, Change, Escalation, Greylist, Profile
from workers.simulation.mix import Demand, Mix, OurSource

SOURCES = (OurSource("a", "192.0.2.1"), OurSource("b", "192.0.2.2"))


def make_profile(
    *,
    rate: Rate | None = None,
    connections: int = 0,
    penalty: float = 0,
    greylist: float = 0,
    unknown: float = 0.0,
    blocked: tuple[Blocked, ...] = (),
    changes: tuple[Change, ...] = (),
) -> Profile:
    return Profile(
        name="p",
        style="google",
        rate=Rates((rate,)) if rate else None,
        connections=connections,
        unknown=unknown,
        latency=Seconds(0.05),
        escalation=Escalation(penalty=Seconds(penalty), maximum=Seconds(600)) if penalty else None,
        greylist=Greylist(delay=Seconds(greylist)) if greylist else None,
        blocked=blocked,
        changes=changes,
    )


@pytest.fixture
def make_mix() -> Callable[..., Mix]:
    """Return a maker of mixes of one provider: its profile, messages a day, and seconds."""

    def make(profile: Profile, daily: int, lasts: float, **more: object) -> Mix:
        demand = Demand("p", daily, swing=0.0)
        return Mix(
            lasts=Seconds(lasts), source=SOURCES, provider=(profile,), demand=(demand,), **more
        )

    return make
