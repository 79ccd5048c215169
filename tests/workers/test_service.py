"""The worker process' start and end."""

import os
import signal
from pathlib import Path

import pytest
import trio

from relay.config.schema import Source
from relay.errors import StartError
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import make_config, open_works
from workers.service import check_sources, serve

GONE = Source(name="gone", address="192.0.2.77", ehlo="gone.out.test")
HERE = Source(name="here", address="127.0.0.11", ehlo="here.out.test")


async def test_one_usable_source_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    await check_sources([GONE, HERE])
    (record,) = caplog.records
    assert "source gone: cannot send from 192.0.2.77" in record.getMessage()


async def test_without_a_usable_source_there_is_no_start() -> None:
    other = Source(name="other", address="2001:db8::1", ehlo="other.out.test")
    with pytest.raises(StartError) as caught:
        await check_sources([GONE, other])
    text = str(caught.value)
    assert "\n" not in text
    assert "no source can be used (gone, other)" in text
    assert "cannot send from 192.0.2.77" in text
    assert "cannot send from 2001:db8::1" in text
    assert "source.address" in text


async def test_it_delivers_until_it_is_told_to_stop(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, running=False) as works:
            config = make_config(tmp_path, routes=routes, tables={"store": {"url": server.url}})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, config)
                await works.post()
                await host.wait_for(1)
                await works.wait_for(delivered=1)
                os.kill(os.getpid(), signal.SIGTERM)
            works.check()
        await host.wait_until(lambda: host.ends == ["quit"])


async def test_it_serves_only_the_sources_it_is_told(server: Server, tmp_path: Path) -> None:
    addresses = {"a": "127.0.0.11", "b": "127.0.0.12"}
    async with open_host() as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "addresses": addresses}
        async with open_works(server, tmp_path, running=False, **settings) as works:
            config = make_config(tmp_path, tables={"store": {"url": server.url}}, **settings)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, config, ("b",))
                for _ in range(4):
                    await works.post()
                await works.wait_for(delivered=4)
                os.kill(os.getpid(), signal.SIGTERM)
        assert {message.client for message in host.messages} == {"127.0.0.12"}


async def test_no_source_no_start(server: Server, tmp_path: Path) -> None:
    config = make_config(
        tmp_path, addresses={"gone": "192.0.2.77"}, tables={"store": {"url": server.url}}
    )
    with pytest.raises(StartError, match="no source can be used"):
        await serve(config)


async def test_no_trusted_authorities_no_start(server: Server, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate\n")
    tables = {"store": {"url": server.url}, "site": [{"name": "strict", "tls": "verify"}]}
    config = make_config(tmp_path, tables=tables, ca_file="empty.pem")
    with pytest.raises(StartError, match=r"delivery\.ca_file"):
        await serve(config)
