"""One connection of an HTTP client: requests one after another, each handed to the application (ASGI).

h11 is the protocol (RFC 9112), our own Stream moves the octets. Everything has its limit: the time for
a head, for a body and for each piece that is sent, and the octets of a head and of a body. A client
that does not read what it asked for is left alone, whatever it holds us up for: that is why no server
is used that would wait for it.
"""

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

import h11
import trio

from relay.errors import PeerClosed, flatten
from relay.net.stream import Stream

_log = logging.getLogger("outgate.admin")

MOST_BODY = 64 * 1024  # octets; an order of an operator has a few hundred
_MOST_HEAD = 16 * 1024
_MOST_AHEAD = 64 * 1024  # octets that a client may send before it has its answer
_HEAD_TIME = 10.0  # seconds for a request's head, and between two requests
_BODY_TIME = 10.0
_SEND_TIME = 20.0  # seconds for one piece of an answer

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Refused(Exception):
    """A request that is not passed on: the status that says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Gone(ConnectionResetError):
    """The client is not there any more, or does not take what is sent to it. No fault of ours."""


class Connection:
    """Serves one client. ``address``: whose it is."""

    def __init__(self, stream: Stream, address: str, application: Application) -> None:
        self.idle: trio.CancelScope | None = None  # while it waits for a request
        self.is_last = False  # no request after this one
        self._stream = stream
        self._address = address
        self._application = application
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)

    async def run(self) -> None:
        """Serve until the client goes, or has taken too long."""
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
        except (PeerClosed, OSError, trio.TooSlowError, h11.LocalProtocolError):
            pass  # it has gone, or is not worth waiting for
        finally:
            self._stream.close()

    async def _serve_one(self) -> bool:
        """Serve a request; False: there is none after it."""
        try:
            request = await self._read_head()
            if request is None:
                return False
            body = await self._read_body(request)
            scope = self._make_scope(request)
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
            return False
        except Refused as error:
            await self._refuse(error.status)
            return False
        await self._answer(scope, body, is_head=request.method == b"HEAD")
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _read_head(self) -> h11.Request | None:
        with trio.move_on_after(0 if self.is_last else _HEAD_TIME) as self.idle:
            event = await self._read_event()
            self.idle = None
            return event if isinstance(event, h11.Request) else None
        self.idle = None
        return None

    async def _read_body(self, request: h11.Request) -> bytes:
        length = dict(request.headers).get(b"content-length", b"0")
        if length.isdigit() and int(length) > MOST_BODY:
            raise Refused(413)
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._send(self._http.send(go_on))
        parts, size = [], 0
        with trio.fail_after(_BODY_TIME):
            while isinstance(event := await self._read_event(), h11.Data):
                size += len(event.data)
                if size > MOST_BODY:
                    raise Refused(413)
                parts.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise PeerClosed("connection lost: before the end of a request")
        return b"".join(parts)

    async def _read_event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive())
        return event  # type: ignore[return-value]

    def _make_scope(self, request: h11.Request) -> Message:
        path, _, query = request.target.partition(b"?")
        if not path.startswith(b"/"):
            raise Refused(400)
        return {
            "type": "http",
            # 2.3: whether the client is still there, the application finds out by ``receive``.
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path.decode("ascii", "replace")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": (self._address, 0),
            "server": None,
        }

    async def _answer(self, scope: Message, body: bytes, *, is_head: bool) -> None:
        exchange = Exchange(self, body, is_head=is_head)
        try:
            await self._application(scope, exchange.receive, exchange.send)
        except Exception as error:
            if all(isinstance(one, Gone) for one in flatten(error)):
                raise PeerClosed("connection lost: before the end of an answer") from error
            _tell_failure(scope, error)
        if not exchange.has_begun:
            await self._refuse(500)

    async def _refuse(self, status: int) -> None:
        """Answer without the application, and for the last time."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        head = [(b"content-length", b"0"), (b"connection", b"close")]
        octets = self._http.send(h11.Response(status_code=status, headers=head))
        await self._send((octets or b"") + (self._http.send(h11.EndOfMessage()) or b""))

    # -- for the exchange ---------------------------------------------------------------------

    def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return an answer's head."""
        # RFC 9110 §6.6.1: who has a clock says when it was.
        headers = [*headers, (b"date", _tell_date())]
        if self.is_last:
            headers.append((b"connection", b"close"))
        return self._http.send(h11.Response(status_code=status, headers=headers)) or b""

    async def write(self, octets: bytes, *, head: bytes, more: bool) -> None:
        """Send a piece of an answer. Raises Gone."""
        parts = [head]
        if octets:
            parts.append(self._http.send(h11.Data(data=octets)) or b"")
        if not more:
            parts.append(self._http.send(h11.EndOfMessage()) or b"")
        try:
            await self._send(b"".join(parts))
        except (PeerClosed, trio.TooSlowError) as error:
            raise Gone(str(error)) from error

    async def _send(self, octets: bytes | None) -> None:
        with trio.fail_after(_SEND_TIME):
            await self._stream.send(octets or b"")

    async def wait_gone(self) -> None:
        """Return when the client has closed, or talks on without waiting for an answer."""
        ahead = 0
        while ahead < _MOST_AHEAD:
            try:
                octets = await self._stream.receive()
            except PeerClosed:
                return
            if not octets:
                return
            self._http.receive_data(octets)
            ahead += len(octets)


def _tell_failure(scope: Message, error: Exception) -> None:
    """Log what a handler has left to us: who asked has heard no more than that it went wrong.

    The path is shown as it came, with its escapes: it cannot begin a line of its own.
    """
    method, path = scope["method"], scope["raw_path"].decode("ascii", "replace")
    # An error of the system's says what it is about; of another we want to know where it was.
    where = None if isinstance(error, OSError) else error
    _log.error("%s %s failed: %s: %s", method, path, type(error).__name__, error, exc_info=where)


def _tell_date() -> bytes:
    now = time.gmtime()
    day, month = _DAYS[now.tm_wday], _MONTHS[now.tm_mon - 1]  # not strftime: it asks the locale
    return f"{day}, {now.tm_mday:02} {month} {time.strftime('%Y %H:%M:%S', now)} GMT".encode()


class Exchange:
    """One request and its answer, as ASGI has them."""

    def __init__(self, connection: Connection, body: bytes, *, is_head: bool) -> None:
        self.has_begun = False
        self._connection = connection
        self._body: bytes | None = body
        self._is_head = is_head
        self._head = b""

    async def receive(self) -> Message:
        """Return the request's body, and after that wait until the client has gone."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._connection.wait_gone()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the answer. Raises Gone."""
        if message["type"] == "http.response.start":
            self._head = self._connection.begin(message["status"], list(message.get("headers", [])))
            self.has_begun = True
        elif message["type"] == "http.response.body":
            body = b"" if self._is_head else bytes(message.get("body", b""))
            more = message.get("more_body", False)
            head, self._head = self._head, b""
            await self._connection.write(body, head=head, more=more)
