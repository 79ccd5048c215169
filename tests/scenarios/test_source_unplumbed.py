"""A source goes away while it sends: its address leaves the machine, or its proxy dies."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

import workers.desk
from relay.config import Config
from tests.kit.egress import SocksServer, running
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, Works, make_config, open_works

ADDRESS = "10.255.77.11"


@pytest.fixture(autouse=True)
def quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.desk, "ANNOUNCE", 0.2)  # sources set aside are tried again


@pytest.fixture
def plumb() -> Iterator[Callable[[str], None]]:
    """Add or remove our address."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("addresses cannot be added here: not root, or no ip(8)")

    def run(verb: str) -> None:
        command = ["ip", "addr", verb, f"{ADDRESS}/32", "dev", "lo"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if verb == "add" and done.returncode:
            pytest.skip(f"addresses cannot be added here: {done.stderr.strip()}")

    run("add")
    yield run
    run("del")


async def check_it_moves(
    works: Works, host: ScriptedHost, go_away: Callable[[], None], come_back: Callable[[], None]
) -> None:
    """Its work goes to the other; when it is back it sends again."""
    await works.post_many(20)
    await works.wait_for(delivered=20, queued=0)
    clients = {message.client for message in host.messages}
    assert len(clients) == 2, clients
    await host.wait_until(lambda: host.open == 0)  # sessions without work have ended

    go_away()
    await works.post_many(30)
    await works.wait_for(delivered=50, queued=0)
    assert {message.client for message in host.messages[20:]} == {SOURCES["b"]}
    (event,) = works.read_events("suspended")
    assert event["source"] == "gone"

    come_back()
    await works.wait_for_event("resumed")
    await works.post_many(20)
    await works.wait_for(delivered=70, queued=0, bounced=0, unknown=0)
    assert {message.client for message in host.messages[50:]} == clients
    await works.finish()
    works.check()
    assert works.read_events("deferred") == []
    assert {event["attempt"] for event in works.read_events("delivered")} == {1}


async def test_its_address_is_taken_off_the_machine(
    server: Server, tmp_path: Path, plumb: Callable[[str], None]
) -> None:
    async with open_host() as host:
        settings = {
            "routes": {"y.test": [host.make_host()]},
            "addresses": {"gone": ADDRESS, "b": SOURCES["b"]},
            "idle": "100ms",
        }
        async with open_works(server, tmp_path, **settings) as works:
            await check_it_moves(works, host, lambda: plumb("del"), lambda: plumb("add"))


async def test_its_proxy_dies(server: Server, tmp_path: Path) -> None:
    proxy = SocksServer()

    def configure(host: ScriptedHost) -> Config:
        sources = [
            {
                "name": "gone",
                "address": proxy.leaves_from,
                "proxy": f"socks5://127.0.0.1:{proxy.port}",
            },
            {"name": "b", "address": SOURCES["b"]},
        ]
        return make_config(
            tmp_path,
            routes={"y.test": [host.make_host()]},
            weights={"gone": 1, "b": 1},
            tables={"source": sources},
            idle="100ms",
        )

    async with open_host() as host, trio.open_nursery() as nursery:
        await nursery.start(run_proxy, proxy)
        async with open_works(server, tmp_path, config=configure(host)) as works:
            ended = trio.Event()

            def go_away() -> None:
                scopes.pop().cancel()

            def come_back() -> None:
                nursery.start_soon(run_proxy, proxy)

            await check_it_moves(works, host, go_away, come_back)
            ended.set()
        nursery.cancel_scope.cancel()


scopes: list[trio.CancelScope] = []


async def run_proxy(
    proxy: SocksServer, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.CancelScope() as scope:
        scopes.append(scope)
        async with running(proxy):
            task_status.started()
            await trio.sleep_forever()


async def test_what_it_was_sending_when_its_proxy_died_is_tried_again(
    server: Server, tmp_path: Path
) -> None:
    proxy = SocksServer()
    async with open_host("RCPT1 silence") as host, trio.open_nursery() as nursery:
        await nursery.start(run_proxy, proxy)
        sources = [
            {
                "name": "gone",
                "address": proxy.leaves_from,
                "proxy": f"socks5://127.0.0.1:{proxy.port}",
            },
            {"name": "b", "address": SOURCES["b"]},
        ]
        config = make_config(
            tmp_path,
            routes={"y.test": [host.make_host()]},
            tables={"source": sources, "pool": {"default": {"gone": 1, "b": 0}}},
        )
        async with open_works(server, tmp_path, config=config) as works:
            await works.post()
            await host.wait_until(lambda: host.counts["RCPT"] == 1)
            scopes.pop().cancel()
            (event,) = await works.wait_for_event("deferred")
            assert 0.9 <= event["wait"] <= 1.1
            await nursery.start(run_proxy, proxy)
            await works.wait_for(delivered=1, queued=0, unknown=0)
            await works.finish()
            works.check()
        nursery.cancel_scope.cancel()
