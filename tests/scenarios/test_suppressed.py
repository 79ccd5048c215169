"""Recipients that nobody has: after so many refusals they are not tried, until somebody says so."""

from pathlib import Path

from relay.store.suppression import Suppression
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works

SCRIPT = "\n".join(f"RCPT{n} 550 5.1.1 no such user" for n in (1, 2))


async def test_the_host_is_not_bothered_again(server: Server, tmp_path: Path) -> None:
    async with open_host(SCRIPT) as host, open_host() as home:
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        async with open_works(server, tmp_path, routes=routes, suppress_after=2) as works:
            for bounced in (1, 2, 3):
                await works.post(b"bob@y.test")
                await works.wait_for(bounced=bounced, queued=0)
            await works.wait_for(book="notices", delivered=3, queued=0)
            assert host.counts["RCPT"] == 2
            assert "suppressed" not in works.read_events("bounced")[1]
            assert works.read_events("bounced")[2]["suppressed"] is True

            assert await Suppression(works.store.link, works.config).lift(b"bob@y.test")
            await works.post(b"bob@y.test")
            await works.wait_for(bounced=3, delivered=1, queued=0)
            works.check()
    # Notices are mail as any other: the third may overtake the second.
    said = [b" ".join(message.content.split()) for message in home.messages]
    assert sum(b"not tried: 2 times in a row" in text for text in said) == 1


async def test_others_in_the_same_message_get_it(server: Server, tmp_path: Path) -> None:
    async with open_host(SCRIPT) as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, suppress_after=2) as works:
            for bounced in (1, 2):
                await works.post(b"bob@y.test", sender=b"")
                await works.wait_for(bounced=bounced, queued=0)
            await works.post(b"ann@y.test", b"bob@y.test", b"eve@y.test", sender=b"")
            await works.wait_for(bounced=3, delivered=2, queued=0)
            works.check()
        # Of a message without recipients only the final dot was seen.
        (message,) = [message for message in host.messages if message.recipients]
        assert message.recipients == (b"ann@y.test", b"eve@y.test")


async def test_it_is_off_by_default(server: Server, tmp_path: Path) -> None:
    async with open_host("RCPT 550 5.1.1 no such user") as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            for bounced in range(1, 6):
                await works.post(b"bob@y.test", sender=b"")
                await works.wait_for(bounced=bounced, queued=0)
            works.check()
        assert host.counts["RCPT"] == 5
