"""A client session and a stream: what is due goes out, what is there comes in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.net.connect import connect
from relay.net.stream import Stream
from relay.smtp.client import ClientSession, Closed, Ready
from tests.kit.peer import ScriptedHost, open_host
from workers.exchange import next_event


@asynccontextmanager
async def open_stream(host: ScriptedHost) -> AsyncIterator[Stream]:
    stream = await connect("127.0.0.1", host.port, source="127.0.0.1")
    try:
        yield stream
    finally:
        stream.close()


async def test_events_come_and_commands_go() -> None:
    async with open_host(split=True) as host, open_stream(host) as stream:
        session = ClientSession(b"client.test")
        assert isinstance(await next_event(session, stream), Ready)
        session.quit()
        assert isinstance(await next_event(session, stream), Closed)


async def test_the_end_of_the_stream_is_an_event() -> None:
    async with open_host("EHLO eof") as host, open_stream(host) as stream:
        assert isinstance(await next_event(ClientSession(b"client.test"), stream), Closed)
