"""When a deferred message is tried again: the site's schedule, and what the host's reply names."""

from pathlib import Path

import pytest

from tests.kit.peer import find_refusing_host, open_host
from tests.kit.redis import Server
from tests.kit.works import open_works

SITE = {"name": "slow", "domains": ["y.test"], "retry": ["2h", "6h"]}


async def test_a_site_s_own_schedule(server: Server, tmp_path: Path) -> None:
    script = "RCPT1 452 4.2.2 mailbox full\nRCPT2 452 4.2.2 mailbox full\nRCPT3 452 4.2.2 full"
    async with open_host(script) as host:
        settings = {"routes": {"*": [host.make_host()]}, "tables": {"site": [SITE]}}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post()
            for number in range(1, 4):
                events = await works.wait_for_event("deferred", number)
                await works.hurry("y.test")
            await works.wait_for(delivered=1, queued=0)
            await works.finish()
            works.check()
    waits = [event["wait"] / 3600 for event in events]
    assert waits == pytest.approx([2, 6, 6], rel=0.11)


async def test_it_holds_when_no_host_is_met(server: Server, tmp_path: Path) -> None:
    routes = {"*": [find_refusing_host()]}
    settings = {"routes": routes, "tables": {"site": [SITE]}}
    async with open_works(server, tmp_path, **settings) as works:
        await works.post()
        (event,) = await works.wait_for_event("deferred")
        assert event["wait"] == pytest.approx(7200, rel=0.11)
        await works.finish()
        works.check()


@pytest.mark.parametrize(
    ("reply", "least", "most"),
    [
        ("451 4.7.1 greylisted, try again in 2 seconds", 2, 2.3),
        ("450 4.7.0 please retry after 5 minutes", 300, 331),
        ("451 4.7.1 come back in 40 days", 4 * 3600, 4.5 * 3600),
        ("451 4.7.1 come back some time", 3000, 4000),
    ],
)
async def test_a_delay_that_the_host_names_is_honoured_within_bounds(
    server: Server, tmp_path: Path, reply: str, least: float, most: float
) -> None:
    async with open_host(f"RCPT1 {reply}") as host:
        settings = {"routes": {"*": [host.make_host()]}, "retry": ["1h"]}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post()
            (event,) = await works.wait_for_event("deferred")
            assert least <= event["wait"] <= most
            if most < 3:  # and it is tried then, without anybody's help
                await works.wait_for(delivered=1, queued=0, seconds=4)
            await works.finish()
            works.check()
