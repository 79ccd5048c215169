"""What processes hand in: added once, bounded, and gone when its process is gone."""

import pytest
import trio

from relay.counters import Counters
from relay.errors import StoreUnavailable
from relay.store.counters import Books, Pusher
from relay.store.keys import make_key
from relay.store.link import Link
from tests.kit.proxy import open_proxy
from tests.kit.redis import Server, open_server

DELIVERED = ("google", "a", "delivered")


def make_pusher(link: Link, counters: Counters, service: str = "worker") -> Pusher:
    return Pusher(link, service, lambda: {"a": 3, "b": 0}, counters=counters)


async def test_processes_add_to_the_same_sums(link: Link) -> None:
    one, two = Counters(), Counters()
    pushers = [make_pusher(link, one), make_pusher(link, two, "ingress")]
    for _ in range(2):
        for counters in (one, two):
            counters.add("attempts", DELIVERED)
            counters.observe("attempt_seconds", 0.2)
        for pusher in pushers:
            await pusher.push()

    counted = await Books(link).read()

    assert counted["attempts"] == {DELIVERED: 4}
    assert counted["attempt_seconds"] == {("0.25",): 4, ("sum",): 800_000}


async def test_how_a_process_is_stands_beside_it(link: Link) -> None:
    await make_pusher(link, Counters()).push()

    ((who, gauges),) = (await Books(link).read_gauges()).items()

    assert who[0] == "worker"
    assert (gauges["sessions"], gauges["source:a"], gauges["source:b"]) == (3, 3, 0)
    assert gauges["memory"] > 1 << 20
    assert gauges["cpu"] > 0
    assert 0 <= gauges["lag"] < 60


async def test_who_has_not_told_for_a_while_is_gone(link: Link, server: Server) -> None:
    books = Books(link)
    await books.push({}, "worker:host:1", {"sessions": 1})
    await books.push({}, "worker:other:host:2", {"sessions": 1})
    with server.client() as client:
        at = float(client.hget(make_key(0, "gauges"), "worker:host:1|at") or 0)
        client.hset(make_key(0, "gauges"), "worker:host:1|at", str(int(at) - 31_000))

    assert list(await books.read_gauges()) == [("worker", "other:host", "2")]

    await books.push({}, "worker:other:host:2", {"sessions": 1}, look=True)

    with server.client() as client:
        fields = {field.decode() for field in client.hkeys(make_key(0, "gauges"))}
    assert fields == {"worker:other:host:2|at", "worker:other:host:2|sessions"}


async def test_fields_are_bounded(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.store.counters.MAX_FIELDS", 5)
    books = Books(link)
    for number in range(10):
        await books.push({("attempts", (f"s{number}", "a", "delivered")): 2}, "w:h:1", {})
    await books.push({("attempts", ("s0", "a", "delivered")): 1}, "w:h:1", {})

    counted = (await books.read())["attempts"]

    assert counted["s0", "a", "delivered"] == 3
    assert counted["other", "other", "delivered"] == 10
    assert len(counted) == 6


async def test_many_counts_go_in_pieces(link: Link) -> None:
    counters = Counters()
    for number in range(1200):
        counters.add("replies", ("google", f"label{number}"))

    await make_pusher(link, counters).push()

    assert len((await Books(link).read())["replies"]) == 1200


async def test_what_certainly_did_not_run_is_kept() -> None:
    counters = Counters()
    counters.add("attempts", DELIVERED)
    with open_server() as other:
        link = Link(other.url, timeout=5)
        pusher = make_pusher(link, counters)
        other.kill()
        with pytest.raises(StoreUnavailable):
            await pusher.push()
        other.start()
        await pusher.push()
        assert (await Books(link).read())["attempts"] == {DELIVERED: 1}
        await link.aclose()


async def test_what_may_have_run_is_not_counted_twice(server: Server) -> None:
    counters = Counters()
    counters.add("attempts", DELIVERED)
    with open_proxy(server.socket) as proxy:
        link = Link(proxy.url, timeout=5)
        await link.call("PING")
        proxy.cut_reply(b"worker:")
        with pytest.raises(StoreUnavailable) as caught:
            await make_pusher(link, counters).push()
        await link.aclose()

    assert caught.value.executed
    assert counters.take() == {}


async def test_a_full_store_still_counts() -> None:
    with open_server() as server:
        link = Link(server.url, timeout=5)
        with server.client() as client:
            client.config_set("maxmemory", "1")
        counters = Counters()
        counters.add("attempts", DELIVERED)
        await make_pusher(link, counters).push()

        assert (await Books(link).read())["attempts"] == {DELIVERED: 1}
        await link.aclose()


async def test_the_last_is_handed_in_at_the_end(link: Link) -> None:
    counters = Counters()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_pusher(link, counters).run)
        with trio.fail_after(30):
            while not await Books(link).read_gauges():  # noqa: ASYNC110 - until the first push has run
                await trio.sleep(0.01)
        counters.add("attempts", DELIVERED)
        nursery.cancel_scope.cancel()

    assert (await Books(link).read())["attempts"] == {DELIVERED: 1}
