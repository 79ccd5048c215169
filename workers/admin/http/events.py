"""Events as they happen, for who keeps the connection open (server-sent events, WHATWG HTML §9.2)."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from workers.admin.hearing import Batch
from workers.admin.http.answers import EventsQuery, Wrong
from workers.admin.http.reads import read_query
from workers.admin.office import Office
from workers.views.selection import Selection
from workers.views.sieve import Sieve

_LISTENERS = 50
_PING = 15.0  # seconds; proxies in between close what says nothing
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_encode = msgspec.json.Encoder().encode


class EventStream:
    """The handler, and how many listen."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._listening = 0

    async def events(self, request: Request) -> Response:
        """Events that match all that is given, until the client goes. Raises Wrong."""
        query = read_query(request, EventsQuery)
        if self._listening >= _LISTENERS:
            raise Wrong(503, f"{_LISTENERS} listen already: close one, or try again later")
        return StreamingResponse(
            self._stream(make_sieve(query)), media_type="text/event-stream", headers=_HEADERS
        )

    async def _stream(self, sieve: Sieve) -> AsyncIterator[bytes]:
        # The answer has begun, and whoever came in with us may have taken the last place.
        self._listening += 1
        try:
            async with self._office.hearing.open() as heard:
                yield b": welcome\n\n"
                while not self._office.stop.is_set():
                    batch = await self._wait(heard)
                    if batch is None:
                        yield b": ping\n\n"
                    elif lines := b"".join(_spell(one) for one in batch if sieve.passes(one)):
                        yield lines
        finally:
            self._listening -= 1

    async def _wait(self, heard: trio.MemoryReceiveChannel[Batch]) -> Batch | None:
        """Return the next batch; None: nothing for a while, or the service stops."""
        batch: Batch | None = None
        with trio.move_on_after(_PING):
            async with trio.open_nursery() as nursery:

                async def end() -> None:
                    await self._office.stop.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(end)
                batch = await heard.receive()
                nursery.cancel_scope.cancel()
        return batch


def make_sieve(query: EventsQuery) -> Sieve:
    """Return what lets through the events that somebody asked for; of a delivery, its message's."""
    message_id = query.id.partition(".")[0].upper()
    return Sieve(
        Selection(query.tenant, query.domain, query.site, ids=(message_id,) if message_id else ()),
        (query.event,) if query.event else (),
    )


def _spell(event: dict[str, Any]) -> bytes:
    # JSON holds no line ends, and names of events are ours; what another version says is none of them.
    name = str(event.get("event", "")).replace("\n", " ").replace("\r", " ")
    return b"event: %b\ndata: %b\n\n" % (name.encode("utf-8", "replace"), _encode(event))
