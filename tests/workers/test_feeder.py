"""Feeders: fair turns among lanes, what is in sight, and news that comes while a claim is under way."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from relay.config import Rate
from relay.model import Claim
from relay.store.keys import SHARDS, read_lane
from relay.store.suspension import Suspension
from tests.kit.messages import find_domains
from tests.kit.peer import find_refusing_host, make_delivery
from tests.kit.redis import Server
from tests.kit.works import Works, open_works
from workers.berth import Berth
from workers.feeder import Feeder

SITE = "hosts"


class Hands:
    """Takes whatever comes, and remembers it."""

    def __init__(self, works: Works, room: int = 1000) -> None:
        self.stopping = False
        self.taken: list[tuple[str, int]] = []  # lane, shard
        self.expected = 0
        self.room = room
        self.starving: list[Feeder] = []
        self._pool = works.pool

    def find_room(self, *, proven: bool) -> int:
        return max(0, self.room - len(self.taken) - self.expected)

    def find_berth(self, source: str, pool: str, site: str) -> Berth:
        berth = self._pool.find_berth(source, pool, site)
        berth.windows["host"] = 20
        return berth

    def take(self, claim: Claim, feeder: Feeder, lane: str, source: str) -> None:
        self.taken.append((lane, claim.shard))

    def starve(self, feeder: Feeder) -> None:
        self.starving.append(feeder)

    def expect(self, count: int) -> None:
        self.expected += count

    def make_token(self) -> str:
        return self._pool.make_token()

    def count(self) -> Counter[tuple[str, str]]:
        """Return how many came by tenant and priority."""
        lanes = [read_lane(lane) for lane, _ in self.taken]
        return Counter((lane.tenant, lane.priority) for lane in lanes)


@pytest.fixture
async def works(server: Server, tmp_path: Path) -> AsyncIterator[Works]:
    tables = {"site": [{"name": SITE, "domains": ["*"]}]}
    routes = {"*": [find_refusing_host()]}
    async with open_works(
        server, tmp_path, running=False, bell=False, routes=routes, tables=tables
    ) as works:
        yield works


async def post(works: Works, count: int, domain: str, **more: str) -> None:
    """Accept deliveries of a domain whose site is known already."""
    for _ in range(count):
        delivery = make_delivery(b"bob@" + domain.encode(), accepted=time.time(), **more)
        await works.store.accept([delivery], b"{}", b"hello")
    for shard in range(SHARDS):
        for lane in await works.store.list_lanes(shard):
            if not read_lane(lane).site:
                for queue in await works.store.list_round(shard, lane, 0, 100):
                    await works.store.assign(shard, queue, lane, SITE)


async def make_feeder(works: Works, hands: Hands) -> Feeder:
    """Return a feeder that has heard of all there is."""
    feeder = Feeder("default", "", SITE, desk=works.pool.desk, hands=hands)
    for shard in range(SHARDS):
        for lane in await works.store.list_lanes(shard):
            feeder.add((shard, lane))
    return feeder


async def feed(feeder: Feeder) -> None:
    """One look."""
    await feeder._feed()


# -- turns


async def test_what_is_granted_at_once_is_shared_by_priority(works: Works) -> None:
    for priority in ("bulk", "", "urgent"):
        await post(works, 50, "y.test", priority=priority)
    hands = Hands(works, room=42)
    await feed(await make_feeder(works, hands))
    assert hands.count() == {
        ("acme", "urgent"): 32,
        ("acme", "normal"): 8,
        ("acme", "bulk"): 2,
    }


async def test_and_by_tenant_however_many_lanes_each_has(works: Works) -> None:
    domains = find_domains(SHARDS)
    for domain in domains:
        await post(works, 5, domain)
    await post(works, 50, domains[0], tenant="other")
    hands = Hands(works, room=40)
    await feed(await make_feeder(works, hands))
    assert hands.count() == {("acme", "normal"): 20, ("other", "normal"): 20}
    assert len(set(hands.taken)) > 10  # in turn, and not one lane for all


async def test_what_one_does_not_use_the_others_have(works: Works) -> None:
    await post(works, 3, "y.test", tenant="other")
    await post(works, 50, "y.test")
    hands = Hands(works, room=40)
    await feed(await make_feeder(works, hands))
    assert hands.count() == {("acme", "normal"): 37, ("other", "normal"): 3}


async def test_turns_are_remembered_from_one_look_to_the_next(works: Works) -> None:
    for tenant in ("acme", "other", "third"):
        await post(works, 20, "y.test", tenant=tenant)
    hands = Hands(works, room=0)
    feeder = await make_feeder(works, hands)
    for _ in range(30):
        hands.room += 1
        await feed(feeder)
    assert set(hands.count().values()) == {10}


async def test_who_was_away_has_no_claim_on_all_that_it_missed(works: Works) -> None:
    await post(works, 1, "y.test", tenant="other")
    await post(works, 300, "y.test")
    hands = Hands(works, room=0)
    feeder = await make_feeder(works, hands)
    for _ in range(200):
        hands.room += 1
        await feed(feeder)
    before = hands.count()
    await post(works, 100, "y.test", tenant="other")
    for place in (await make_feeder(works, hands)).places:
        feeder.add(place)
    for _ in range(80):
        hands.room += 1
        await feed(feeder)
    gained = hands.count() - before
    # Ahead by a bounded credit, and then in turn.
    assert 15 <= gained["acme", "normal"] <= 40


# -- what is in sight


async def test_what_was_not_found_is_given_back_to_the_gate(works: Works) -> None:
    await post(works, 3, "y.test")
    hands = Hands(works, room=50)
    feeder = await make_feeder(works, hands)
    await feed(feeder)
    assert len(hands.taken) == 3
    assert hands.expected == 0
    assert feeder.places == []


async def test_no_room_no_claim(works: Works) -> None:
    await post(works, 3, "y.test")
    hands = Hands(works, room=0)
    feeder = await make_feeder(works, hands)
    await feed(feeder)
    assert hands.taken == []
    assert hands.starving == [feeder]
    assert len(feeder.places) == 1


async def test_with_more_expected_than_there_is_room_for_it_waits_to_be_rung(works: Works) -> None:
    """Asked for less than nothing the gate grants nothing and names no reason: nobody would ring."""
    await post(works, 3, "y.test")
    pool = works.pool
    feeder = Feeder("default", "", SITE, desk=pool.desk, hands=pool)
    for shard in range(SHARDS):
        for lane in await works.store.list_lanes(shard):
            feeder.add((shard, lane))
    most = pool.find_room(proven=True)
    pool.expect(most)  # claims of others
    pool.expect(most)  # which have brought all of it
    ring = trio.Event()
    feeder.ring = ring.set  # type: ignore[method-assign]
    await feed(feeder)  # it has never asked: it is overdue
    assert not ring.is_set()
    pool.expect(-most)
    assert ring.is_set()


async def test_stopping_it_claims_nothing(works: Works) -> None:
    await post(works, 3, "y.test")
    hands = Hands(works)
    feeder = await make_feeder(works, hands)
    hands.stopping = True
    await feeder.run()
    await feed(feeder)
    assert hands.taken == []


# -- news


async def test_a_lane_in_the_news_while_a_claim_empties_it_is_not_forgotten(works: Works) -> None:
    """It was published between the claim's run and our hearing of its reply: it is never again."""
    await post(works, 3, "y.test")
    hands = Hands(works, room=3)
    feeder = await make_feeder(works, hands)
    (place,) = feeder.places
    claim = works.store.claim

    async def claim_and_hear(*arguments: object, **more: object) -> object:
        works.store.claim = claim  # type: ignore[method-assign]
        claimed = await claim(*arguments, **more)  # type: ignore[arg-type]
        await post(works, 2, "y.test")  # the lane was empty: this is the only news of it
        feeder.add(place)
        return claimed

    works.store.claim = claim_and_hear  # type: ignore[method-assign, assignment]
    await feed(feeder)
    assert len(hands.taken) == 3
    assert feeder.places == [place]
    hands.room = 100
    await feed(feeder)
    assert len(hands.taken) == 5
    assert feeder.places == []


async def test_it_runs_until_there_is_nothing_left_and_is_started_by_the_next_news(
    works: Works,
) -> None:
    await post(works, 3, "y.test")
    hands = Hands(works)
    feeder = await make_feeder(works, hands)
    (place,) = feeder.places
    with trio.fail_after(5):
        await feeder.run()
    assert len(hands.taken) == 3
    await post(works, 1, "y.test")
    assert feeder.add(place)
    assert not feeder.add(place)
    with trio.fail_after(5):
        await feeder.run()
    assert len(hands.taken) == 4


async def test_what_no_tenant_may_send_is_not_asked_for_again_and_again(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(works, 30, "y.test")
    await post(works, 5, "y.test", tenant="other")
    monkeypatch.setitem(works.pool.desk.tenant_rates, "acme", (Rate(10, 86_400),))
    works.pool.desk.suspended.append(Suspension(tenant="other"))
    hands = Hands(works)
    feeder = await make_feeder(works, hands)

    waits = [await feeder._feed() for _ in range(4)]

    assert hands.count() == {("acme", "normal"): 10}
    assert waits[-1] > 10
    works.pool.desk.suspended.clear()
    await feed(feeder)
    assert hands.count()["other", "normal"] == 5
