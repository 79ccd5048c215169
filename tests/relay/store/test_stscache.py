"""MTA-STS policies in the store: kept for their time, and never a reason for trouble."""

import pytest

from relay.errors import StoreUnavailable
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.stscache import StoredSts, StsCache
from tests.kit.redis import Server

STORED = StoredSts(id="7", text="version: STSv1\nmode: none\n", fetched=100.5, expires=86500.5)


def find_key(domain: str) -> str:
    return make_key(find_shard(domain), "sts", domain)


async def test_other_workers_read_what_one_has_written(link: Link, server: Server) -> None:
    await StsCache(link).write("a.test", STORED, lifetime=60)
    other = make_link(server.url, timeout=10)

    assert await StsCache(other).read("a.test") == STORED
    assert await StsCache(other).read("b.test") is None
    await other.aclose()


async def test_last_one_to_write_wins(link: Link) -> None:
    cache = StsCache(link)
    for ident in ("1", "2"):
        await cache.write("a.test", StoredSts(ident, "", 0, 1), lifetime=60)

    assert await cache.read("a.test") == StoredSts("2", "", 0, 1)


@pytest.mark.parametrize(
    ("lifetime", "milliseconds"), [(31_557_600, 31_557_600_000), (60, 60_000), (0, 1), (-5, 1)]
)
async def test_store_forgets_it_when_its_time_is_over(
    link: Link, server: Server, lifetime: float, milliseconds: int
) -> None:
    await StsCache(link).write("a.test", STORED, lifetime=lifetime)
    with server.client() as client:
        left = client.pttl(find_key("a.test"))  # -2: it is gone already

    assert milliseconds - 5000 < left <= milliseconds


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"{}", b'{"id": 7}', b"\xff"])
async def test_what_is_none_is_none(link: Link, raw: bytes) -> None:
    await link.call("SET", find_key("a.test"), raw)

    assert await StsCache(link).read("a.test") is None


async def test_store_that_is_away_is_told() -> None:
    link = Link("unix:///nonexistent/sock", timeout=1)
    with pytest.raises(StoreUnavailable):
        await StsCache(link).read("a.test")
    await link.aclose()
