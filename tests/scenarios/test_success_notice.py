"""A sender asks to be told when its message has been delivered: NOTIFY=SUCCESS, RFC 3461."""

import time
from pathlib import Path

import msgspec
import pytest

from relay.events import encode_event
from relay.model import Recipient
from tests.kit.peer import OFFERS, SMALL, ScriptedHost, make_delivery, open_host
from tests.kit.redis import Server
from tests.kit.works import Works, open_works


async def post(works: Works, *people: Recipient, **parameters: bytes) -> None:
    """Accept a message with parameters of MAIL."""
    delivery = make_delivery(*people, accepted=time.time())
    envelope = msgspec.structs.replace(delivery.envelope, **parameters)
    delivery = msgspec.structs.replace(delivery, envelope=envelope)
    assert await works.store.accept([delivery], encode_event({"event": "accepted"}), SMALL)


def find_command(host: ScriptedHost, verb: str) -> str:
    (line,) = [line for line in host.commands if line.startswith(verb)]
    return line


async def test_a_host_that_knows_notices_is_asked_to_send_them(
    server: Server, tmp_path: Path
) -> None:
    async with open_host(offers=(*OFFERS, "DSN")) as host, open_host() as home:
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            person = Recipient(b"bob@y.test", b"SUCCESS,DELAY", b"rfc822;bob+2B1@list.test")
            await post(works, person, ret=b"HDRS", envid=b"QQ314")
            await works.wait_for(delivered=1, queued=0)
            works.check()
            assert (await works.store.read_ledger())["notices"]["accepted"] == 0
        assert home.sessions == 0
    rcpt = find_command(host, "RCPT")
    assert "NOTIFY=SUCCESS,DELAY" in rcpt
    assert "ORCPT=rfc822;bob+2B1@list.test" in rcpt
    assert find_command(host, "MAIL").endswith("RET=HDRS ENVID=QQ314")


async def test_for_a_host_that_does_not_we_say_that_it_was_handed_over(
    server: Server, tmp_path: Path
) -> None:
    async with open_host() as host, open_host() as home:
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            people = (
                Recipient(b"bob@y.test", b"SUCCESS", b"rfc822;bob+2B1@list.test"),
                Recipient(b"eve@y.test"),
                Recipient(b"mal@y.test", b"NEVER"),
            )
            await post(works, *people, envid=b"QQ314")
            await works.wait_for(delivered=3, queued=0)
            await works.wait_for(book="notices", accepted=1, delivered=1, queued=0)
            works.check()
        assert "NOTIFY" not in "".join(host.commands)
    (notice,) = home.messages
    assert (notice.sender, notice.recipients) == (b"", (b"alice@acme.example",))
    assert notice.content.count(b"Action: relayed") == 1
    assert b"Original-Envelope-Id: QQ314" in notice.content
    assert b"Original-Recipient: rfc822;bob+1@list.test" in notice.content
    assert b"Final-Recipient: rfc822; bob@y.test" in notice.content
    assert b"eve@y.test" not in notice.content
    assert b"mal@y.test" not in notice.content


@pytest.mark.parametrize("offers", [OFFERS, (*OFFERS, "DSN")], ids=["without DSN", "with DSN"])
async def test_a_refusal_is_told_by_us_whoever_refuses(
    server: Server, tmp_path: Path, offers: tuple[str, ...]
) -> None:
    script = "RCPT1 550 5.1.1 no such user"
    async with open_host(script, offers=offers) as host, open_host() as home:
        routes = {"y.test": [host.make_host()], "acme.example": [home.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post(Recipient(b"bob@y.test", b"FAILURE"), Recipient(b"eve@y.test"))
            await works.wait_for(delivered=1, bounced=1, queued=0)
            await works.wait_for(book="notices", accepted=1, delivered=1, queued=0)
            works.check()
    (notice,) = home.messages
    assert notice.content.count(b"Action: failed") == 1
    assert b"eve@y.test" not in notice.content
