"""Traffic: as much as was asked for, by the day's curve, the same for the same seed."""

from workers.emulation.providers.profile import Profile
from workers.simulation.agenda import START
from workers.simulation.mix import Demand, OurTenant
from workers.simulation.traffic import Traffic

_TENANTS = (OurTenant("a", share=3.0), OurTenant("b"))


def draw(demand: Demand, seed: int, until: float) -> list[float]:
    traffic = Traffic(demand, Profile("p"), _TENANTS, seed)
    times: list[float] = []
    time = START
    while (time := traffic.draw_next(time)) < START + until:
        times.append(time - START)
        traffic.make(time)
    return times


def test_a_days_mail_is_what_was_asked_for() -> None:
    times = draw(Demand("p", 10_000, swing=0.8, peak=14), 1, 86400)

    assert abs(len(times) - 10_000) < 400
    by_day = sum(8 * 3600 <= time < 20 * 3600 for time in times)
    assert by_day > 0.7 * len(times)


def test_the_same_seed_draws_the_same() -> None:
    demand = Demand("p", 2000)

    assert draw(demand, 1, 86400) == draw(demand, 1, 86400)
    assert draw(demand, 1, 86400) != draw(demand, 2, 86400)


def test_tenants_have_their_shares() -> None:
    traffic = Traffic(Demand("p", 1000), Profile("p"), _TENANTS, 1)

    tenants = [traffic.make(START).tenant for _ in range(4000)]

    assert 0.7 < tenants.count("a") / 4000 < 0.8
