"""One of all workers has it."""

import pytest
import trio

from relay.store.keys import make_key
from relay.store.lease import Lease
from relay.store.link import Link
from tests.kit.redis import Server

KEY = make_key(0, "checking")


@pytest.fixture
def lease(link: Link) -> Lease:
    return Lease(link, KEY, 60.0)


async def test_one_has_it(lease: Lease, link: Link, server: Server) -> None:
    other = Lease(link, KEY, 60.0)
    assert await lease.take("one")
    assert not await other.take("two")
    assert not await other.hold("two")
    assert await lease.take("one")
    with server.client() as client:
        assert 50_000 < client.pttl(KEY) <= 60_000
    assert await lease.hold("one", 3600)
    with server.client() as client:
        assert 3_590_000 < client.pttl(KEY) <= 3_600_000
    assert await lease.take("one")
    with server.client() as client:
        assert 50_000 < client.pttl(KEY) <= 60_000, "renewed"


async def test_who_has_lost_it_hears_so(lease: Lease, server: Server) -> None:
    assert await lease.take("one")
    with server.client() as client:
        client.delete(KEY)  # its time is over
    assert await lease.take("two")
    assert not await lease.hold("one")
    assert not await lease.take("one")


async def test_that_of_the_dead_ends(lease: Lease) -> None:
    await lease.take("one")
    await lease.hold("one", 0.02)
    with trio.fail_after(5):
        while not await lease.take("two"):
            pass


async def test_only_who_has_it_can_leave_it(lease: Lease) -> None:
    assert await lease.take("one")
    await lease.leave("two")
    assert not await lease.take("two")
    await lease.leave("one")
    assert await lease.take("two")
    assert not await lease.take("one")
