"""``outgate queues``: what waits, and why, as workers would see it."""

from pathlib import Path

import trio

from relay.store.gate import Gates
from relay.store.keys import find_shard, make_key
from relay.store.queue import Store
from tests.kit.command import Desk, make_desk, note_site, post
from tests.kit.messages import EVENT, Claims
from tests.kit.peer import find_refusing_host, open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


async def put_lane(store: Store, queue: str, site: str) -> None:
    """Have a queue in the lane of its site, as a worker that looked it up leaves it."""
    shard = find_shard(queue.partition("/")[2].partition("/")[0])
    lanes = await store.list_queues(shard)
    await store.assign(shard, queue, lanes[queue], site)


async def test_counts(server: Server, desk: Desk, store: Store) -> None:
    for number in range(5):
        await post(store, f"u{number}@y.test")
    claims = await Claims(store).take("y.test", most=3)
    await store.defer(claims[0], EVENT, wait=100)
    await store.defer(claims[1], EVENT, wait=50, source="a")
    await post(store, "bob@y.test", priority="urgent")
    await post(store, "bob@z.test", tenant="globex")

    state = await desk.ask("queues")

    first, second = state["queues"]
    assert (first["tenant"], first["domain"]) == ("acme", "y.test")
    assert (first["ready"], first["due"], first["claimed"]) == (3, 2, 1)
    assert 45 < first["next_due"] <= 50
    assert (first["priorities"], first["pinned"]) == (["normal", "urgent"], ["a"])
    assert 0 <= first["oldest"] < 30
    assert (second["tenant"], second["ready"]) == ("globex", 1)
    assert state["total"] == {"queues": 2, "ready": 4, "due": 2, "claimed": 1}
    assert (state["not_shown"], state["complete"]) == (0, True)


async def test_filters_and_limit(server: Server, desk: Desk, store: Store) -> None:
    for domain, count in (("x.test", 1), ("y.test", 3), ("z.test", 2)):
        for _ in range(count):
            await post(store, f"bob@{domain}")
    await post(store, "bob@x.test", tenant="globex")
    await note_site(store, "big", "acme/y.test")

    async def ask(*words: str) -> list[tuple[str, str]]:
        rows = (await desk.ask("queues", *words))["queues"]
        return [(row["tenant"], row["domain"]) for row in rows]

    assert await ask("--limit", "2") == [("acme", "y.test"), ("acme", "z.test")]
    assert (await desk.ask("queues", "--limit", "1"))["not_shown"] == 3
    assert await ask("--tenant", "globex") == [("globex", "x.test")]
    assert await ask("--domain", "X.test") == [("acme", "x.test"), ("globex", "x.test")]
    assert await ask("--site", "big") == [("acme", "y.test")]
    assert await ask("--site", "big", "--tenant", "globex") == []


async def test_why(server: Server, tmp_path: Path, store: Store) -> None:
    desk = make_desk(
        tmp_path,
        server,
        sources={"a": "127.0.0.11", "b": "127.0.0.12"},
        tables=(
            '[[site]]\nname = "big"\ndomains = ["y.test"]\nrate = "1/m"\n'
            '[[site]]\nname = "full"\ndomains = ["z.test"]\nconnections = 1\n'
        ),
    )
    gates = Gates(store.link, lease=60)

    async def why(*words: str) -> tuple[str, str]:
        (row,) = (await desk.ask("queues", *(words or ("--domain", "y.test"))))["queues"]
        return row["why"], row["text"]

    await post(store, "bob@y.test")
    assert (await why())[0] == "unserved"
    await gates.announce("source:a", "source:b", "pool:default", "worker:1")
    assert (await why())[0] == "look-up"
    await put_lane(store, "acme/y.test", "big")
    assert (await why())[0] == "ready"

    await gates.fail("big", "a", first=90, most=90)
    assert (await why())[0] == "ready"  # b may
    await gates.fail("big", "b", first=30, most=30)
    word, text = await why()
    assert word == "rest"
    assert "site big was not reached from source b; it is tried again in " in text
    gates.recover("big", "b")

    shard = find_shard("big")
    await store.link.call("HSET", make_key(shard, "meter", "site:big"), 60, "0 99999999999999")
    assert (await why())[0] == "site rate"

    await desk.ask("suspend", "--source", "b", "--why", "listed")
    word, text = await why()
    assert word == "rest"  # of a, which opens before b is resumed
    gates.recover("big", "a")
    await desk.ask("suspend", "--source", "a", "--for", "2h")
    word, text = await why()
    assert word == "suspended"
    assert text.startswith("source=a suspended by ann@")

    await post(store, "bob@z.test")
    await put_lane(store, "acme/z.test", "full")
    await desk.ask("resume", "--all")
    berths = make_key(find_shard("full"), "berths", "a", "full")
    await store.link.call("ZADD", berths, 99999999999999, "x")
    assert (await why("--domain", "z.test"))[0] == "connections"


async def test_a_host_that_cannot_be_reached(server: Server, tmp_path: Path) -> None:
    """With a real pool: an entry's host group rests in the worker, another site's at its gate."""
    dead = find_refusing_host()
    async with open_host() as host:
        desk = make_desk(
            tmp_path,
            server,
            routes={"y.test": dead, "z.test": dead, "w.test": host.make_host()},
            tables='[[site]]\nname = "big"\ndomains = ["y.test"]\n',
        )
        async with open_works(server, tmp_path, config=desk.config) as works:
            for domain in ("y.test", "z.test"):
                for number in range(5):
                    await post(works.store, f"u{number}@{domain}")
            await works.wait_for_event("resting", 2)
            await trio.sleep(0.5)
            rows = {row["domain"]: row for row in (await desk.ask("queues"))["queues"]}
            assert rows["z.test"]["why"] == "rest"
            assert rows["y.test"]["why"] in ("pause", "due")
            assert 0 < rows["y.test"]["opens"] <= 900
            assert (await desk.ask("sources"))["sources"][0]["rests"] == 1
            (site,) = (await desk.ask("sites", "--site", rows["z.test"]["site"]))["sites"]
            assert site["sources"]["a"]["failures"] == 1
            assert site["queued"] == 5
            works.check()


async def test_for_people(server: Server, desk: Desk, store: Store) -> None:
    assert (await desk.call("queues")).out == "nothing is queued\n"
    for number in range(3):
        await post(store, f"u{number}@y.test")
    done = await desk.call("queues")
    assert "no worker that is alive serves" in " ".join(done.out.split())
    assert "1 queue: 3 ready, 0 due, 0 claimed" in done.out
    assert max(map(len, done.out.splitlines())) <= 100


async def test_held_is_not_the_time_of_an_attempt(server: Server, desk: Desk, store: Store) -> None:
    message_id = await post(store, "bob@x.test")
    await desk.call("hold", "--id", message_id, "--why", "looks odd")
    # The last wait of a message ends with its time, and is none of an operator's.
    await post(store, "bob@y.test")
    (claim,) = await Claims(store).take("y.test", most=1)
    await store.defer(claim, EVENT, wait=desk.config.delivery.expire)

    rows = {row["domain"]: row for row in (await desk.ask("queues"))["queues"]}

    assert rows["x.test"]["why"] == "held"
    assert f"{message_id}: held by ann@" in rows["x.test"]["text"]
    assert ": looks odd; until `outgate retry`" in rows["x.test"]["text"]
    assert rows["y.test"]["why"] == "due"
    await desk.call("suspend", "--all")
    assert {row["why"] for row in (await desk.ask("queues"))["queues"]} == {"suspended"}
