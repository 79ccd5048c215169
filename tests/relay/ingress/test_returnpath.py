"""Senders whose domain takes no mail, with a real DNS; where it is silent, time is virtual."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from relay.config.schema import Dns
from relay.config.units import Seconds
from relay.errors import StartError
from relay.ingress import service as service_module
from relay.ingress.desk import Desk
from relay.ingress.returnpath import PATIENCE, REFRESH, ReturnPaths
from relay.ingress.service import _make_resolver
from relay.net.resolver import Resolver
from tests.kit.nameserver import REFUSED, SERVFAIL, SILENT, Nameserver, Zone, open_nameserver
from tests.kit.visit import make_config, read_events, visit

NULL = {"MX": ["0 ."]}
USUAL = {"MX": ["10 mx.acme.example."]}


def make_paths(server: Nameserver, *, timeout: float = 10) -> ReturnPaths:
    return ReturnPaths(Resolver(Dns(nameservers=(server.endpoint,), timeout=Seconds(timeout))))


@pytest.mark.parametrize(
    ("zone", "null"),
    [
        ({"a.test": NULL}, True),
        ({"a.test": USUAL}, False),
        ({"a.test": {"MX": ["0 .", "10 mx.a.test."]}}, False),  # RFC 7505 §3: not a null MX
        ({"a.test": {"A": ["192.0.2.1"]}}, False),
        ({"a.test": {"CNAME": ["b.test."]}, "b.test": NULL}, True),
        ({}, False),
        ({"a.test": SERVFAIL}, False),
        ({"a.test": REFUSED}, False),
    ],
)
async def test_only_a_null_mx_is_one(zone: Zone, null: bool) -> None:
    async with open_nameserver(zone) as server:
        assert await make_paths(server).is_null("a.test") is null


async def test_a_domain_is_asked_about_once() -> None:
    async with open_nameserver({"a.test": NULL}) as server:
        paths = make_paths(server)
        for _ in range(100):
            assert await paths.is_null("a.test")
        assert server.queries == [("a.test", "MX")]


async def test_many_at_once_are_one_question() -> None:
    async with open_nameserver({"a.test": NULL}) as server:
        server.gate = trio.Event()
        paths = make_paths(server)
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await paths.is_null("a.test"))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked(0.01)
            server.gate.set()

        assert answers == [True] * 50
        assert len(server.queries) == 1


async def test_silence_costs_the_first_message_two_seconds_and_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_nameserver({"a.test": SILENT}) as server:
        paths = make_paths(server)
        start = trio.current_time()

        assert not await paths.is_null("a.test")
        assert trio.current_time() - start == pytest.approx(PATIENCE)

        assert not await paths.is_null("a.test")
        assert trio.current_time() - start == pytest.approx(PATIENCE)


async def test_answers_are_kept_fresh_without_anybody_waiting(
    mock_clock: trio.testing.MockClock,
) -> None:
    zone: dict[str, dict[str, list[str]]] = {"a.test": NULL}
    async with open_nameserver(zone, ttl=1) as server, trio.open_nursery() as nursery:
        paths = make_paths(server)
        assert await paths.is_null("a.test")
        nursery.start_soon(paths.run)
        await trio.testing.wait_all_tasks_blocked()

        zone["a.test"] = USUAL
        await let_pass(mock_clock, server, 2)
        assert not await paths.is_null("a.test")

        # What was known holds while the DNS is away.
        zone["a.test"] = NULL
        await let_pass(mock_clock, server, 3)
        server.trouble = SERVFAIL
        await let_pass(mock_clock, server, 4)
        assert await paths.is_null("a.test")
        nursery.cancel_scope.cancel()


async def let_pass(clock: trio.testing.MockClock, server: Nameserver, queries: int) -> None:
    """Let the time for the next question pass, and the answer arrive."""
    clock.jump(REFRESH)
    due = time.monotonic() + 5
    while len(server.queries) < queries and time.monotonic() < due:
        await trio.testing.wait_all_tasks_blocked(0.005)
    await trio.testing.wait_all_tasks_blocked(0.02)


# -- in a session


@pytest.fixture
def give(desk: Desk) -> Callable[[Nameserver], Desk]:
    """The desk of sessions that look domains up there."""
    return lambda server: dataclasses.replace(desk, return_paths=make_paths(server))


async def test_sender_without_a_way_back_is_refused(give: Callable[[Nameserver], Desk]) -> None:
    async with open_nameserver({"acme.example": NULL, "acme.test": USUAL}) as server:
        desk = give(server)
        async with visit(desk) as client:
            await client.say(b"EHLO me.test")
            assert await client.say(b"MAIL FROM:<a@ACME.example>") == (
                b"550 5.7.27 Sender address has null MX\r\n"
            )
            assert (await client.say(b"RCPT TO:<b@y.test>"))[:3] == b"503"
            assert (await client.say(b"MAIL FROM:<a@acme.test>"))[:3] == b"250"

    (event,) = read_events(desk)
    assert (event["event"], event["sender"]) == ("refused", "a@ACME.example")
    assert event["reason"] == "acme.example has a null MX"


async def test_strangers_make_us_ask_nobody(give: Callable[[Nameserver], Desk]) -> None:
    async with open_nameserver({}) as server:
        desk = give(server)
        async with visit(desk) as client:
            await client.say(b"EHLO me.test")
            for sender in (b"a@stranger.example", b"a@other.example", b""):
                assert (await client.say(b"MAIL FROM:<" + sender + b">"))[:3] == b"550"

    assert server.queries == []


async def test_silent_dns_refuses_nobody(
    give: Callable[[Nameserver], Desk], autojump_clock: trio.testing.MockClock
) -> None:
    async with open_nameserver({"acme.example": SILENT}) as server:
        async with visit(give(server)) as client:
            await client.open_transaction()


def test_host_without_name_servers_accepts_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(config: Dns) -> Resolver:
        raise StartError("no name server in /etc/resolv.conf")

    monkeypatch.setattr(service_module, "Resolver", fail)

    assert _make_resolver(make_config(tmp_path)) is None
    assert "senders' domains are not looked up: no name server" in caplog.text
