"""``outgate retry``: now means now."""

from pathlib import Path

import trio

from relay.store.gate import Gates
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.command import Desk, make_desk, note_site, post
from tests.kit.messages import EVENT, Claims
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.ports import find_free_port
from tests.kit.redis import Server
from tests.kit.works import open_works


def find_rests(site: str) -> str:
    return make_key(find_shard(site), "rests", site)


async def put_off(store: Store, domain: str = "y.test", *, source: str = "") -> None:
    """Defer everything that is ready at a domain for an hour."""
    for claim in await Claims(store).take(domain):
        assert await store.defer(claim, EVENT, wait=3600, source=source)


async def test_it_is_tried_at_once(server: Server, tmp_path: Path) -> None:
    async with open_host("RCPT1 451 4.3.0 later") as host:
        desk = make_desk(tmp_path, server, routes={"y.test": host.make_host()})
        async with open_works(server, tmp_path, config=desk.config) as works:
            await post(works.store, "bob@y.test")
            await works.wait_for_event("deferred")
            done = await desk.call("retry", "--domain", "y.test", "--why", "they are back")
            assert (done.status, done.out.splitlines()[0]) == (
                0,
                "ready for an attempt: 1 delivery",
            )
            await works.wait_for(delivered=1, seconds=3)
            works.check()
    (event,) = desk.read_events("retried")
    assert (event["why"], event["domain"], event["deliveries"]) == ("they are back", "y.test", 1)


async def test_a_site_does_not_rest_any_more(server: Server, desk: Desk, store: Store) -> None:
    gates = Gates(store.link, lease=60)
    await gates.fail("big", "a", first=1000, most=1000)
    await gates.fail("other", "a", first=1000, most=1000)
    await post(store, "bob@y.test")

    done = await desk.ask("retry", "--site", "big", "--dry-run")
    assert done["rests"] == [{"site": "big", "source": "a"}]
    assert await store.link.call("EXISTS", find_rests("big")) == 1

    await desk.ask("retry", "--site", "big")
    assert await store.link.call("EXISTS", find_rests("big")) == 0
    assert await store.link.call("EXISTS", find_rests("other")) == 1


async def test_what_is_pinned_to_a_source(server: Server, desk: Desk, store: Store) -> None:
    await post(store, "bob@y.test")
    await put_off(store, source="a")
    await post(store, "ann@y.test")
    await put_off(store)

    assert (await desk.ask("retry", "--source", "a"))["deliveries"] == 1
    (row,) = (await desk.ask("queues"))["queues"]
    assert (row["ready"], row["due"], row["pinned"]) == (1, 1, ["a"])
    check(server)


async def test_by_id(server: Server, desk: Desk, store: Store) -> None:
    first = await post(store, "bob@y.test", "ann@z.test")
    second = await post(store, "bob@y.test")
    await put_off(store, "y.test")
    await put_off(store, "z.test")

    assert (await desk.ask("retry", "--id", f"{first}.1", "--why", "asked"))["deliveries"] == 1
    (row,) = (await desk.ask("queues", "--domain", "z.test"))["queues"]
    assert (row["ready"], row["due"]) == (1, 0)
    story = await desk.ask("explain", first)
    assert [(e["who"][:4], e["why"]) for e in story["events"] if e["event"] == "retried"] == [
        ("ann@", "asked")
    ]

    assert (await desk.ask("retry", "--id", first.lower(), "--id", second))["deliveries"] == 2
    check(server)


async def test_nothing_matches(server: Server, desk: Desk, store: Store) -> None:
    await post(store, "bob@y.test")
    done = await desk.call("retry", "--domain", "z.test")
    assert done.status == 1
    assert "nothing that is queued matches: domain z.test" in done.err
    assert not Path(desk.config.log.events).read_bytes()


async def test_what_a_worker_holds_is_told(server: Server, desk: Desk, store: Store) -> None:
    message = await post(store, "bob@y.test")
    await note_site(store, "big", "acme/y.test")
    await Claims(store).take_one("y.test")
    for words in (("--id", message), ("--domain", "y.test"), ("--site", "big")):
        done = await desk.call("retry", *words)
        assert done.status == 1
        assert "1 delivery in a worker's hands, not touched" in done.err


async def test_many(server: Server, desk: Desk, store: Store, link: Link) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(350):
            nursery.start_soon(post, store, f"bob{number}@y.test")
    for _ in range(4):
        await put_off(store)
    assert (await desk.ask("retry", "--all"))["deliveries"] == 350
    check(server)


async def test_what_is_suspended_is_told(server: Server, desk: Desk, store: Store) -> None:
    await post(store, "bob@y.test")
    await put_off(store)
    await desk.ask("suspend", "--domain", "y.test")
    done = await desk.call("retry", "--tenant", "acme")
    assert done.status == 0
    assert "some of it waits all the same: domain=y.test is suspended" in done.err


async def test_a_host_group_that_rests_in_its_worker(server: Server, tmp_path: Path) -> None:
    """Of a site with an entry each host group rests by itself: no gate knows."""
    host = ScriptedHost()
    host.port = find_free_port()
    desk = make_desk(
        tmp_path,
        server,
        routes={"y.test": host.make_host()},
        tables='[[site]]\nname = "big"\ndomains = ["y.test"]\n',
    )
    async with open_works(server, tmp_path, config=desk.config) as works:
        for _ in range(5):
            await post(works.store, "bob@y.test")
        await works.wait_for_event("resting")
        await trio.sleep(0.2)
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            done = await desk.call("retry", "--site", "big")
            assert done.status == 0
            await works.wait_for(delivered=5, seconds=3)
            nursery.cancel_scope.cancel()
        works.check()
