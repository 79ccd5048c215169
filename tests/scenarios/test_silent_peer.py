"""Hosts that take a connection and then say nothing: they hold sessions, and nothing else."""

from pathlib import Path

import trio

from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


async def test_other_domains_at_other_hosts_do_not_notice(server: Server, tmp_path: Path) -> None:
    async with open_host("CONNECT silence") as silent, open_host() as host:
        routes = {f"s{n}.test": [silent.make_host()] for n in range(20)}
        routes["y.test"] = [host.make_host()]
        async with open_works(server, tmp_path, routes=routes) as works:
            for n in range(20):
                await works.post(b"bob@s%d.test" % n)
            await silent.wait_until(lambda: silent.sessions > 0)
            start = trio.current_time()
            await works.post()
            await host.wait_for(1)
            assert trio.current_time() - start < 2
            await works.wait_for(delivered=1, queued=20)
            works.check()


async def test_a_worker_that_stops_does_not_wait_for_them(server: Server, tmp_path: Path) -> None:
    async with open_host("MAIL silence") as silent:
        settings = {"routes": {"y.test": [silent.make_host()]}, "grace": "200ms"}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post()
            await silent.wait_until(lambda: len(silent.commands) > 1)
            start = trio.current_time()
            await works.finish()
            assert trio.current_time() - start < 3
            await works.wait_for(queued=1)
            works.check()
