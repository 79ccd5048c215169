"""Whole runs of small worlds: real scripts in a real store, real classification, virtual time.

They are not async: a run has a loop of its own.
"""

import random
from collections.abc import Callable

import msgspec
import pytest

from relay.config.units import Rate, Rates, Seconds
from relay.errors import StoreError
from tests.kit.redis import Server
from tests.workers.simulation.conftest import make_profile
from workers.emulation.providers.profile import Blocked, Change
from workers.simulation.agenda import START
from workers.simulation.figures import Figures, make_figures
from workers.simulation.mix import Mix
from workers.simulation.policies import NAMES, Name
from workers.simulation.run import Run, simulate

Maker = Callable[..., Mix]


def add_up(run: Run) -> None:
    """Each message is somewhere, once."""
    for site, account in run.account.sites.items():
        assert account.born == account.ended + run.held[site]
        books = run.world.providers[site].total()
        assert account.delivered == books.accepted
        assert account.refused == books.unknown + books.spam


@pytest.mark.parametrize("policy", NAMES)
def test_the_ledger_adds_up(make_mix: Maker, server: Server, policy: Name) -> None:
    profile = make_profile(rate=Rate(20, 60, 5), connections=2, penalty=30, unknown=0.05)
    mix = make_mix(profile, 60_000, 900)

    run = simulate(mix, 1, policy, server.url)

    add_up(run)
    assert run.account.sites["p"].born > 500
    assert run.account.sites["p"].delivered > 100


@pytest.mark.parametrize("policy", NAMES)
def test_the_same_seed_is_the_same_run(make_mix: Maker, server: Server, policy: Name) -> None:
    profile = make_profile(rate=Rate(20, 60, 5), connections=3, penalty=20, unknown=0.02)
    mix = make_mix(profile, 40_000, 480)

    def run(seed: int) -> Figures:
        return make_figures(simulate(mix, seed, policy, server.url))

    assert msgspec.json.encode(run(1)) == msgspec.json.encode(run(1))
    assert run(1).sites != run(2).sites


def test_a_run_leaves_chance_as_it_was(make_mix: Maker, server: Server) -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)

    simulate(make_mix(make_profile(), 1000, 600), 1, "oracle", server.url)

    assert random.random() == expected


def test_the_oracle_sends_what_is_taken_and_never_too_much(make_mix: Maker, server: Server) -> None:
    changes = (
        Change(at=Seconds(1200), rate=Rates((Rate(15, 60, 1),))),
        Change(at=Seconds(2400), rate=Rates((Rate(30, 60, 1),)), connections=1),
    )
    profile = make_profile(rate=Rate(30, 60, 1), connections=2, penalty=60, changes=changes)
    mix = make_mix(profile, 200_000, 3600)

    run = simulate(mix, 1, "oracle", server.url)

    figures = make_figures(run).sites[0]
    assert figures.throttled == 0
    assert figures.blocked == 0
    most = 2 * (1200 * 0.5 + 1200 * 0.25 + 1200 * 0.5)
    assert 0.97 * most <= figures.delivered <= most + 10
    assert [(f.before, f.after) for f in figures.found] == [(1.0, 0.5), (0.5, 1.0)]
    assert all(f.seconds == 0 for f in figures.found)


def test_greylisted_mail_comes_back_and_is_delivered(make_mix: Maker, server: Server) -> None:
    mix = make_mix(make_profile(greylist=120), 5000, 3 * 3600)

    run = simulate(mix, 1, "fixed", server.url)

    add_up(run)
    figures = make_figures(run).sites[0]
    assert figures.greylisted > 300
    # Whoever came in time for a second try has been delivered.
    assert figures.delivered > 0.85 * figures.born
    assert figures.mean_delay > 60


def test_without_the_loop_nothing_is_learnt(make_mix: Maker, server: Server) -> None:
    profile = make_profile(rate=Rate(6, 60, 2), penalty=60)

    run = simulate(make_mix(profile, 40_000, 900), 1, "fixed", server.url)

    figures = make_figures(run).sites[0]
    assert figures.throttled > figures.delivered
    assert run.history == {}


def test_the_loop_learns_pace_and_is_remembered(make_mix: Maker, server: Server) -> None:
    profile = make_profile(rate=Rate(60, 60, 10))

    run = simulate(make_mix(profile, 300_000, 2400), 1, "loop", server.url)

    add_up(run)
    figures = make_figures(run).sites[0]
    assert figures.bounced_wrongly == 0
    assert figures.throttled < 0.05 * figures.attempts
    assert all(source.pace is not None and source.pace < 5 for source in figures.sources)


def test_a_blocked_source_is_silent_at_once_and_the_other_goes_on(
    make_mix: Maker, server: Server
) -> None:
    blocked = (Blocked(address="192.0.2.1", at=Seconds(1800), lasts=Seconds(1200)),)
    mix = make_mix(make_profile(blocked=blocked), 20_000, 2 * 3600, workers=3)

    run = simulate(mix, 1, "loop", server.url)

    figures = make_figures(run).sites[0]
    (block,) = figures.blocks
    assert block.source == "a"
    assert not block.provoked
    assert block.silent_after < 5
    assert figures.bounced_wrongly == 0
    begun, ends = (int((1800 + s) // 600) for s in (600, 1200))
    others = run.account.steps["p", "b"]
    assert all(others[step].delivered > 50 for step in range(begun, ends))


def test_a_store_that_is_not_empty_is_refused_and_left_alone(
    make_mix: Maker, server: Server
) -> None:
    with server.client() as client:
        client.set("mine", "1")

        with pytest.raises(StoreError, match="not empty"):
            simulate(make_mix(make_profile(), 1000, 600), 1, "loop", server.url)

        assert client.get("mine") == b"1"


def test_the_store_is_empty_afterwards(make_mix: Maker, server: Server) -> None:
    simulate(make_mix(make_profile(), 5000, 600), 1, "loop", server.url)

    with server.client() as client:
        assert client.dbsize() == 0


def test_steps_are_shown_in_their_order(make_mix: Maker, server: Server) -> None:
    seen: list[float] = []

    simulate(
        make_mix(make_profile(), 1000, 3600),
        1,
        "oracle",
        server.url,
        observe=lambda now, account: seen.append(now - START),
    )

    assert seen == [600.0 * n for n in range(1, 7)]
