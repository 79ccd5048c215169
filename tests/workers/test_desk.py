"""The desk: who is there, which sources can be used, what is suspended and until when."""

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from socket import AF_INET, AF_INET6

import pytest
import trio

from relay.errors import SourceUnusable
from relay.store.suspension import Suspension
from tests.kit.redis import Server
from tests.kit.works import SOURCES, Works, make_config, open_works
from workers.desk import Desk


@pytest.fixture
async def works(server: Server, tmp_path: Path) -> AsyncIterator[Works]:
    """Of three sources; the one called gone is on no machine. Nothing runs."""
    config = make_config(
        tmp_path,
        addresses={"a": SOURCES["a"], "b": SOURCES["b"], "gone": "192.0.2.77"},
        weights={"a": 5, "b": 2, "gone": 1},
    )
    async with open_works(
        server, tmp_path, config=config, names=("a", "gone"), running=False
    ) as it:
        yield it


@pytest.fixture
def desk(works: Works) -> Desk:
    return works.pool.desk


async def test_turns_are_dealt_to_those_who_are_there(
    server: Server, works: Works, desk: Desk
) -> None:
    assert desk.find_weights("default") == {"a": 5, "gone": 1}  # as far as we know
    for source in desk.sources.values():
        await desk.try_source(source)
    await desk.announce()
    assert desk.find_weights("default") == {"a": 5}
    async with open_works(
        server, Path(works.config.state_dir), config=works.config, names=("b",), running=False
    ) as other:
        await other.pool.desk.announce()
        await desk.announce()
        assert desk.find_weights("default") == {"a": 5, "b": 2}
        assert desk.is_served("default", "b")
        assert not desk.is_served("default", "gone")
        assert desk.is_served("default")
        assert not desk.is_served("unheard-of")


async def test_who_is_silent_for_long_is_gone(
    monkeypatch: pytest.MonkeyPatch, works: Works, desk: Desk
) -> None:
    monkeypatch.setattr("relay.store.gate.PRESENCE", 0.05)
    await desk.announce()
    assert desk.is_served("default")
    await trio.sleep(0.1)
    assert await desk.gates.announce("source:b") == {"source:b"}


async def test_a_source_is_set_aside_once_and_said_to_be_back(
    works: Works, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    gone = desk.sources["gone"]
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await desk.try_source(gone)
    assert len(caplog.records) == 1
    assert not desk.is_usable("gone")
    assert desk.list_ours("default") == ["a"]
    assert "source:gone" not in desk.list_signs()
    (event,) = works.read_events("suspended")
    assert (event["source"], event["worker"]) == ("gone", desk.worker)
    a = desk.sources["a"]
    desk.set_aside(a, SourceUnusable("trouble"))
    assert desk.list_ours("default") == []
    await desk.try_source(a)
    assert desk.list_ours("default") == ["a"]
    (event,) = works.read_events("resumed")
    assert event["source"] == "a"


async def test_who_leaves_is_not_waited_for(works: Works, desk: Desk) -> None:
    await desk.announce()
    await desk.leave()
    assert f"worker:{desk.worker}" not in await desk.gates.announce("source:b")


@pytest.mark.parametrize(
    ("suspension", "asked", "covered"),
    [
        (Suspension(source="a"), {"site": "s", "source": "a"}, True),
        (Suspension(source="a"), {"site": "s", "source": "b"}, False),
        (Suspension(source="a"), {"site": "s"}, False),
        (Suspension(site="s"), {"site": "s", "source": "a"}, True),
        (Suspension(site="s"), {"site": "t"}, False),
        (Suspension(site="s", source="a"), {"site": "s", "source": "a"}, True),
        (Suspension(site="s", source="a"), {"site": "t", "source": "a"}, False),
        (Suspension(tenant="acme"), {"tenant": "acme", "site": "s"}, True),
        (Suspension(tenant="acme"), {"tenant": "other", "site": "s"}, False),
        (Suspension(), {"tenant": "other", "site": "s"}, True),
        (Suspension(domain="y.test"), {"tenant": "acme", "site": "s", "source": "a"}, False),
    ],
)
async def test_what_a_suspension_covers(
    desk: Desk, suspension: Suspension, asked: dict[str, str], covered: bool
) -> None:
    desk.suspended = [suspension]
    assert desk.is_suspended(**asked) is covered


async def test_suspensions_end_by_the_store_s_clock(desk: Desk) -> None:
    desk.ahead = 300.0
    desk.suspended = [
        Suspension(source="a", until=time.time() + 301),
        Suspension(source="b"),
        Suspension(source="c", until=time.time() + 299),
    ]
    assert desk.is_suspended(source="a")
    assert desk.is_suspended(source="b")
    assert not desk.is_suspended(source="c")
    assert desk.find_end() == pytest.approx(1.0, abs=0.1)
    desk.suspended = [Suspension(source="b")]
    assert desk.find_end() is None


async def test_a_family_is_left_out_at_a_site_for_a_time(desk: Desk) -> None:
    assert desk.reaches("a", "site")
    desk.exclude("site", AF_INET, 0.05)
    assert not desk.reaches("a", "site")
    assert desk.reaches("a", "other")
    desk.exclude("other", AF_INET6, 300)
    assert desk.reaches("a", "other")
    await trio.sleep(0.06)
    assert desk.reaches("a", "site")
