"""``outgate sources`` and ``outgate sites`` beside a pool at work."""

import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from relay.store.gate import Gates, SiteLimits, Want
from relay.store.queue import Store
from relay.store.standing import PutOff, Report, Standings, make_schedules
from tests.kit.command import Desk, make_desk, note_site, post
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works

_SITE = (
    '[[site]]\nname = "big"\ndomains = ["y.test"]\nconnections = 3\nrate = "50/m"\n'
    '[site.source]\nrate = "20/m"\n'
)
_SAID = "550 5.7.1 listed, \x1b[31msee\u202e http://x.example [bold]"
_WARM = "[warmup.short]\ndays = [10, 20]\n"


@pytest.fixture
async def standing_desk(server: Server, tmp_path: Path, store: Store) -> Desk:
    """Sources a and b, and what receivers have said: b is quarantined and a throttled at google."""
    sources = {"a": "127.0.0.11", "b": "127.0.0.12"}
    desk = make_desk(tmp_path, server, sources=sources, tables=_SITE)
    standings = Standings(store.link, desk.config)
    reports = [Report("a", delivered=50, throttled=1, rest=240, why="421 4.7.28 slow down")]
    reports += [Report("b", delivered=5, blocked=1, rest=7200, why=_SAID)]
    await standings.report("google", reports, [PutOff("acme", why="550 5.7.26 SPF")])
    await standings.report("yahoo", [Report("b", delivered=100)])
    await standings.report("big", [Report("a", delivered=100, crowded=1, why="421 too many")])
    await Gates(store.link, lease=60).announce("source:a", "source:b", "worker:1")
    return desk


def by_site(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["site"]: one for one in row["standings"]}


async def test_standings(standing_desk: Desk) -> None:
    state = await standing_desk.ask("sources")

    a, b = state["sources"]
    assert [one["site"] for one in a["standings"]] == ["google", "big"]  # the worst first
    google, big = a["standings"]
    assert google["pace"] > 0
    assert 235 < google["rests_until"] - time.time() <= 241
    assert google["state"] == "silent"
    assert google["text"].endswith(": 421 4.7.28 slow down")
    assert (big["connections"], big["state"]) == (1, "narrowed")
    assert (google["quarantine"], google["warmup"]) == (None, None)
    shut = by_site(b)["google"]["quarantine"]
    assert (shut["count"], shut["why"], shut["probed"]) == (1, _SAID, 0)
    assert 7100 < shut["until"] - time.time() <= 7201
    assert "yahoo" not in by_site(b)  # nothing is queued there, and nothing is amiss
    assert state["not_shown"] == 0


async def test_standings_that_are_asked_for(standing_desk: Desk) -> None:
    async def ask(*words: str) -> list[tuple[str, str]]:
        state = await standing_desk.ask("sources", *words)
        return [(row["name"], one["site"]) for row in state["sources"] for one in row["standings"]]

    assert await ask("--source", "b") == [("b", "google")]
    assert await ask("--site", "google") == [("a", "google"), ("b", "google")]
    assert await ask("--site", "yahoo") == [("b", "yahoo")]
    assert await ask("--limit", "1") == [("b", "google")]
    assert (await standing_desk.ask("sources", "--limit", "1"))["not_shown"] == 2
    done = await standing_desk.call("sources", "--source", "c")
    assert (done.status, done.err) == (2, "outgate: no source c; there is a, b\n")


async def test_standings_for_people(standing_desk: Desk) -> None:
    done = await standing_desk.call("sources")

    assert "\x1b" not in done.out
    assert "\u202e" not in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    words = " ".join(done.out.split())
    assert "silent for 4 min: 421 4.7.28 slow down" in words
    assert "550 5.7.1 listed, ?[31msee? http://x.example [bold]" in words
    assert "google 0.30 30 - - quarantined until " in words
    assert "big 0.91 100 - 1 narrowed" in words
    assert "2 standings not shown" in (await standing_desk.call("sources", "--limit", "1")).out


async def test_a_site_says_how_sources_stand_there(standing_desk: Desk) -> None:
    (row,) = (await standing_desk.ask("sites", "--site", "google"))["sites"]

    assert row["sources"]["a"]["standing"]["state"] == "silent"
    assert row["sources"]["b"]["standing"]["quarantine"]["why"] == _SAID
    assert row["put_off"]["acme"]["why"] == "550 5.7.26 SPF"
    assert 50 < row["put_off"]["acme"]["until"] - time.time() <= 61
    (big,) = (await standing_desk.ask("sites", "--site", "big"))["sites"]
    assert (big["sources"]["b"]["standing"], big["put_off"]) == (None, {})

    out = (await standing_desk.call("sites", "--site", "google")).out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100
    lines = [line.strip() for line in out.splitlines()]
    assert any(line.startswith("b 0/") for line in lines)  # a line for each source
    words = " ".join(out.split())
    assert "score 0.83, pace " in words
    assert "tenant acme put off for " in words
    assert ": 550 5.7.26 SPF" in words
    assert "a 0/1 conns" in (await standing_desk.call("sites", "--site", "big")).out


async def test_warmup(server: Server, tmp_path: Path, store: Store) -> None:
    sources = {"a": "127.0.0.11", "b": '127.0.0.12"\nwarmup = "short'}
    desk = make_desk(tmp_path, server, sources=sources, tables=_SITE + _WARM)
    await post(store, "bob@y.test")
    await note_site(store, "big", "acme/y.test")
    await Gates(store.link, lease=60).announce("source:b")

    a, b = (await desk.ask("sources", "--site", "big"))["sources"]
    assert a["standings"] == []
    (first,) = b["standings"]
    assert (first["score"], first["evidence"], first["state"]) == (0.5, 0, "new")
    day = first["warmup"]
    assert (day["day"], day["days"], day["allowance"], day["used"]) == (1, 2, 10, 0)
    assert day["next_allowance"] == 20
    assert 0 < day["next_day"] - time.time() <= 86400

    gates = Gates(store.link, lease=60, schedules=make_schedules(desk.config))
    wants = [Want("b", 7, 1, 10)]
    await gates.reserve(SiteLimits("big", 0), "default", 7, wants, {"b": 1})
    words = " ".join((await desk.call("sources")).out.split())
    assert "warm-up day 1 of 2: 7 of 10; in " in words
    assert ": 20" in words
    assert "warm-up day 1 of 2: 7 of 10" in " ".join((await desk.call("sites")).out.split())


async def test_beside_a_pool_at_work(server: Server, tmp_path: Path) -> None:
    sources = {"a": "127.0.0.11", "b": "127.0.0.12", "gone": "192.0.2.77"}
    async with open_host(". wait") as host:
        desk = make_desk(
            tmp_path, server, routes={"y.test": host.make_host()}, sources=sources, tables=_SITE
        )
        async with open_works(server, tmp_path, config=desk.config) as works:
            for _ in range(4):
                await post(works.store, "bob@y.test")
            await host.wait_until(lambda: host.counts["CONTENT"] >= 2 or host.counts["DATA"] >= 2)
            await desk.ask("suspend", "--source", "b", "--site", "big")

            state = await desk.ask("sources")
            a, b, gone = state["sources"]
            assert state["workers"] == 1
            assert (a["alive"], b["alive"], gone["alive"]) == (True, True, False)
            assert 0 <= a["heard"] < 10
            assert (a["egress"], a["pools"]) == ("direct", {"default": 1})
            assert a["connections"] + b["connections"] >= 2
            assert b["suspended_at"] == ["site=big"]

            (site,) = (await desk.ask("sites"))["sites"]
            assert (site["name"], site["entry"], site["queued"]) == ("big", True, 4)
            assert site["connections"] == a["connections"] + b["connections"]
            assert site["connection_limit"] == 3
            assert site["sources"]["b"]["suspended"].startswith("site=big source=b suspended")
            assert site["rate_left"] is not None
            assert site["sources"]["a"]["rate_left"] is not None
            host.gate.set()
            await trio.lowlevel.checkpoint()
    words = " ".join((await desk.call("sources")).out.split())
    assert "no worker that is alive has it" in words


async def test_nobody_is_alive(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server)
    done = await desk.call("sources")
    assert done.status == 1
    assert "0 worker processes alive" in done.out


async def test_a_site_that_nobody_knows(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server, tables=_SITE)
    (row,) = (await desk.ask("sites", "--site", "mx.nobody.test"))["sites"]
    assert (row["entry"], row["queued"]) == (False, 0)
    done = await desk.call("sites")
    assert "50/m" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
