"""Reports over HTTPS: to a real server, with a certificate that must hold."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from relay.config.schema import Dns
from relay.net.resolver import Resolver
from tests.kit.authority import Authority
from tests.kit.https import Answer, HttpsServer, open_https
from tests.kit.nameserver import SERVFAIL, Nameserver, Zone, open_nameserver
from tests.kit.ports import find_free_port
from workers.tls.fetch import make_context
from workers.tls.posting import Courier, NotPosted

ROOT = Authority()
ZONE: Zone = {
    "r.test": {"A": ["127.0.0.1"]},
    "two.test": {"A": ["127.0.0.9", "127.0.0.1"]},
    "wrong.test": {"A": ["127.0.0.1"]},
    "bare.test": {"TXT": ['"x"']},
    "broken.test": SERVFAIL,
}


class Desk:
    """A courier, and where it goes."""

    def __init__(self, courier: Courier, server: HttpsServer, names: Nameserver) -> None:
        self.courier = courier
        self.server = server
        self.names = names
        self.refused: set[str] = set()

    def answer(self, status: int, host: str = "r.test", **more: object) -> None:
        place = f"{host}:{self.server.port}"
        self.server.answers[place] = Answer(status=status, **more)  # type: ignore[arg-type]

    async def post(self, host: str = "r.test", path: str = "/v1?a=b") -> None:
        await self.courier.post(f"https://{host}:{self.server.port}{path}", b"report")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    context = make_context(str(ROOT.write(tmp_path)))
    issued = ROOT.issue("r.test", "two.test")
    async with open_nameserver(ZONE) as names, open_https(issued.make_context()) as server:
        resolver = Resolver(Dns(nameservers=(names.endpoint,)))
        refused: set[str] = set()
        courier = Courier(resolver, context=context, is_allowed=lambda a: a not in refused)
        desk = Desk(courier, server, names)
        desk.refused = refused
        yield desk


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_it_is_posted(desk: Desk, status: int) -> None:
    desk.answer(status)
    await desk.post()

    (request,) = desk.server.requests
    assert (request.method, request.path, request.body) == ("POST", "/v1?a=b", b"report")
    assert request.headers["content-type"] == "application/tlsrpt+gzip"
    assert request.host == f"r.test:{desk.server.port}"
    assert desk.server.names == ["r.test"]


@pytest.mark.parametrize("status", [301, 302, 400, 404, 413, 500, 503])
async def test_other_answers_are_refusals(desk: Desk, status: int) -> None:
    desk.answer(status, headers=(("Location", "https://r.test/other"),))
    with pytest.raises(NotPosted, match=f"r.test answered with {status}"):
        await desk.post()
    assert len(desk.server.requests) == 1


async def test_the_body_of_an_answer_is_nobodys_business(desk: Desk) -> None:
    desk.answer(200, body=b"x" * 5_000_000)
    with trio.fail_after(5):
        await desk.post()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("wrong.test", "certificate verify failed"),
        ("none.test", "no such name"),
        ("bare.test", "no address"),
        ("broken.test", "SERVFAIL"),
    ],
)
async def test_what_cannot_be_reached(desk: Desk, host: str, why: str) -> None:
    with pytest.raises(NotPosted, match=why):
        await desk.post(host)
    assert desk.server.requests == []


async def test_forbidden_addresses_are_not_connected_to(desk: Desk) -> None:
    desk.refused.add("127.0.0.1")
    with pytest.raises(NotPosted, match="none that may be connected to"):
        await desk.post()
    assert desk.server.connections == 0
    with pytest.raises(NotPosted, match="not a URI"):
        await desk.courier.post("https://127.0.0.1@r.test/", b"report")


async def test_a_literal_address_is_no_host(desk: Desk) -> None:
    """It would go past the resolver; nothing has that name in the DNS."""
    with pytest.raises(NotPosted, match="no such name"):
        await desk.post("127.0.0.1")
    assert desk.server.connections == 0


async def test_of_several_addresses_one_is_enough(desk: Desk) -> None:
    desk.answer(200, "two.test")
    await desk.post("two.test")

    assert len(desk.server.requests) == 1


async def test_silence_ends_and_others_do_not_wait_for_it_again(
    desk: Desk, mock_clock: MockClock
) -> None:
    desk.server.gate = trio.Event()
    desk.answer(200)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_silence, desk)
        while not desk.server.requests:
            await trio.lowlevel.checkpoint()
        mock_clock.jump(21)
    desk.server.gate.set()
    with pytest.raises(NotPosted, match="took longer than 20 s"):
        await desk.post()
    assert desk.server.connections == 1
    mock_clock.jump(241)
    await desk.post()


async def expect_silence(desk: Desk) -> None:
    with pytest.raises(NotPosted, match="took longer than 20 s"):
        await desk.post()


async def test_a_closed_port(desk: Desk) -> None:
    uri = f"https://two.test:{find_free_port()}/"
    with pytest.raises(NotPosted, match=r"two.test .127.0.0.[19].: .* failed"):
        await desk.courier.post(uri, b"report")
