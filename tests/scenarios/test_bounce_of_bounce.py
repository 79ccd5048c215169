"""A notice that cannot be delivered itself ends there: nobody is told about it."""

import time
from pathlib import Path

import pytest

from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
async def test_a_refused_notice_is_the_end(server: Server, tmp_path: Path, step: str) -> None:
    async with (
        open_host("RCPT 550 5.1.1 no such user") as host,
        open_host(f"{step} 550 5.7.1 no notices here") as home,
    ):
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post()
            await works.wait_for(bounced=1, queued=0)
            await works.wait_for(book="notices", accepted=1, bounced=1, queued=0)
            works.check()
        assert home.counts["MAIL"] == 1


async def test_a_notice_waits_for_its_host_like_any_message(server: Server, tmp_path: Path) -> None:
    async with (
        open_host("RCPT 550 5.1.1 no such user") as host,
        open_host("RCPT1 450 4.2.0 greylisted") as home,
    ):
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post()
            await works.wait_for(book="notices", accepted=1, delivered=1, queued=0)
            works.check()
        assert home.counts["RCPT"] == 2


async def test_an_expired_notice_is_the_end(server: Server, tmp_path: Path) -> None:
    async with open_works(server, tmp_path, expire="1m") as works:
        await works.post(sender=b"", accepted=time.time() - 61)
        await works.wait_for(bounced=1, queued=0)
        await works.wait_for(book="notices", accepted=0)
        works.check()


async def test_the_ledger_of_notices_is_apart(server: Server, tmp_path: Path) -> None:
    async with open_host("RCPT1 550 5.1.1 no such user") as host:
        async with open_works(server, tmp_path, routes={"*": [host.make_host()]}) as works:
            await works.post()
            await works.wait_for(accepted=1, delivered=0, bounced=1, queued=0)
            await works.wait_for(book="notices", accepted=1, delivered=1, bounced=0, queued=0)
