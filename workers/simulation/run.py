"""Running a simulation: trio on its virtual clock, in the calling thread."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import trio
import trio.testing

from relay.errors import StoreError
from relay.store.standing import Standing
from relay.store.stilllink import StillLink
from workers.simulation.account import Account
from workers.simulation.agenda import Agenda
from workers.simulation.driver import Driver, Observer
from workers.simulation.mix import Mix
from workers.simulation.policies import Gateway, Name, Oracle
from workers.simulation.world import World

_TIMEOUT = 30.0  # s, for one call of the store; real ones
History = Mapping[tuple[str, str], list[tuple[float, Standing]]]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run has found."""

    mix: Mix
    seed: int
    policy: Name
    world: World
    account: Account
    history: History  # of standings, by site and source
    held: Mapping[str, int]  # messages that are somewhere at the end, counted one by one, by site


def _ignore(now: float, account: Account) -> None:
    pass


def simulate(
    mix: Mix,
    seed: int,
    policy: Name,
    url: str,
    *,
    observe: Observer = _ignore,
    stop: threading.Event | None = None,
) -> Run:
    """Simulate a mix' whole time; from a thread that runs no loop. Blocks.

    ``url``: an empty store, which is emptied afterwards; the oracle needs none. ``stop``: set it to
    end at once. Raises Stopped, ConfigError, StoreError (it is not empty), StoreUnavailable,
    redis.RedisError, OSError.
    """
    # Turns and pins are drawn from Python's own generator, by code that knows nothing of a simulation.
    before = random.getstate()
    random.seed(f"{seed} {policy}")
    clock = trio.testing.MockClock()
    try:
        return trio.run(
            _simulate, mix, seed, policy, url, observe, Agenda(clock, stop), clock=clock
        )
    finally:
        random.setstate(before)


async def _simulate(
    mix: Mix, seed: int, policy: Name, url: str, observe: Observer, agenda: Agenda
) -> Run:
    world = World(mix, seed, agenda, loop=policy == "loop")
    if policy == "oracle":
        driver = Driver(world, agenda, Oracle(world, agenda))
        await driver.run(observe)
        return _close(driver, mix, seed, policy, world)
    link = StillLink(url, timeout=_TIMEOUT, now=agenda.read_clock)
    try:
        if await link.call("DBSIZE"):
            raise StoreError("the store is not empty: a simulation wants one of its own")
        driver = Driver(world, agenda, Gateway(world.config, link))
        link.ring = driver.hear
        try:
            await driver.run(observe)
        finally:
            await link.call("FLUSHDB")
        return _close(driver, mix, seed, policy, world)
    finally:
        link.close()


def _close(driver: Driver, mix: Mix, seed: int, policy: Name, world: World) -> Run:
    held = {site: driver.count_held(site) for site in world.providers}
    return Run(mix, seed, policy, world, driver.account, driver.standings, held)
