"""An HTTPS server on loopback, for tests: answers by host, and trouble on demand.

    async with open_https(issued.make_context()) as server:
        server.answers["mta-sts.example.test"] = Answer(b"version: STSv1\\n...")
        ...
        assert [request.host for request in server.requests] == ["mta-sts.example.test"]

``issued``: see authority.py. What is not in ``answers`` is 404. ``server.gate`` (a trio.Event)
holds every answer back until it is set. ``connections`` counts what was accepted, ``names`` holds
the server names (SNI) of those that got so far; a handshake that the client breaks off leaves no
request. It shares nothing with httpx2 but h11, which is the protocol for both.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11
import trio


@dataclass(frozen=True)
class Answer:
    """What the server says. ``pause``: seconds before each piece of the body."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()
    pause: float = 0
    piece: int = 1 << 20  # octets
    is_chunked: bool = False  # the body comes without a length in front of it


@dataclass(frozen=True)
class Request:
    """What a client asked for; names of header fields in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def host(self) -> str:
        return self.headers.get("host", "")


_NOT_FOUND = Answer(b"no such page", status=404)


@dataclass
class HttpsServer:
    """One server; one request for each connection."""

    context: ssl.SSLContext
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    connections: int = 0
    gate: trio.Event | None = None
    port: int = 0

    def __post_init__(self) -> None:
        self.context.sni_callback = lambda _tls, name, _context: self.names.append(name)

    async def run(
        self, task_status: trio.TaskStatus["HttpsServer"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; reports itself when the port is bound."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started(self)
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        tls = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        try:
            async with tls:
                await self._talk(tls)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass  # the client has gone

    async def _talk(self, tls: trio.SSLStream[trio.SocketStream]) -> None:
        http = h11.Connection(h11.SERVER)
        if (request := await _read(http, tls)) is None:
            return
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        await _say(http, tls, self.answers.get(request.host, _NOT_FOUND))


async def _say(
    http: h11.Connection, tls: trio.SSLStream[trio.SocketStream], answer: Answer
) -> None:
    length = ("Content-Length", str(len(answer.body)))
    fields = [
        ("Content-Type", answer.content_type),
        ("Transfer-Encoding", "chunked") if answer.is_chunked else length,
        ("Connection", "close"),
        *answer.headers,
    ]
    head = h11.Response(status_code=answer.status, headers=[f for f in fields if f[1]])
    await tls.send_all(http.send(head) or b"")
    for start in range(0, len(answer.body), answer.piece):
        await trio.sleep(answer.pause)
        piece = answer.body[start : start + answer.piece]
        await tls.send_all(http.send(h11.Data(data=piece)) or b"")
    await tls.send_all(http.send(h11.EndOfMessage()) or b"")


async def _read(http: h11.Connection, tls: trio.SSLStream[trio.SocketStream]) -> Request | None:
    """Return the request, or None when the client went away before it was whole."""
    head: h11.Request | None = None
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await tls.receive_some())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            fields = {name.decode(): value.decode() for name, value in head.headers}
            return Request(head.method.decode(), head.target.decode(), fields, body)
        else:
            return None


@asynccontextmanager
async def open_https(context: ssl.SSLContext) -> AsyncIterator[HttpsServer]:
    """Run a server for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        server = HttpsServer(context)
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()
