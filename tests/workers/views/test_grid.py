"""The grid of sources and sites: each state, from what the store holds."""

from pathlib import Path
from typing import Any

import pytest

from relay.config import Config, read
from relay.store.queue import Store
from relay.store.standing import Report, Standings
from relay.store.suspension import Suspension, Suspensions
from workers.views.backlog import Backlog
from workers.views.grid import read_grid


@pytest.fixture
def config(tmp_path: Path) -> Config:
    tables = {
        "state_dir": "state",
        "source": [
            {"name": "a", "address": "127.0.0.11"},
            {"name": "b", "address": "127.0.0.12", "warmup": "default"},
        ],
        "pool": {"default": {"a": 1, "b": 1}},
        "tenant": [{"name": "acme", "domains": ["acme.example"], "networks": ["127.0.0.0/8"]}],
        "site": [{"name": "big", "domains": ["y.test"]}],
    }
    return read(tables, base=tmp_path, environment={})


async def look(store: Store, config: Config, **more: Any) -> dict[tuple[str, str], dict[str, Any]]:
    grid = await read_grid(store, config, [], **more)
    return {(one["source"], one["site"]): one for one in grid["cells"]}


async def test_a_site_of_ours_is_there_from_the_start(store: Store, config: Config) -> None:
    cells = await look(store, config)
    assert set(cells) == {("a", "big"), ("b", "big")}
    one = cells["a", "big"]
    assert (one["state"], one["known"], one["score"], one["pace"]) == ("ok", False, 0.5, None)
    assert one["warmup"] is None
    warm = cells["b", "big"]
    assert warm["state"] == "warming"
    assert (warm["warmup"]["day"], warm["warmup"]["allowance"]) == (1, 50)


async def test_what_receivers_said(store: Store, config: Config) -> None:
    standings = Standings(store.link, config)
    await standings.report("big", [Report("a", blocked=1, why="550 go away")])
    await standings.report("slow", [Report("a", delivered=50, throttled=1, most=10.0, rest=60.0)])
    cells = await look(store, config)
    shut = cells["a", "big"]
    assert shut["state"] == "quarantined"
    assert "550 go away" in shut["text"]
    assert cells["a", "slow"]["state"] == "silent"
    assert cells["a", "slow"]["known"]


async def test_an_operators_word_counts_first(store: Store, config: Config) -> None:
    standings, suspensions = Standings(store.link, config), Suspensions(store.link)
    await standings.report("big", [Report("a", blocked=1, why="550 go away")])
    pause = Suspension(site="big", source="a", who="ann", why="ticket 7")
    await suspensions.suspend(pause)
    cells = await look(store, config)
    assert cells["a", "big"]["state"] == "suspended"
    assert "by ann: ticket 7" in cells["a", "big"]["text"]
    assert cells["b", "big"]["state"] == "warming"
    await suspensions.suspend(replace_source(pause, ""))
    assert (await look(store, config))["b", "big"]["state"] == "suspended"


def replace_source(one: Suspension, source: str) -> Suspension:
    return Suspension(site=one.site, source=source, who=one.who, why=one.why)


async def test_where_trouble_is_there_is_always_room(store: Store, config: Config) -> None:
    standings = Standings(store.link, config)
    for number in range(6):
        await standings.report(f"bad{number}", [Report("a", blocked=1)])
    busy = [Backlog("acme", f"d{n}.test", site=f"d{n}.test", ready=9 - n) for n in range(8)]
    grid = await read_grid(store, config, busy, limit=4)
    assert len(grid["sites"]) == 4
    assert sum(name.startswith("bad") for name in grid["sites"]) == 2
    assert {"d0.test", "d1.test"} <= set(grid["sites"])
    assert grid["queued"]["d0.test"] == 9
    assert grid["not_shown"] == 6 + 8 + 1 - 4
    assert len(grid["cells"]) == 8
