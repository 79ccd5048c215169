"""A message that waits for long: its sender hears of it once, if that is switched on."""

import time
from pathlib import Path

from relay.model import Recipient
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


async def test_the_sender_is_told_once_and_the_message_is_tried_on(
    server: Server, tmp_path: Path
) -> None:
    script = "\n".join(f"RCPT{n} 451 4.3.0 our disk is full" for n in range(1, 6))
    async with open_host(script) as host, open_host() as home:
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        settings = {"routes": routes, "delay_notice": "1h"}
        async with open_works(server, tmp_path, **settings) as works:
            # One attempt before the mark and several after it.
            await works.post(accepted=time.time() - 3599)
            await works.wait_for(delivered=1, queued=0)
            await works.wait_for(book="notices", accepted=1, delivered=1, queued=0)
            works.check()
            assert len(works.read_events("deferred")) == 5
    (notice,) = home.messages
    assert b"Action: delayed" in notice.content
    assert b"Will-Retry-Until: " in notice.content
    assert b"Status: 4.3.0" in notice.content
    assert b"This is a warning only" in notice.content


async def test_who_does_not_want_to_know_is_left_in_peace(server: Server, tmp_path: Path) -> None:
    async with open_host("RCPT1 451 4.3.0 later\nRCPT2 451 4.3.0 later") as host:
        settings = {"routes": {"*": [host.make_host()]}, "delay_notice": "1h"}
        async with open_works(server, tmp_path, **settings) as works:
            old = time.time() - 7200
            await works.post(Recipient(b"bob@y.test", b"FAILURE"), accepted=old)
            await works.post(b"eve@y.test", sender=b"", accepted=old)
            await works.wait_for(delivered=2, queued=0)
            await works.wait_for(book="notices", accepted=0)
            works.check()


async def test_a_late_notice_is_not_reported_late(server: Server, tmp_path: Path) -> None:
    script = "RCPT1 550 5.1.1 no such user\nRCPT2 451 4.3.0 later"
    async with open_host(script) as host:
        settings = {"routes": {"*": [host.make_host()]}, "delay_notice": "1s"}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post(accepted=time.time() - 60)
            await works.wait_for(bounced=1, queued=0)
            await works.wait_for(book="notices", accepted=1, delivered=1, queued=0)
            works.check()
