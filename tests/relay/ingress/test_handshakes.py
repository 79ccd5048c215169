"""Rates of handshakes, in virtual time."""

import pytest
import trio
import trio.testing

from relay.config.units import Rate, Rates
from relay.ingress import handshakes as handshakes_module
from relay.ingress.handshakes import Handshakes


def count(handshakes: Handshakes, client: str = "192.0.2.1", *, tries: int = 1000) -> int:
    return sum(handshakes.take(client) for _ in range(tries))


async def test_a_burst_and_then_an_even_flow(autojump_clock: trio.testing.MockClock) -> None:
    handshakes = Handshakes(Rates((Rate(100, 1, 200),)))

    assert count(handshakes) == 200
    await trio.sleep(0.5)
    assert count(handshakes) == 50
    await trio.sleep(3600)
    assert count(handshakes) == 200


async def test_each_address_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    handshakes = Handshakes(Rates((Rate(1, 60, 3),)))

    assert count(handshakes, "192.0.2.1") == 3
    assert count(handshakes, "192.0.2.2") == 3


async def test_all_rates_hold_and_what_is_refused_is_not_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    handshakes = Handshakes(Rates((Rate(10, 1, 10), Rate(25, 3600))))

    assert count(handshakes) == 10
    await trio.sleep(1)
    assert count(handshakes) == 10
    await trio.sleep(1)
    assert count(handshakes) == 5  # of 25 in an hour
    await trio.sleep(3600)
    assert count(handshakes) == 10


async def test_without_a_rate_there_is_no_limit() -> None:
    assert count(Handshakes(None)) == 1000


async def test_addresses_are_not_remembered_without_end(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes_module, "_REMEMBERED", 3)
    handshakes = Handshakes(Rates((Rate(1, 60, 1),)))
    for client in "abc":
        assert handshakes.take(client)
    assert not handshakes.take("a")  # used again: not the first to be forgotten

    assert handshakes.take("d")

    assert len(handshakes._buckets) == 3
    assert not handshakes.take("a")
    assert handshakes.take("b")
