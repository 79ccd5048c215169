"""The sweep: what nobody serves ends in its time; what could go, and does not, is reported once."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio

from relay.config.schema import Reputation, TenantShare
from relay.model import Claim
from relay.store.keys import SHARDS
from relay.store.share import Counts, Shares
from relay.store.suspension import Suspension
from tests.kit.peer import find_refusing_host, make_claim
from tests.kit.redis import Server
from tests.kit.works import Works, open_works
from workers.feeder import Feeder
from workers.share import TenantShares
from workers.sweep import Sweep


@dataclass
class Held:
    """A delivery in hand."""

    claim: Claim
    since: float


@dataclass
class Holder:
    """A pool that holds, feeds and says what a test wants."""

    works: Works
    held: dict[str, Held] = field(default_factory=dict)
    feeders: list[Feeder] = field(default_factory=list)

    def list_feeders(self) -> list[Feeder]:
        return self.feeders

    def make_token(self) -> str:
        return self.works.pool.make_token()


@pytest.fixture
async def works(server: Server, tmp_path: Path) -> AsyncIterator[Works]:
    routes = {"*": [find_refusing_host()]}
    settings = {"routes": routes, "expire": "60s", "stalled": "1s"}
    async with open_works(server, tmp_path, running=False, bell=False, **settings) as works:
        yield works


async def look(works: Works, holder: Holder | None = None, sweep: Sweep | None = None) -> Sweep:
    """One look at everything."""
    sweep = sweep or Sweep(works.pool.desk, holder or Holder(works))
    sweep._pause = 0.0  # what was served just now as well
    for shard in range(SHARDS):
        await sweep._look(shard)
    sweep._look_at_hands()
    return sweep


async def test_what_is_too_old_ends_wherever_it_stands(works: Works) -> None:
    """More than one page of a queue, old and young, and several queues."""
    old = time.time() - 61
    await works.post_many(120, accepted=old)
    await works.post_many(20, b"bob@z.test", accepted=old)
    await works.post_many(5)
    await look(works)
    await works.wait_for(bounced=140, queued=5, delivered=0)
    works.check()


async def test_young_mail_is_left_alone(works: Works) -> None:
    await works.post_many(5, accepted=time.time() - 55)
    await look(works)
    await works.wait_for(bounced=0, queued=5)
    works.check()


async def test_it_goes_by_the_store_s_clock(works: Works) -> None:
    works.pool.desk.ahead = -300.0  # ours is five minutes ahead
    await works.post_many(5, accepted=time.time() - 100)
    await look(works)
    await works.wait_for(bounced=0, queued=5)


async def test_a_lane_that_could_go_is_reported_once(works: Works) -> None:
    await works.post()
    await trio.sleep(1.1)
    sweep = await look(works)
    await look(works, sweep=sweep)
    (event,) = works.read_events("stalled")
    assert event["what"].startswith("default/normal/acme/")
    assert event["wait"] == 1
    works.check()


async def test_what_waits_for_a_gate_is_as_it_should_be(works: Works) -> None:
    await works.post()
    await trio.sleep(1.1)
    holder = Holder(works)
    feeder = Feeder("default", "", "", desk=works.pool.desk, hands=works.pool)
    holder.feeders.append(feeder)
    feeder.why = "site rate"
    works.pool.desk.suspended = [Suspension(source="b")]
    await look(works, holder)
    assert works.read_events("stalled") == []
    feeder.why = ""
    await look(works, holder)
    assert len(works.read_events("stalled")) == 1


@pytest.mark.parametrize("unknown", [0, 30, 90])
async def test_nor_is_what_its_tenant_must_wait_for(works: Works, unknown: int) -> None:
    """Whatever the feeder says: it has other tenants' lanes, too."""
    await works.post()
    settings = TenantShare(at_least=100, hold_unknown=0.5)
    shares = works.pool.desk.shares = TenantShares(
        msgspec.structs.replace(works.config, reputation=Reputation(tenant=settings)),
        works.store.link,
        works.events,
    )
    await Shares(works.store.link, settings).add("acme", Counts(100, unknown))
    await shares.read()
    await trio.sleep(1.1)
    await look(works)
    assert len(works.read_events("stalled")) == (0 if unknown else 1)


async def test_nor_what_an_operator_has_suspended(works: Works) -> None:
    await works.post()
    works.pool.desk.suspended = [Suspension(tenant="acme")]
    await trio.sleep(1.1)
    await look(works)
    assert works.read_events("stalled") == []


async def test_what_is_in_hand_for_hours_is_reported(works: Works) -> None:
    claim = make_claim()
    holder = Holder(works)
    holder.held["one"] = Held(claim, trio.current_time() - 3599)
    sweep = await look(works, holder)
    assert works.read_events("stalled") == []
    holder.held["two"] = Held(claim, trio.current_time() - 3601)
    await look(works, holder, sweep)
    (event,) = works.read_events("stalled")
    assert event["what"] == "two"
