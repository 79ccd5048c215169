"""The bench's look-ups, few of them: what they count, and that the promises can be missed."""

import dataclasses

import pytest
import trio

from relay.config import Seconds
from relay.config.schema import Dns
from relay.net.resolver import Resolver
from tests.bench.lookups import Size, measure_look_ups
from tests.bench.nameserver import Answers, Count
from tests.bench.progress import Progress


@pytest.mark.slow
def test_few_look_ups_keep_what_many_promise() -> None:
    found = measure_look_ups(Progress(1), Size(domains=500, bound=100, wide=40))
    assert found.fresh.look_ups == found.known.look_ups == 2_500
    assert found.fresh.count.asked >= 520  # MX and A
    assert found.bounded.most == 100
    missed = [promise.what for promise in found.promises() if not promise.kept]
    assert missed == []
    twice = dataclasses.replace(found.fresh, count=Count(asked=1_040, most=2, in_flight=2))
    worse = dataclasses.replace(found, fresh=twice)
    assert [promise.kept for promise in worse.promises()] == [False, False, True, True, True]


@pytest.mark.slow
async def test_the_server_counts_names_that_are_asked_for_twice() -> None:
    with Answers(2, 2, 0) as answers:
        config = Dns(nameservers=(answers.endpoint,), timeout=Seconds(5))
        async with trio.open_nursery() as nursery:
            for resolver in (Resolver(config), Resolver(config)):
                nursery.start_soon(resolver.find_mx, "domain0.example")
        assert answers.take() == Count(asked=2, most=2, in_flight=2)
        assert answers.take() == Count(asked=0, most=0, in_flight=0)
