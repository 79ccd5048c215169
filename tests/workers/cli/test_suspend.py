"""``outgate suspend`` and ``outgate resume``: running workers obey, and only those who are meant."""

import time
from pathlib import Path

import pytest
import trio

from tests.kit.command import make_desk, post
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, open_works

_PAIR = {"a": SOURCES["a"], "b": SOURCES["b"]}
_SITE = '[[site]]\nname = "big"\ndomains = ["y.test"]\n'


@pytest.mark.parametrize(
    "what",
    [
        ("--source", "a"),
        ("--site", "big"),
        ("--tenant", "acme"),
        ("--domain", "Y.test"),
        ("--source", "a", "--site", "big"),
        ("--tenant", "acme", "--site", "big"),
        ("--tenant", "acme", "--domain", "y.test"),
        ("--all",),
    ],
    ids=" ".join,
)
async def test_nothing_goes_until_it_is_resumed(
    server: Server, tmp_path: Path, what: tuple[str, ...]
) -> None:
    async with open_host() as host:
        desk = make_desk(tmp_path, server, routes={"y.test": host.make_host()}, tables=_SITE)
        async with open_works(server, tmp_path, config=desk.config) as works:
            await post(works.store, "bob@y.test")
            await works.wait_for(delivered=1)

            done = await desk.call("suspend", *what, "--why", "a test")
            assert done.status == 0, done
            await trio.sleep(0.2)
            for _ in range(5):
                await post(works.store, "bob@y.test")
            await trio.sleep(0.7)
            assert (await works.store.read_ledger())["ledger"]["delivered"] == 1
            (row,) = (await desk.ask("queues"))["queues"]
            assert (row["ready"], row["why"]) == (5, "suspended")
            assert "a test" in row["text"]

            resumed = await desk.call("resume", *what)
            assert resumed.status == 0, resumed
            await works.wait_for(delivered=6, seconds=3)
            works.check()
    assert [event["why"] for event in desk.read_events("suspended")] == ["a test"]
    assert desk.read_events("resumed")[0]["who"].startswith("ann@")


async def test_workers_obey_within_a_second(server: Server, tmp_path: Path) -> None:
    """Also what they have claimed already, and not begun, stays here."""
    async with open_host("CONNECT wait") as host:
        desk = make_desk(tmp_path, server, routes={"y.test": host.make_host()})
        async with open_works(server, tmp_path, config=desk.config) as works:
            for _ in range(20):
                await post(works.store, "bob@y.test")
            await host.wait_until(lambda: host.sessions >= 1)
            assert (await desk.call("suspend", "--source", "a")).status == 0
            await trio.sleep(1)
            host.gate.set()
            await trio.sleep(0.5)
            # One session had been begun, with its first message in hand.
            assert len(host.messages) <= 1
            works.check()


async def test_others_go_on(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        routes = {"y.test": host.make_host(), "z.test": host.make_host()}
        desk = make_desk(tmp_path, server, routes=routes, sources=_PAIR, tables=_SITE)
        async with open_works(server, tmp_path, config=desk.config) as works:
            done = await desk.ask("suspend", "--source", "a", "--site", "big")
            assert done["left"] == {"default": ["b"]}
            await trio.sleep(0.2)
            for _ in range(6):
                await post(works.store, "bob@y.test")
            for _ in range(12):
                await post(works.store, "bob@z.test")
            await works.wait_for(delivered=18)
        clients = {
            message.client for message in host.messages if b"y.test" in message.recipients[0]
        }
        assert clients == {_PAIR["b"]}
        clients = {
            message.client for message in host.messages if b"z.test" in message.recipients[0]
        }
        assert clients == set(_PAIR.values())


async def test_it_ends_by_itself(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        desk = make_desk(tmp_path, server, routes={"y.test": host.make_host()})
        async with open_works(server, tmp_path, config=desk.config) as works:
            done = await desk.ask("suspend", "--domain", "y.test", "--for", "2s")
            assert 0 < done["until"] - time.time() <= 2
            await post(works.store, "bob@y.test")
            await works.wait_for(delivered=1, seconds=6)
        assert time.time() >= done["until"]
        assert (await desk.ask("status"))["suspensions"] == []


async def test_what_waits_is_counted(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server)
    async with open_works(server, tmp_path, config=desk.config, running=False) as works:
        for _ in range(3):
            await post(works.store, "bob@y.test")
        await post(works.store, "bob@z.test")
        done = await desk.call("suspend", "--domain", "y.test")
        assert "3 deliveries in 1 queue wait" in done.out
        assert "undo: outgate resume --domain y.test" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say which"),
        (("--source", "zz"), "no such [[source]]; there is a"),
        (("--tenant", "zz"), "no such [[tenant]]; there is acme, globex"),
        (("--tenant", "acme", "--source", "a"), "cannot suspend source and tenant together"),
        (("--domain", "y.test", "--source", "a"), "cannot suspend domain and source together"),
        (("--domain", "[192.0.2.1]"), "not a domain name"),
        (("--source", "a", "--for", "soon"), "expected a duration"),
        (("--source", "a", "--for", "0s"), "more than nothing"),
    ],
)
async def test_what_cannot_be_suspended(
    server: Server, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    desk = make_desk(tmp_path, server)
    done = await desk.call("suspend", *words)
    assert done.status == 2
    assert said in done.err


async def test_the_last_source_of_a_pool(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server)
    done = await desk.call("suspend", "--source", "a")
    assert "pool default has no other source: nothing of it leaves" in done.err


async def test_resume_means_exactly_what_it_says(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server, sources=_PAIR)
    await desk.ask("suspend", "--source", "a", "--site", "big")
    await desk.ask("suspend", "--source", "b")

    done = await desk.call("resume", "--source", "a")
    assert done.status == 1
    assert "site=big source=a" in done.err

    done = await desk.call("resume", "--source", "a", "--all", "--json")
    assert done.said == {"resumed": ["site=big source=a"], "still_suspended": ["source=b"]}
    done = await desk.call("resume", "--source", "b")
    assert (done.status, done.out) == (0, "resumed: source=b\n")
    assert (await desk.call("resume", "--all")).status == 1
