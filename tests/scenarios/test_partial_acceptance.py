"""A host that takes a message for some, refuses others and puts off the rest."""

from pathlib import Path

import pytest

from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


async def test_every_recipient_ends_once(server: Server, tmp_path: Path) -> None:
    script = """
        RCPT2   550 5.1.1 no such user
        RCPT3   452 4.2.2 mailbox full
        RCPT5   450 4.2.1 mailbox busy
        RCPT6   550 5.2.1 mailbox closed
    """
    async with open_host(script) as host, open_host() as home:
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post(*(b"r%d@y.test" % number for number in range(1, 6)))
            # The second attempt is for the third and the fifth; the third is refused for good.
            await works.wait_for(delivered=3, bounced=2, queued=0)
            await works.wait_for(delivered=2, book="notices")
            works.check()
        assert [m.recipients for m in host.messages] == [
            (b"r1@y.test", b"r4@y.test"),
            (b"r5@y.test",),
        ]
    first, second = (message.content for message in home.messages)
    assert b"rfc822; r2@y.test" in first
    assert b"rfc822; r3@y.test" not in first
    assert b"rfc822; r3@y.test" in second
    assert b"5.2.1 mailbox closed" in second
    assert b"rfc822; r2@y.test" not in second


async def test_more_recipients_than_a_host_takes_at_once_go_in_turns(
    server: Server, tmp_path: Path
) -> None:
    async with open_host(offers=("PIPELINING", "LIMITS RCPTMAX=2")) as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            await works.post(*(b"r%d@y.test" % number for number in range(5)))
            await works.wait_for(delivered=5, queued=0)
            works.check()
        assert [len(m.recipients) for m in host.messages] == [2, 2, 1]


@pytest.mark.parametrize("offers", [("PIPELINING",), ()])
async def test_when_all_are_refused_no_content_is_sent(
    server: Server, tmp_path: Path, offers: tuple[str, ...]
) -> None:
    async with open_host("RCPT 550 5.1.1 no such user", offers=offers) as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            await works.post(b"a@y.test", b"b@y.test")
            await works.wait_for(bounced=2)
        # RFC 2920 §3.1: the pipelined DATA got its 354, and a dot on a line of its own.
        assert [m.content for m in host.messages] == [b""] * len(offers)
