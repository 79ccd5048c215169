"""What was found of our sources, and who looks."""

import pytest

from relay.store.checking import Checked, Checking
from relay.store.keys import make_key
from relay.store.link import Link
from tests.kit.redis import Server


@pytest.fixture
def checking(link: Link) -> Checking:
    return Checking(link)


async def test_what_was_found_is_kept_and_forgotten(checking: Checking) -> None:
    assert await checking.read() == {}
    await checking.write({})
    good, bad = Checked("ok", "fine", 17.5), Checked("error", "listed")
    await checking.write({("a", "ptr"): good, ("a", "dnsbl"): bad})
    await checking.write({("b c", "ptr"): good, ("a", "ptr"): bad})
    assert await checking.read() == {
        ("a", "ptr"): bad,
        ("a", "dnsbl"): bad,
        ("b c", "ptr"): good,
    }

    await checking.forget([])
    await checking.forget([("a", "dnsbl"), ("gone", "ptr")])
    assert set(await checking.read()) == {("a", "ptr"), ("b c", "ptr")}


async def test_nonsense_is_left_out(checking: Checking, server: Server) -> None:
    await checking.write({("a", "ptr"): Checked("ok")})
    with server.client() as client:
        client.hset(make_key(0, "checked"), mapping={"a spf": "junk", "b ptr": "[1]"})

    assert set(await checking.read()) == {("a", "ptr")}


async def test_who_looks_says_so_every_minute(checking: Checking, server: Server) -> None:
    assert await checking.lease.take("one")
    with server.client() as client:
        assert 0 < client.pttl(make_key(0, "checking")) <= 60_000
