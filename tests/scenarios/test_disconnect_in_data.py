"""The connection breaks in the content, or between its end and the answer."""

from pathlib import Path

import pytest

from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


@pytest.mark.parametrize("fault", ["eof", "reset"])
async def test_after_the_dot_it_may_arrive_twice_and_is_counted(
    server: Server, tmp_path: Path, fault: str
) -> None:
    async with open_host(f".1 {fault}") as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            await works.post()
            await works.wait_for(delivered=1, queued=0, unknown=1)
            works.check()
            assert len(works.read_events("deferred")) == 1
        assert len(host.messages) == 2


async def test_who_says_so_has_it_assumed_delivered(server: Server, tmp_path: Path) -> None:
    async with open_host(".1 eof") as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "unknown_outcome": "assume-delivered"}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post()
            await works.wait_for(delivered=1, queued=0, unknown=1)
            works.check()
        assert len(host.messages) == 1


async def test_who_says_so_has_it_held_for_an_operator(server: Server, tmp_path: Path) -> None:
    async with open_host(".1 eof") as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "unknown_outcome": "hold"}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post()
            (event,) = await works.wait_for_event("deferred")
            await works.wait_for(delivered=0, queued=1, unknown=1)
            works.check()
            assert event["hold"] is True
            assert event["wait"] > 4 * 86400
            assert len(host.messages) == 1
            await works.hurry("y.test")
            await works.wait_for(delivered=1, queued=0)
        assert len(host.messages) == 2


@pytest.mark.parametrize("policy", ["retry", "hold", "assume-delivered"])
async def test_in_the_middle_of_a_large_message_nothing_is_unknown(
    server: Server, tmp_path: Path, policy: str
) -> None:
    content = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 150_000
    async with open_host("CONTENT1 reset") as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "unknown_outcome": policy}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post_in_parts(content)
            await works.wait_for(delivered=1, queued=0, unknown=0, seconds=20)
            works.check()
        (message,) = host.messages
        assert message.content == content
