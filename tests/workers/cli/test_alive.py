"""``outgate alive`` as a container's health check runs it."""

import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from relay.counters import Counters
from relay.store.counters import Pusher
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.command import Desk, Done
from tests.kit.gateway import Gateway
from tests.kit.ports import find_free_port
from tests.kit.redis import Server


@asynccontextmanager
async def serve(greeting: bytes, heard: list[bytes]) -> AsyncIterator[int]:
    """Listen on loopback, say something at once, and note what is said first; yields the port."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            if greeting.startswith(b"HTTP"):
                heard.append(await stream.receive_some())
            await stream.send_all(greeting)
            heard.append(await stream.receive_some())

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return tmp_path / "outgate.toml"


async def ask(file: Path, *services: str) -> Done:
    return await Desk(str(file)).call("alive", *services)


async def test_an_ingress_that_greets(config_file: Path) -> None:
    heard: list[bytes] = []
    async with serve(b"220 gateway.example.net ESMTP\r\n", heard) as port:
        config_file.write_text(f'ingress.listen = ["0.0.0.0:{port}"]')
        done = await ask(config_file, "ingress")

    assert (done.status, done.err) == (0, "")
    assert heard == [b"QUIT\r\n"]


async def test_an_ingress_that_takes_us_for_a_balancer(config_file: Path) -> None:
    heard: list[bytes] = []
    async with serve(b"220 gateway.example.net ESMTP\r\n", heard) as port:
        config_file.write_text(
            f'ingress.listen = ["127.0.0.1:{port}"]\ningress.proxies = ["127.0.0.0/8"]'
        )
        assert (await ask(config_file, "ingress")).status == 0

    assert b"".join(heard).startswith(b"PROXY UNKNOWN\r\n")


async def test_an_ingress_that_is_none(config_file: Path) -> None:
    async with serve(b"HTTP/1.1 400 Bad Request\r\n\r\n", []) as port:
        config_file.write_text(f'ingress.listen = ["127.0.0.1:{port}"]\ningress.proxies = ["::1"]')
        with trio.fail_after(20):
            done = await ask(config_file, "ingress")

    assert done.status == 1
    assert "ingress: " in done.err


async def test_nobody_listens(config_file: Path) -> None:
    port = find_free_port()
    config_file.write_text(
        f'ingress.listen = ["127.0.0.1:{port}"]\nadmin.listen = ["127.0.0.1:{port}"]'
    )

    for service in ("ingress", "admin"):
        done = await ask(config_file, service)
        assert done.status == 1
        assert str(port) in done.err


@pytest.mark.parametrize(("code", "status"), [("200 OK", 0), ("500 Oh", 1)])
async def test_the_admin_service(config_file: Path, code: str, status: int) -> None:
    heard: list[bytes] = []
    answer = f"HTTP/1.1 {code}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    async with serve(answer.encode(), heard) as port:
        config_file.write_text(f'admin.listen = ["127.0.0.1:{port}"]')
        done = await ask(config_file, "admin")

    assert done.status == status, done.err
    assert heard[0].startswith(b"GET /healthz HTTP/1.1\r\n")


async def test_a_worker_is_there_when_it_has_told_how_it_is(
    config_file: Path, server: Server, store: Store
) -> None:
    config_file.write_text(f'store.url = "{server.url}"')

    alone = await ask(config_file, "worker")
    await Pusher(store.link, "ingress", dict, counters=Counters()).push()
    beside = await ask(config_file, "worker")
    await Pusher(store.link, "worker", dict, counters=Counters()).push()
    there = await ask(config_file, "worker")

    assert (alone.status, beside.status, there.status) == (1, 1, 0)
    assert f"none on {platform.node()} has given a sign of life" in alone.err


async def test_a_worker_on_another_host_is_not_ours(
    config_file: Path, server: Server, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file.write_text(f'store.url = "{server.url}"')
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "elsewhere")
        await Pusher(link, "worker", dict, counters=Counters()).push()

    assert (await ask(config_file, "worker")).status == 1


async def test_a_worker_is_not_blamed_for_the_store(config_file: Path) -> None:
    config_file.write_text(f'store.url = "redis://127.0.0.1:{find_free_port()}"')

    done = await ask(config_file, "worker")

    assert done.status == 0
    assert "nobody can say more without the store" in done.err


@pytest.mark.slow
async def test_a_whole_gateway(tmp_path: Path) -> None:
    with Gateway({}) as gateway:
        with trio.fail_after(30):
            while (await ask(gateway.config, "worker")).status:  # noqa: ASYNC110
                await trio.sleep(0.2)
        assert await ask(gateway.config) == Done(0, "", "")
        gateway.kill()
        with trio.fail_after(30):
            while not (done := await ask(gateway.config)).status:  # noqa: ASYNC110
                await trio.sleep(0.2)

    assert "ingress: " in done.err
