import ipaddress

import msgspec
import pytest

from relay.config.units import Network
from relay.store.keys import make_key
from relay.store.link import Link
from relay.store.networks import StoredSet, StoredSets
from tests.kit.redis import Server

ONE: tuple[Network, ...] = (ipaddress.ip_network("192.0.2.0/24"),)
TWO: tuple[Network, ...] = (*ONE, ipaddress.ip_network("2001:db8::/32"))


@pytest.fixture
def sets(link: Link) -> StoredSets:
    return StoredSets(link)


async def test_answers_are_read_by_all(sets: StoredSets) -> None:
    empty = await sets.read(["a", "b"])
    assert (empty.good, empty.refused) == ({}, {})
    good = await sets.write("a", TWO, "spf a.test")
    refused = await sets.refuse("b", ONE, "spf b.test", "too many")

    listing = await sets.read(["a", "b", "c"])

    assert (listing.good, listing.refused) == ({"a": good}, {"b": refused})
    assert good.networks == ("192.0.2.0/24", "2001:db8::/32")
    assert (good.origin, good.why, refused.why) == ("spf a.test", "", "too many")
    assert good.read_networks() == TWO
    assert empty.now <= good.time <= refused.time <= listing.now < empty.now + 60
    assert (await sets.read([])).good == {}


async def test_a_good_answer_takes_away_what_was_refused(sets: StoredSets) -> None:
    await sets.write("a", ONE, "spf a.test")
    await sets.refuse("a", TWO, "spf a.test", "too many")
    assert (await sets.read(["a"])).good["a"].networks == ("192.0.2.0/24",)

    await sets.write("a", TWO, "spf a.test")

    listing = await sets.read(["a"])
    assert (len(listing.good["a"].networks), listing.refused) == (2, {})


async def test_records_of_others_are_none(sets: StoredSets, server: Server) -> None:
    key = make_key(0, "networks")
    with server.client() as client:
        client.hset(key, "a", b"{}")
        client.hset(key, "b", b"\xff")
        client.hset(key, "?b", b"[]")
        client.hset(key, "c", msgspec.json.encode(StoredSet(("hello",), 1.0, "spf c.test")))

    listing = await sets.read(["a", "b", "c"])

    assert (list(listing.good), listing.refused) == (["c"], {})
    with pytest.raises(ValueError, match="hello"):
        listing.good["c"].read_networks()
