"""The list of recipients that are not tried: counted, kept for a time, lifted."""

from collections.abc import AsyncIterator

import pytest

from relay.config.schema import Config, Delivery
from relay.config.units import Seconds
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.suppression import Suppression
from tests.kit.redis import Server

BOB, EVE = b"bob@y.test", b"eve@y.test"


@pytest.fixture
async def link(server: Server) -> AsyncIterator[Link]:
    link = make_link(server.url, timeout=10)
    yield link
    await link.aclose()


def make(link: Link, *, suppress_after: int = 2, suppress_for: float = 3600) -> Suppression:
    settings = Delivery(suppress_after=suppress_after, suppress_for=Seconds(suppress_for))
    return Suppression(link, Config(delivery=settings))


async def test_as_many_as_allowed_and_then_no_more(link: Link) -> None:
    suppression = make(link, suppress_after=3)
    added = [await suppression.note("y.test", unknown=[BOB]) for _ in range(3)]

    assert added == [frozenset(), frozenset(), {BOB}]
    assert await suppression.find("y.test", [BOB, EVE]) == {BOB}


async def test_workers_count_together(link: Link, server: Server) -> None:
    other_link = make_link(server.url, timeout=10)
    one, other = make(link), make(other_link)
    await one.note("y.test", unknown=[BOB])
    await other.note("y.test", unknown=[BOB])

    assert await one.find("y.test", [BOB]) == {BOB}
    await other_link.aclose()


async def test_success_in_between_begins_anew(link: Link) -> None:
    suppression = make(link)
    await suppression.note("y.test", unknown=[BOB, EVE])
    await suppression.note("y.test", known=[BOB], unknown=[EVE])
    await suppression.note("y.test", unknown=[BOB])

    assert await suppression.find("y.test", [BOB, EVE]) == {EVE}


async def test_success_takes_a_recipient_off_the_list(link: Link) -> None:
    suppression = make(link, suppress_after=1)
    await suppression.note("y.test", unknown=[BOB])
    await suppression.note("y.test", known=[BOB])

    assert await suppression.find("y.test", [BOB]) == frozenset()
    assert await suppression.listing() == []


async def test_domain_is_the_same_however_it_is_written(link: Link) -> None:
    suppression = make(link, suppress_after=1)
    await suppression.note("y.test", unknown=[b"Bob@Y.Test"])

    # The case of a local part is its host's affair (RFC 5321 §2.4).
    assert await suppression.find("y.test", [b"Bob@y.TEST", b"bob@y.test"]) == {b"Bob@y.TEST"}


async def test_it_ends_by_itself(
    link: Link, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    suppression = make(link, suppress_after=1)
    await suppression.note("y.test", unknown=[BOB])
    (entry,) = await suppression.listing()
    monkeypatch.setattr("relay.store.suppression.time.time", lambda: entry.until + 1)

    assert await suppression.find("y.test", [BOB]) == frozenset()
    assert await suppression.listing() == []
    await suppression.note("y.test", unknown=[EVE])  # who comes next clears up
    with server.client() as client:
        assert [client.zcard(key) for key in client.keys("*:suppressed")] == [1]


async def test_counts_do_not_stay_for_ever(link: Link, server: Server) -> None:
    await make(link).note("y.test", unknown=[BOB, EVE])
    with server.client() as client:
        ends = [client.ttl(key) for key in client.keys("*:unknown:*")]
    assert len(ends) == 2
    assert all(3500 < end <= 3601 for end in ends)


async def test_listing_has_all_domains_and_until_when(link: Link) -> None:
    suppression = make(link, suppress_after=1)
    for number in range(40):
        await suppression.note(f"d{number}.test", unknown=[b"u@d%d.test" % number])
    listed = await suppression.listing()

    assert len(listed) == 40
    assert [entry.address for entry in listed] == sorted(entry.address for entry in listed)


async def test_lifting_forgets_the_count_too(link: Link) -> None:
    suppression = make(link)
    for _ in range(3):
        await suppression.note("y.test", unknown=[BOB])  # twice, and once more

    assert await suppression.lift(b"bob@Y.test")
    assert not await suppression.lift(BOB)
    assert not await suppression.lift(b"nonsense")
    await suppression.note("y.test", unknown=[BOB])
    assert await suppression.find("y.test", [BOB]) == frozenset()


@pytest.mark.parametrize("local", [b"a b", b"\xff\x00", b"x\r\ny", b'"a:b@c"', "é".encode()])
async def test_any_address_will_do(link: Link, local: bytes) -> None:
    suppression = make(link, suppress_after=1)
    address = local + b"@y.test"
    await suppression.note("y.test", unknown=[address])

    assert await suppression.find("y.test", [address]) == {address}
    assert [entry.address for entry in await suppression.listing()] == [address]
    assert await suppression.lift(address)
