"""Reading gates for people: what it says is what `reserve` does."""

import math
import time

import pytest

from relay.config.units import Rate
from relay.store.gate import Gates, SiteLimits, Want
from relay.store.gateview import GateView, read_left
from relay.store.link import Link
from relay.store.suspension import Suspensions

_LIMITS = SiteLimits("big", 4, (Rate(10, 1, 10), Rate(1000, 3600)), (Rate(5, 1, 5),))


@pytest.fixture
def gates(link: Link) -> Gates:
    return Gates(link, lease=60)


async def look(link: Link) -> GateView:
    return GateView(link, await Suspensions(link).read_clock())


async def test_an_untouched_gate_is_open(link: Link, gates: Gates) -> None:
    gate = (await (await look(link)).read([_LIMITS], ["a", "b"], ["default"]))["big"]
    assert gate.is_open
    assert (gate.left.count, gate.source_left["a"].count) == (10, 5)
    assert gate.connections == {"a": 0, "b": 0}
    assert not gate.rests
    assert not gate.owed


async def test_what_was_taken(link: Link, gates: Gates) -> None:
    wants = [Want("a", 20, 0, 4)]
    reserved = await gates.reserve(_LIMITS, "default", 20, wants, {"a": 1})
    assert reserved.grants[0].count == 5
    assert await gates.take_slot(_LIMITS, "a", "x", 4)
    assert await gates.take_slot(_LIMITS, "a", "y", 4)

    view = await look(link)
    gate = (await view.read([_LIMITS], ["a", "b"], ["default"]))["big"]

    assert 5 <= gate.left.count <= 6
    assert gate.source_left["a"].count < 1
    assert 0 < gate.source_left["a"].opens - time.time() <= 0.25
    assert gate.source_left["b"].count == 5
    assert gate.connections == {"a": 2, "b": 0}
    assert await view.count_connections(["big", "small"], ["a", "b"]) == {("big", "a"): 2}


async def test_a_turn_that_is_not_taken(link: Link, gates: Gates) -> None:
    limits = SiteLimits("big", 0)
    for _ in range(2):
        await gates.reserve(limits, "default", 3, [Want("a", 9, 0, 4)], {"a": 1, "b": 1})
    gate = (await (await look(link)).read([limits], ["a", "b"], ["default"]))["big"]
    assert list(gate.owed) == ["b"]
    assert math.isinf(gate.left.count)


async def test_rests(link: Link, gates: Gates) -> None:
    await gates.fail("big", "a", first=0.001, most=100)
    await gates.fail("small", "a", first=100, most=100)
    view = GateView(link, await Suspensions(link).read_clock() + 1)
    rests = await view.read_rests(["big", "small", "none"])
    assert list(rests) == ["small"]
    assert rests["small"]["a"].failures == 1
    assert 95 < rests["small"]["a"].until - time.time() <= 100


async def test_a_tenant(link: Link, gates: Gates) -> None:
    rates = [Rate(2, 1, 2)]
    await gates.charge_tenant("acme", rates, 2)
    left = await (await look(link)).read_tenant("acme", rates)
    assert left.count == 0
    assert 0 < left.opens - time.time() <= 0.5
    assert (await (await look(link)).read_tenant("globex", rates)).count == 2


async def test_who_is_there(link: Link, gates: Gates) -> None:
    await gates.announce("source:a", "pool:default")
    view = await look(link)
    assert sorted(await view.read_presence()) == ["pool:default", "source:a"]
    later = GateView(link, await Suspensions(link).read_clock() + 16)
    assert await later.read_presence() == {}


def test_a_sum_is_let_go_by_its_oldest_part() -> None:
    hour = Rate(10, 3600)
    left = read_left([hour], {"3600": "100:4,110:6"}, 110 * 150.0)
    assert (left.count, left.opens) == (0, 125 * 150.0)
    assert read_left([hour], {"3600": "100:4,110:6"}, 125 * 150.0).count == 4
    assert read_left([hour], {}, 0.0).count == 10
