"""What waits where nothing moves: it expires in its time, or somebody hears of it."""

import time
from pathlib import Path

import pytest
import trio

import workers.sweep
from relay.store.keys import SHARDS
from relay.store.suspension import Suspension, Suspensions
from tests.kit.audit import expire_claims
from tests.kit.peer import find_refusing_host, open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


@pytest.fixture(autouse=True)
def quick_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sweep, "_LONGEST", 0.2)


async def test_expiry_while_the_site_rests(server: Server, tmp_path: Path) -> None:
    """One was tried, and its source rests for a minute; the others' time is over before."""
    async with open_host() as home:
        routes = {"y.test": [find_refusing_host()], "acme.example": [home.make_host()]}
        settings = {"routes": routes, "retry": ["4h"], "expire": "60s"}
        async with open_works(server, tmp_path, running=False, **settings) as works:
            await works.post(b"first@y.test")
            await works.post_many(5, accepted=time.time() - 58)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works.run)
                await works.wait_for_event("resting")
                await works.wait_for(bounced=5, queued=1, seconds=6)
                await works.finish()
                nursery.cancel_scope.cancel()
            works.check()
            assert len(works.read_events("deferred")) == 1


@pytest.mark.parametrize(
    "suspension", [Suspension(tenant="acme"), Suspension(domain="y.test"), Suspension(source="a")]
)
async def test_expiry_while_everything_is_suspended(
    server: Server, tmp_path: Path, suspension: Suspension
) -> None:
    """The notices wait with everything else, unless only the domain is suspended."""
    async with open_host() as host:
        settings = {"routes": {"*": [host.make_host()]}, "expire": "60s"}
        async with open_works(server, tmp_path, **settings) as works:
            await Suspensions(works.store.link).suspend(suspension)
            await trio.sleep(0.1)
            await works.post_many(5, accepted=time.time() - 59)
            await works.post(b"later@y.test")
            await works.wait_for(bounced=5, queued=1, delivered=0, seconds=5)
            await works.wait_for(book="notices", accepted=5)
            await works.finish()
            works.check()
        assert b"bob@y.test" not in {m.recipients[0] for m in host.messages}


async def test_a_lane_that_nobody_serves_is_reported_once(server: Server, tmp_path: Path) -> None:
    """It could go: a pool that is configured, alive by what is announced, and not here."""
    tables = {"pool": {"default": {"a": 1}, "other": {"b": 1}}}
    addresses = {"a": "127.0.0.11", "b": "127.0.0.12"}
    async with open_host() as host:
        settings = {"routes": {"*": [host.make_host()]}, "tables": tables, "addresses": addresses}
        async with open_works(server, tmp_path, names=("a",), stalled="1s", **settings) as works:
            await works.post(b"bob@y.test", pool="other")
            (event,) = await works.wait_for_event("stalled", seconds=6)
            assert "other/normal/acme/" in event["what"]
            assert event["wait"] >= 1
            await works.finish()
            works.check()
        assert not host.messages


async def test_what_is_suspended_is_not_stalled(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        settings = {"routes": {"*": [host.make_host()]}, "stalled": "1s"}
        async with open_works(server, tmp_path, **settings) as works:
            await Suspensions(works.store.link).suspend(Suspension(source="a"))
            await trio.sleep(0.1)
            await works.post()
            await trio.sleep(2)
            assert works.read_events("stalled") == []
            await works.wait_for(queued=1)
            await works.finish()
            works.check()


async def test_what_kills_its_worker_again_and_again_waits_longer_each_time(
    server: Server, tmp_path: Path
) -> None:
    """A message that ends whoever takes it: claimed, never attempted, reclaimed."""
    async with open_works(server, tmp_path, running=False) as works:
        delivery = await works.post()
        waits = []
        for number in range(5):
            (lane,) = [
                (shard, lane)
                for shard in range(SHARDS)
                for lane in await works.store.list_lanes(shard)
            ]
            claimed = await works.store.claim(
                *lane, [1], token=f"dead-{number}", octets=1000, inline=1000
            )
            assert [claim.delivery.id for _, claim in claimed.claims] == [delivery.id]
            assert claimed.claims[0][1].attempts == 0
            expire_claims(server)
            assert len(await works.store.reclaim(lane[0])) == 1
            works.check()
            place = await works.store.read_place(delivery.id, "y.test")
            waits.append(place.until - time.time() if place and place.until else 0)
            await works.hurry("y.test")
    assert waits == pytest.approx([0, 60, 120, 240, 480], abs=2)


async def test_a_queue_that_is_deleted_while_claimed(server: Server, tmp_path: Path) -> None:
    """Somebody took Redis' keys of the queue away: what is in hand ends as if nothing had been."""
    async with open_host("RCPT1 450 4.2.0 later\n.1 wait") as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            for address in (b"put-off@y.test", b"taken@y.test"):
                await works.post(address)
            await host.wait_until(lambda: host.counts["."] == 1)
            with server.client() as client:
                for name in ("ready", "due", "round", "site", "agenda", "lanes"):
                    for key in client.scan_iter(f"{{og*}}:{name}*"):
                        client.delete(key)
            host.gate.set()
            await works.wait_for(delivered=2, queued=0, bounced=0)
            await works.finish()
            works.check()
