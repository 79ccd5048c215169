"""Events as they happen, to who keeps a connection open."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import h11
import pytest
import trio

from relay.events import encode_event
from relay.store.keys import EVENTS_CHANNEL
from relay.store.queue import Store
from tests.kit.office import Visit
from workers.admin.http import events as module
from workers.admin.http.answers import EventsQuery
from workers.admin.http.events import make_sieve

ACCEPTED = {"event": "accepted", "id": "M1", "tenant": "acme", "sender": "ü\u2028\n"}
DELIVERED = {"event": "delivered", "id": "M1", "tenant": "acme", "domain": "y.test", "site": "big"}


class Listener:
    """What a browser makes of the stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)
        self.headers: dict[str, str] = {}
        self.status = 0
        self.text = ""

    async def ask(self, query: dict[str, str]) -> None:
        target = f"/api/v1/events?{urlencode(query)}"
        request = h11.Request(method="GET", target=target, headers=[("Host", "localhost")])
        await self.stream.send_all(self.http.send(request) + self.http.send(h11.EndOfMessage()))
        answer = await self.read()
        assert isinstance(answer, h11.Response)
        self.status = answer.status_code
        self.headers = {name.decode(): value.decode() for name, value in answer.headers}

    async def read(self) -> h11.Event:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.stream.receive_some())
        return event

    async def read_block(self) -> str:
        """Return what stands between two empty lines."""
        with trio.fail_after(30):
            while "\n\n" not in self.text:
                event = await self.read()
                if not isinstance(event, h11.Data):
                    raise EOFError  # noqa: TRY004
                self.text += event.data.decode()
        block, _, self.text = self.text.partition("\n\n")
        return block

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next event's name and data."""
        while (block := await self.read_block()).startswith(": "):
            pass
        name, data = block.split("\n")
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@asynccontextmanager
async def connect(visit: Visit, **query: str) -> AsyncIterator[Listener]:
    async with await trio.open_tcp_stream("127.0.0.1", visit.port) as stream:
        listener = Listener(stream)
        await listener.ask(query)
        yield listener


@asynccontextmanager
async def listen(visit: Visit, **query: str) -> AsyncIterator[Listener]:
    with trio.fail_after(30):
        while visit.office.hearing.trouble:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    async with connect(visit, **query) as listener:
        assert listener.status == 200
        assert await listener.read_block() == ": welcome"
        yield listener


async def publish(store: Store, *events: dict[str, Any]) -> None:
    await store.link.call("PUBLISH", EVENTS_CHANNEL, b"\n".join(map(encode_event, events)))


async def test_events_arrive_as_they_are(visit: Visit, store: Store) -> None:
    async with listen(visit) as listener:
        assert listener.headers["content-type"].startswith("text/event-stream")
        assert listener.headers["cache-control"] == "no-store"
        await publish(store, ACCEPTED, DELIVERED)
        assert await listener.next() == ("accepted", ACCEPTED)
        assert await listener.next() == ("delivered", DELIVERED)


async def test_only_those_that_were_asked_for(visit: Visit, store: Store) -> None:
    async with listen(visit, event="delivered", site="big") as listener:
        await publish(store, ACCEPTED, {**DELIVERED, "site": "small"}, DELIVERED)
        assert await listener.next() == ("delivered", DELIVERED)


@pytest.mark.parametrize(
    ("query", "matching"),
    [
        ({}, True),
        ({"tenant": "acme", "event": "delivered", "domain": "y.test", "id": "m1.0"}, True),
        ({"tenant": "globex"}, False),
        ({"event": "accepted"}, False),
        ({"site": "small"}, False),
        ({"domain": "z.test"}, False),
        ({"id": "M2"}, False),
    ],
)
def test_what_matches(query: dict[str, str], matching: bool) -> None:
    sieve = make_sieve(EventsQuery(**query))
    assert sieve.passes(DELIVERED) is matching
    assert sieve.passes({"event": "missed", "count": 3})


async def test_no_name_of_an_event_ends_its_line(visit: Visit, store: Store) -> None:
    async with listen(visit) as listener:
        await publish(store, {"event": "a\n\ndata: {}\n\nevent: b"})
        name, data = await listener.next()
        assert (name, data["event"]) == ("a  data: {}  event: b", "a\n\ndata: {}\n\nevent: b")


async def test_silence_is_broken_by_pings(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PING", 0.05)
    async with listen(visit) as listener:
        assert await listener.read_block() == ": ping"


async def test_so_many_may_listen_and_who_goes_makes_room(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LISTENERS", 2)
    async with listen(visit):
        async with listen(visit):
            answer = await visit.client.get("/api/v1/events")
            assert (answer.status_code, "2 listen already" in answer.json()["error"]) == (503, True)
        with trio.fail_after(30):
            while True:
                async with connect(visit) as listener:
                    if listener.status == 200:
                        break
                await trio.sleep(0.02)


async def test_the_end_of_the_service_ends_the_stream(visit: Visit) -> None:
    async with listen(visit) as listener:
        visit.stop.set()
        with trio.fail_after(4), pytest.raises(EOFError):  # sooner than the grace time
            await listener.next()


async def test_an_operators_act_is_seen_by_who_listens(visit: Visit) -> None:
    async with listen(visit, event="suspended") as listener:
        await visit.order("suspend", site="big", why="x")
        name, data = await listener.next()
        assert (name, data["site"], data["why"]) == ("suspended", "big", "x")
