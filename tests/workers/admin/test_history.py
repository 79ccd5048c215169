"""History: looked at, written down, told, forgotten."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from relay.config import Config, read
from relay.errors import StoreUnavailable
from relay.store.queue import Store
from workers.admin.history import History, read_totals_of
from workers.admin.samples import Reading

BEGIN = 1_790_000_400.0  # a full ten minutes


class World:
    """A gateway that takes ten messages a second, as far as anybody looks."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.accepted = 0
        self.away = False
        self.cells: list[dict[str, Any]] = []
        self.queued: dict[str, int] = {}

    def clock(self) -> float:
        return self.now

    async def read_totals(self, now: float) -> Reading:
        if self.away:
            raise StoreUnavailable("away", executed=False)
        return Reading(now, {"accepted": self.accepted}, 7)

    async def read_grid(self) -> dict[str, Any]:
        return {"cells": self.cells, "queued": self.queued}

    async def pass_time(self, history: History, steps: int) -> None:
        """Look every ten seconds."""
        for _ in range(steps):
            self.now += 10
            self.accepted += 100
            await history.look()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def admin_config(tmp_path: Path) -> Config:
    (tmp_path / "state").mkdir()
    settings = {"state_dir": "state", "admin": {"remember": "2d"}}
    return read(settings, base=tmp_path, environment={})


@pytest.fixture
def history(admin_config: Config, world: World) -> Iterator[History]:
    history = History(admin_config, world.read_totals, world.read_grid, clock=world.clock)
    yield history
    history.close()


async def test_flow_is_what_was_counted(history: History, world: World) -> None:
    await history.look()
    await world.pass_time(history, 30)

    told = await history.flow(900)

    assert told["start"] == BEGIN + 300 - 900
    assert told["series"]["accepted"] == [None] * 60 + [10.0] * 30
    assert told["queued"] == [None] * 60 + [7] * 30


@pytest.mark.parametrize("window", [6 * 3600, 86400, 7 * 86400])
async def test_longer_windows_have_longer_steps(
    history: History, world: World, window: float
) -> None:
    await history.look()
    await world.pass_time(history, 360)

    told = await history.flow(window)

    known = [rate for rate in told["series"]["accepted"] if rate is not None]
    assert known == [10.0] * len(known)
    assert len(known) * told["step"] == pytest.approx(3600, abs=told["step"])


async def test_there_is_a_gap_while_the_store_is_away(history: History, world: World) -> None:
    await history.look()
    await world.pass_time(history, 3)
    world.away = True
    await world.pass_time(history, 3)
    world.away = False
    await world.pass_time(history, 3)

    told = await history.flow(90)

    # The first look after it has nothing to be held against.
    assert told["series"]["accepted"] == [10.0] * 3 + [None] * 4 + [10.0] * 2


async def test_there_is_a_gap_while_nobody_looks(
    history: History, world: World, admin_config: Config
) -> None:
    await history.look()
    await world.pass_time(history, 3)
    history.close()
    world.now += 120
    again = History(admin_config, world.read_totals, clock=world.clock)
    await again.look()
    await world.pass_time(again, 3)

    told = await again.flow(180)
    again.close()

    assert told["series"]["accepted"] == [10.0] * 3 + [None] * 12 + [10.0] * 3


async def test_a_store_that_was_emptied_begins_anew(history: History, world: World) -> None:
    world.accepted = 1_000_000
    await history.look()
    world.accepted = 0
    await world.pass_time(history, 1)

    assert (await history.flow(60))["series"]["accepted"][-1] == 10.0


async def test_standings_are_written_every_minute(history: History, world: World) -> None:
    for number in range(10):
        score = round(0.9 - number / 10, 1)
        world.cells = [
            {"source": "a", "site": "google", "score": score, "pace": None, "known": True},
            {"source": "b", "site": "google", "score": 0.5, "pace": None, "known": False},
            {"source": "b", "site": "x", "score": 0.5, "pace": 2.5, "known": False},
        ]
        world.queued = {"google": number}
        await world.pass_time(history, 6)
    world.now = BEGIN + 660

    told = await history.standing("a", "google", 660)
    paced = await history.standing("b", "x", 660)
    unknown = await history.standing("b", "google", 660)
    coarse = await history.standing("a", "google", 7 * 86400)

    assert (told["step"], told["start"]) == (60, BEGIN)
    assert told["score"] == [0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert told["queued"] == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert told["pace"] == [None] * 11
    assert set(paced["pace"]) == {2.5}
    assert set(unknown["score"]) == {None}
    assert set(unknown["queued"]) == set(range(10))
    assert [score for score in coarse["score"] if score is not None] == [0.1]


async def test_nothing_is_kept_for_ever(history: History, world: World) -> None:
    world.cells = [{"source": "a", "site": "x", "score": 0.5, "pace": 1.0, "known": True}]
    world.queued = {"x": 1}
    await history.look()
    await world.pass_time(history, 120)
    world.now += 4 * 86400
    await world.pass_time(history, 60)

    file = sqlite3.connect(history.path)
    for table in ("samples", "standings", "backlogs"):
        (oldest,) = file.execute(f"SELECT min(time) FROM {table}").fetchone()
        assert oldest > world.now - 2000, table
    file.close()


async def test_a_grid_is_cut(history: History, world: World) -> None:
    world.cells = [
        {"source": f"s{number}", "site": "x", "score": 0.5, "pace": None, "known": True}
        for number in range(1500)
    ]
    world.queued = {f"site{number}": 1 for number in range(500)}
    await history.look()

    file = sqlite3.connect(history.path)
    counts = [
        file.execute(f"SELECT count(*) FROM {table} WHERE step = 60").fetchone()[0]
        for table in ("standings", "backlogs")
    ]
    file.close()
    assert counts == [1000, 200]


async def test_it_looks_when_a_step_is_over(
    history: History, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    looked: list[float] = []

    async def look() -> None:
        looked.append(trio.current_time())

    history.look = look  # type: ignore[method-assign]
    history._clock = lambda: BEGIN + 3.0 + trio.current_time()
    with trio.move_on_after(35):
        await history.run()

    assert looked == pytest.approx([7.0, 17.0, 27.0], abs=0.01)


async def test_the_file_is_nobody_elses(history: History) -> None:
    assert stat.S_IMODE(os.stat(history.path).st_mode) == 0o600


async def test_totals_are_read_from_the_store(store: Store) -> None:
    reading = await read_totals_of(store)(BEGIN)

    assert (reading.time, reading.queued) == (BEGIN, 0)
    assert {"accepted", "delivered", "bounced", "deferred", "refused"} <= reading.totals.keys()
