"""Hearing events: whole, in order, for several who listen; gaps are told."""

import smtplib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from relay.config import load
from relay.events import encode_event
from relay.store.embedded import find_url
from relay.store.keys import EVENTS_CHANNEL
from relay.store.link import Link
from tests.kit.gateway import Gateway
from tests.kit.redis import Server, open_server
from tests.kit.sink import Sink, find_obstacle
from workers.admin import hearing as module
from workers.admin.hearing import Hearing

Channel = trio.MemoryReceiveChannel[list[dict[str, Any]]]


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may kill."""
    with open_server() as server:
        yield server


async def publish(link: Link, lines: bytes) -> None:
    await link.call("PUBLISH", EVENTS_CHANNEL, lines)


@asynccontextmanager
async def open_hearing(server: Server) -> AsyncIterator[Hearing]:
    hearing = Hearing(server.url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hearing.run)
        await wait_until(lambda: not hearing.trouble)
        yield hearing
        nursery.cancel_scope.cancel()


async def wait_until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


async def receive(channel: Channel) -> list[dict[str, Any]]:
    with trio.fail_after(30):
        return await channel.receive()


async def test_all_who_listen_hear_the_same(link: Link, server: Server) -> None:
    events = [{"event": "accepted", "sender": "ü\u2028\n"}, {"event": "delivered"}]
    async with (
        open_hearing(server) as hearing,
        hearing.open() as one,
        hearing.open() as two,
    ):
        await publish(link, b"\n".join(map(encode_event, events)))

        assert await receive(one) == events
        assert await receive(two) == events


async def test_nonsense_is_left_out(link: Link, server: Server) -> None:
    async with open_hearing(server) as hearing, hearing.open() as channel:
        await publish(link, b"\xff\xfe")
        await publish(link, b'[1]\n{"event":"accepted"}\n{"half":\n')

        assert await receive(channel) == [{"event": "accepted"}]


async def test_who_is_slow_loses_the_oldest_and_is_told_how_many(
    link: Link, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCHES", 3)
    async with (
        open_hearing(server) as hearing,
        hearing.open() as slow,
        hearing.open() as quick,
    ):
        for number in range(10):
            await publish(link, b'{"n":%d}\n{"m":%d}' % (number, number))
            await receive(quick)
        heard = [event for _ in range(3) for event in await receive(slow)]

    told = [event["n"] for event in heard if "n" in event]
    assert told == [7, 8, 9]
    missed = [event["count"] for event in heard if event.get("event") == "missed"]
    assert sum(missed) == 14
    assert heard[0]["event"] == "missed"


async def test_a_cut_is_told_with_when_it_began(own_server: Server) -> None:
    async with open_hearing(own_server) as hearing, hearing.open() as channel:
        with own_server.client() as client:
            client.publish(EVENTS_CHANNEL, b'{"n":1}')
        assert await receive(channel) == [{"n": 1}]
        own_server.kill()
        await wait_until(lambda: bool(hearing.trouble))
        await trio.to_thread.run_sync(own_server.start)

        ((gap,),) = [await receive(channel)]

        assert gap["event"] == "missed"
        assert gap["count"] is None
        assert gap["since"] <= gap["time"]
        assert hearing.trouble == ""


async def test_who_does_not_listen_any_more_is_forgotten(link: Link, server: Server) -> None:
    async with open_hearing(server) as hearing:
        async with hearing.open() as channel:
            pass
        assert not hearing._listeners
        with pytest.raises(trio.ClosedResourceError):
            await channel.receive()


# -- a whole gateway ------------------------------------------------------------------------------


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    with Sink() as sink, Gateway({"y.test": sink.port}) as running:
        yield running


@pytest.mark.slow
async def test_what_happens_to_a_message_is_heard_while_it_happens(gateway: Gateway) -> None:
    """From two processes, so in either order; who has just come is told from a second later on."""
    told: dict[str, list[str]] = {}
    hearing = Hearing(find_url(load(str(gateway.config))))
    async with trio.open_nursery() as nursery, hearing.open() as channel:
        nursery.start_soon(hearing.run)
        with trio.fail_after(60):
            while not any(sorted(one) == ["accepted", "delivered"] for one in told.values()):
                await trio.to_thread.run_sync(send, gateway)
                with trio.move_on_after(0.5):
                    while True:
                        for event in await channel.receive():
                            if "id" in event:
                                told.setdefault(event["id"], []).append(event["event"])
        nursery.cancel_scope.cancel()


def send(gateway: Gateway) -> None:
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=30) as session:
        session.sendmail("a@acme.example", ["b@y.test"], b"Subject: x\r\n\r\nhello\r\n")
