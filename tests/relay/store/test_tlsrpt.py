"""Counts of TLS sessions, and the lease of who reports them."""

import pytest

from relay.errors import StoreFull
from relay.store import tlsrpt
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.tlsrpt import Session, Sessions, decode
from tests.kit.redis import Server, open_server

DAY = 20_780
Y = find_shard("y.test")
GOOD = Session("y.test", "sts", ("version: STSv1", "mode: enforce"), ("*.y.test",))
BAD = Session(
    *("y.test", "no-policy-found", (), (), "mx.y.test", "192.0.2.1"),
    *("certificate-expired", "it ended\r\non Monday", "192.0.2.9"),
)


@pytest.fixture
def sessions(link: Link) -> Sessions:
    return Sessions(link)


async def test_counts_add_up_and_come_back(sessions: Sessions) -> None:
    assert await sessions.add(DAY, Y, {GOOD: 3, BAD: 1}) == 0
    assert await sessions.add(DAY, Y, {GOOD: 2}) == 0
    await sessions.add(DAY + 1, Y, {GOOD: 100})

    found = await sessions.read(DAY, Y)
    assert found.keys() == {"y.test"}
    assert decode(found["y.test"]) == {GOOD: 5, BAD: 1}


async def test_domains_of_a_shard_are_told_apart(sessions: Sessions) -> None:
    counts = {Session(f"d{n}.test", "tlsa", (f"3 1 1 {n:064x}",)): n + 1 for n in range(150)}
    other = {Session(f"d{n}.test", "no-policy-found"): 1 for n in range(150)}
    for piece in (counts, other):
        await sessions.add(DAY, 7, piece)

    found = await sessions.read(DAY, 7)
    assert len(found) == 150
    assert decode(found["d9.test"]) == {
        Session("d9.test", "tlsa", (f"3 1 1 {9:064x}",)): 10,
        Session("d9.test", "no-policy-found"): 1,
    }


async def test_what_is_removed_is_gone_and_the_rest_is_not(
    sessions: Sessions, server: Server
) -> None:
    await sessions.add(DAY, Y, {GOOD: 3, BAD: 1})
    other = Session("other.test", "sts")
    await sessions.add(DAY, Y, {other: 1})
    found = await sessions.read(DAY, Y)

    await sessions.remove(DAY, Y, list(found["y.test"]))
    assert await sessions.read(DAY, Y) == {"other.test": found["other.test"]}
    await sessions.remove(DAY, Y, list(found["other.test"]))
    await sessions.remove(DAY, Y, [])
    with server.client() as client:
        assert client.keys("*") == []


async def test_nothing_stays_for_ever(sessions: Sessions, server: Server) -> None:
    await sessions.add(DAY, Y, {GOOD: 1})
    with server.client() as client:
        assert 3 * 86_400 - 5 < client.ttl(make_key(Y, "sessions", DAY)) <= 3 * 86_400


async def test_a_hash_is_bounded(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlsrpt, "MAX_FIELDS", 5)
    kinds = [Session("y.test", "tlsa", text=str(n)) for n in range(9)]
    assert await sessions.add(DAY, Y, dict.fromkeys(kinds[:4], 1)) == 0

    # One more fits; those that are there still count.
    assert await sessions.add(DAY, Y, dict.fromkeys(kinds[2:7], 10)) == 20
    assert await sessions.add(DAY, Y, {kinds[8]: 7}) == 7
    counts = decode((await sessions.read(DAY, Y))["y.test"])
    assert sorted(counts.values()) == [1, 1, 10, 11, 11]


async def test_nonsense_is_left_out_and_can_be_removed(sessions: Sessions, server: Server) -> None:
    key = make_key(Y, "sessions", DAY)
    with server.client() as client:
        client.hset(key, mapping={"junk": 1, '["y.test","unheard-of"]': 2, "[1]": 3})
    await sessions.add(DAY, Y, {GOOD: 1})

    found = await sessions.read(DAY, Y)
    assert found.keys() == {"y.test", ""}
    assert decode(found["y.test"]) == {GOOD: 1}
    for fields in found.values():
        await sessions.remove(DAY, Y, list(fields))
    assert await sessions.read(DAY, Y) == {}


async def test_who_reports_has_five_minutes(sessions: Sessions, server: Server) -> None:
    assert await sessions.lease.take("one")
    with server.client() as client:
        assert 60_000 < client.pttl(make_key(0, "reporting")) <= 300_000


async def test_a_full_store_takes_neither_counts_nor_leases() -> None:
    with open_server(maxmemory="1mb") as server:
        link = make_link(server.url, timeout=10)
        sessions = Sessions(link)
        with pytest.raises(StoreFull):
            await sessions.add(DAY, Y, {GOOD: 1})
        with pytest.raises(StoreFull):
            await sessions.lease.take("one")
        await link.aclose()
