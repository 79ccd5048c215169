"""``outgate queues``: what waits, and why, as workers would see it."""

import json
import time
from pathlib import Path

import pytest
import trio

from relay.store.gate import Gates, SiteLimits, Want
from relay.store.keys import find_shard, make_key
from relay.store.queue import Store
from relay.store.standing import DAY, PutOff, Report, Standings, make_schedules
from relay.store.suspension import Suspensions
from tests.kit.clock import Clock, use_virtual_time
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


async def test_what_receivers_have_said(
    server: Server, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At noon: a day of warm-up ends at midnight (UTC), and what opens first is what is said."""
    use_virtual_time(monkeypatch)
    clock = Clock(store.link)
    await clock.set((time.time() // DAY + 0.5) * DAY * 1000)

    async def read_clock(_: Suspensions) -> float:
        return clock.now / 1000

    monkeypatch.setattr(Suspensions, "read_clock", read_clock)
    sources = {"a": "127.0.0.11", "b": '127.0.0.12"\nwarmup = "short'}
    tables = '[[site]]\nname = "big"\ndomains = ["y.test"]\n[warmup.short]\ndays = [10, 20]\n'
    desk = make_desk(tmp_path, server, sources=sources, tables=tables)
    gates = Gates(store.link, lease=60, schedules=make_schedules(desk.config))
    standings = Standings(store.link, desk.config)
    await gates.announce("source:a", "source:b", "pool:default")
    await post(store, "bob@y.test")
    await put_lane(store, "acme/y.test", "big")

    async def why() -> tuple[str, str, float]:
        (row,) = (await desk.ask("queues"))["queues"]
        return row["why"], row["text"], row["opens"]

    async def take(source: str, count: int) -> int:
        wants, limits = [Want(source, count, 1, 100)], SiteLimits("big", 0)
        reserved = await gates.reserve(limits, "default", 100, wants, {source: 1})
        return reserved.grants[0].count

    while await take("b", 10):
        pass
    assert (await why())[0] == "ready"  # a may
    await standings.report("big", [Report("a", throttled=1, rest=600, why="421 slow down")])
    word, text, opens = await why()
    assert (word, text) == (
        "throttled",
        "source a was throttled at big: silent for 10 min: 421 slow down",
    )
    assert 590 < opens <= 600
    await standings.report("big", [Report("a", blocked=1, rest=200_000, why="550 listed")])
    word, text, opens = await why()
    assert word == "warm-up"  # of b, which opens first
    assert text.startswith("warm-up of source b at big: today's 10 are used, next in ")
    assert opens <= 86400
    await standings.report("big", [Report("b", blocked=1, why="550 listed, too")])
    word, text, opens = await why()
    assert (word, opens > 1700) == ("quarantine", True)
    assert text.startswith(
        "all sources are quarantined at big: mail waits, nothing is sent anyway; "
        "first, source b is quarantined at big until 20"
    )
    assert text.endswith(": 550 listed, too")
    await standings.report("big", [], [PutOff("acme", rest=600, why="550 5.7.26 SPF")])
    word, text, opens = await why()
    assert word == "tenant put off"
    assert text.startswith("big has put tenant acme off until 20")
    assert text.endswith("(in 10 min): 550 5.7.26 SPF")
    assert 590 < opens <= 600


async def test_pace_and_probe(server: Server, desk: Desk, store: Store) -> None:
    gates = Gates(store.link, lease=60)
    await gates.announce("source:a", "pool:default")
    await post(store, "bob@y.test")
    await put_lane(store, "acme/y.test", "big")
    now = time.time() * 1000

    async def why(**record: object) -> tuple[str, str]:
        """Return what is told of a standing as the gate's scripts have written it."""
        key = make_key(find_shard("big"), "standing", "big")
        await store.link.call("HSET", key, "a", json.dumps(record))
        (row,) = (await desk.ask("queues"))["queues"]
        wants = [Want("a", 1, 1, 1)]
        reserved = await gates.reserve(SiteLimits("big", 0), "default", 1, wants, {"a": 1})
        assert row["why"] == (reserved.why or "ready")  # workers see the same
        return row["why"], row["text"]

    word, text = await why(p=0.01, tk=0, ka=now)
    assert word == "pace"
    assert text.startswith("pace 0.6/m of source a at big is used up; opens in 1.7 min")
    assert (await why(p=0.01, tk=0, ka=now - 110_000))[0] == "ready"

    word, text = await why(q={"u": now - 1, "n": 1, "ok": 2, "pl": now + 60_000})
    assert word == "probe"
    assert text.endswith(
        "first, source a is probed at big, a message at a time: 2 of 5 got through"
    )
    assert (await why(q={"u": now - 1, "n": 1, "ok": 2}))[0] == "ready"


async def test_all_sources_are_quarantined_beside_a_pool(server: Server, tmp_path: Path) -> None:
    """What workers do, and what people are told of it, is the same."""
    async with open_host() as host:
        desk = make_desk(
            tmp_path,
            server,
            routes={"y.test": host.make_host()},
            tables='[[site]]\nname = "big"\ndomains = ["y.test"]\n',
        )
        async with open_works(server, tmp_path, config=desk.config) as works:
            standings = Standings(works.store.link, desk.config)
            await standings.report("big", [Report("a", blocked=1, why="550 5.7.1 listed")])
            await post(works.store, "bob@y.test")
            await works.wait_for_event("all-quarantined", 1)

            (row,) = (await desk.ask("queues"))["queues"]

            assert (row["why"], row["ready"]) == ("quarantine", 1)
            assert "mail waits, nothing is sent anyway" in row["text"]
            assert host.counts["MAIL"] == 0
            (source,) = (await desk.ask("sources"))["sources"]
            assert source["standings"][0]["state"] == "quarantined"
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
