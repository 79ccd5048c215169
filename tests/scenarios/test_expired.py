"""A message whose time is over, in each of the places where it can wait."""

import time
from pathlib import Path

from tests.kit.peer import find_refusing_host, open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


async def test_the_notice_says_what_the_last_attempt_met(server: Server, tmp_path: Path) -> None:
    async with open_host("RCPT 451 4.3.0 our disk is full") as host, open_host() as home:
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        settings = {"routes": routes, "expire": "1m", "retry": ["1h"]}
        async with open_works(server, tmp_path, **settings) as works:
            # One attempt is possible; the wait after it ends with the message's time.
            await works.post(accepted=time.time() - 58.5)
            (event,) = await works.wait_for_event("deferred")
            assert event["wait"] <= 1.5
            await works.wait_for(bounced=1, queued=0)
            await works.wait_for(delivered=1, book="notices")
            works.check()
        assert host.sessions == 1
    (notice,) = home.messages
    assert notice.sender == b""
    assert notice.recipients == (b"alice@acme.example",)
    assert b"Diagnostic-Code: smtp; 451 4.3.0" in notice.content
    assert b"our disk is full" in notice.content
    assert b"Status: 4.4.7" in notice.content


async def test_a_host_that_was_never_reached_is_the_reason(server: Server, tmp_path: Path) -> None:
    async with open_host() as home:
        routes = {"y.test": [find_refusing_host()], "acme.example": [home.make_host()]}
        # Not later than the next look at a site that rests: those are as far apart as attempts.
        async with open_works(server, tmp_path, routes=routes, expire="1m") as works:
            await works.post(accepted=time.time() - 58.5)
            await works.wait_for(bounced=1, queued=0)
            await works.wait_for(delivered=1, book="notices")
            works.check()
    (notice,) = home.messages
    assert b"Connection refused" in notice.content
    assert b"x-outgate" in notice.content  # nobody said this to us by SMTP


async def test_it_is_returned_even_when_no_source_can_send(server: Server, tmp_path: Path) -> None:
    async with open_host() as home:
        routes = {"acme.example": [home.make_host()]}
        async with open_works(server, tmp_path, routes=routes, expire="1m") as works:
            await works.post(accepted=time.time() - 61)
            await works.wait_for(bounced=1, queued=0)
            await works.wait_for(delivered=1, book="notices")
    assert b"it could not be tried in time" in home.messages[0].content
