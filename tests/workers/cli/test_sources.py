"""``outgate sources`` and ``outgate sites`` beside a pool at work."""

from pathlib import Path

import trio
import trio.lowlevel

from tests.kit.command import make_desk, post
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works

_SITE = (
    '[[site]]\nname = "big"\ndomains = ["y.test"]\nconnections = 3\nrate = "50/m"\n'
    '[site.source]\nrate = "20/m"\n'
)


async def test_beside_a_pool_at_work(server: Server, tmp_path: Path) -> None:
    sources = {"a": "127.0.0.11", "b": "127.0.0.12", "gone": "192.0.2.77"}
    async with open_host(". wait") as host:
        desk = make_desk(
            tmp_path, server, routes={"y.test": host.make_host()}, sources=sources, tables=_SITE
        )
        async with open_works(server, tmp_path, config=desk.config) as works:
            for _ in range(4):
                await post(works.store, "bob@y.test")
            await host.wait_until(lambda: host.counts["CONTENT"] >= 2 or host.counts["DATA"] >= 2)
            await desk.ask("suspend", "--source", "b", "--site", "big")

            state = await desk.ask("sources")
            a, b, gone = state["sources"]
            assert state["workers"] == 1
            assert (a["alive"], b["alive"], gone["alive"]) == (True, True, False)
            assert 0 <= a["heard"] < 10
            assert (a["egress"], a["pools"]) == ("direct", {"default": 1})
            assert a["connections"] + b["connections"] >= 2
            assert b["suspended_at"] == ["site=big"]

            (site,) = (await desk.ask("sites"))["sites"]
            assert (site["name"], site["entry"], site["queued"]) == ("big", True, 4)
            assert site["connections"] == a["connections"] + b["connections"]
            assert site["connection_limit"] == 3
            assert site["sources"]["b"]["suspended"].startswith("site=big source=b suspended")
            assert site["rate_left"] is not None
            assert site["sources"]["a"]["rate_left"] is not None
            host.gate.set()
            await trio.lowlevel.checkpoint()
    words = " ".join((await desk.call("sources")).out.split())
    assert "no worker that is alive has it" in words


async def test_nobody_is_alive(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server)
    done = await desk.call("sources")
    assert done.status == 1
    assert "0 worker processes alive" in done.out


async def test_a_site_that_nobody_knows(server: Server, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, server, tables=_SITE)
    (row,) = (await desk.ask("sites", "--site", "mx.nobody.test"))["sites"]
    assert (row["entry"], row["queued"]) == (False, 0)
    done = await desk.call("sites")
    assert "50/m" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
