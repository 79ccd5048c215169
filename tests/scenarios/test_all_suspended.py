"""Everything that could send is suspended: mail waits, no attempt is counted, and it goes on by itself."""

from pathlib import Path

import pytest
import trio

from relay.store.suspension import Suspension, Suspensions
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, open_works

ALL_SOURCES = tuple(Suspension(source=name) for name in "ab")


@pytest.mark.parametrize(
    "suspended",
    [
        ALL_SOURCES,
        (Suspension(tenant="acme"),),
        (Suspension(domain="y.test"),),
        (Suspension(domain="y.test", tenant="acme"),),
    ],
    ids=["sources", "tenant", "domain", "queue"],
)
async def test_mail_waits_and_goes_on_when_it_is_resumed(
    server: Server, tmp_path: Path, suspended: tuple[Suspension, ...]
) -> None:
    addresses = {name: SOURCES[name] for name in "ab"}
    async with open_host() as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "addresses": addresses}
        async with open_works(server, tmp_path, **settings) as works:
            suspensions = Suspensions(works.store.link)
            for one in suspended:
                await suspensions.suspend(one)
            await trio.sleep(0.1)
            await works.post_many(20)
            await trio.sleep(0.4)
            assert host.sessions == 0
            await works.wait_for(queued=20)
            assert "suspended" in [feeder.why for feeder in works.pool.list_feeders()]
            for one in suspended:
                await suspensions.resume(one)
            await works.wait_for(delivered=20, queued=0, seconds=3)
            await works.finish()
            works.check()
        assert works.read_events("deferred") == []
        assert {event["attempt"] for event in works.read_events("delivered")} == {1}


@pytest.mark.parametrize(
    "suspension", [Suspension(source="a"), Suspension(tenant="acme"), Suspension(domain="y.test")]
)
async def test_a_suspension_with_an_end_ends(
    server: Server, tmp_path: Path, suspension: Suspension
) -> None:
    async with open_host() as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            suspensions = Suspensions(works.store.link)
            until = await suspensions.read_clock() + 1
            ends = {"source": suspension.source, "tenant": suspension.tenant}
            await suspensions.suspend(Suspension(**ends, domain=suspension.domain, until=until))
            await trio.sleep(0.1)
            await works.post_many(5)
            await host.wait_for(5, seconds=4)
            assert await suspensions.read_clock() >= until
            await works.wait_for(delivered=5, queued=0)
            await works.finish()
            works.check()


async def test_one_suspended_source_leaves_it_to_the_other(server: Server, tmp_path: Path) -> None:
    addresses = {name: SOURCES[name] for name in "ab"}
    async with open_host() as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "addresses": addresses}
        async with open_works(server, tmp_path, **settings) as works:
            await Suspensions(works.store.link).suspend(Suspension(source="a"))
            await trio.sleep(0.1)
            await works.post_many(20)
            await works.wait_for(delivered=20, queued=0)
            await works.finish()
            works.check()
    assert {message.client for message in host.messages} == {SOURCES["b"]}


async def test_what_is_suspended_under_way_is_finished(server: Server, tmp_path: Path) -> None:
    async with open_host(".1 wait") as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            await works.post()
            await host.wait_for(1)
            await Suspensions(works.store.link).suspend(Suspension(domain="y.test"))
            await trio.sleep(0.1)
            await works.post_many(5)
            host.gate.set()
            await works.wait_for(delivered=1, queued=5)
            await trio.sleep(0.3)
            await works.wait_for(delivered=1, queued=5)
            await works.finish()
            works.check()
