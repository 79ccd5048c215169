"""The HTTP server: listens, lets so many in at a time, and ends in an orderly way."""

import contextlib
import socket
from collections.abc import Sequence

import trio

from relay.net.listen import accept_loop
from relay.net.stream import Stream
from workers.admin.http.connection import Application, Connection

_MOST = 200  # connections
_GRACE = 5.0  # seconds for requests that have begun, when we stop
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\n"
    b"Connection: close\r\n\r\n"
)


class Server:
    """Hands requests to an application. ``most``: connections at a time; more hear 503."""

    def __init__(self, application: Application, *, most: int = _MOST) -> None:
        self._application = application
        self._most = most
        self._open: dict[Connection, None] = {}  # in the order in which they came

    async def run(self, listeners: Sequence[socket.socket], stop: trio.Event) -> None:
        """Serve until ``stop``; then requests that have begun have a few seconds."""
        async with trio.open_nursery() as connections:

            def take(sock: socket.socket, address: str) -> None:
                if len(self._open) >= self._most and not self._make_room():
                    _turn_away(sock)
                else:
                    connection = Connection(Stream(sock), address, self._application)
                    self._open[connection] = None
                    connections.start_soon(self._serve, connection)

            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(accept_loop, listener, take)
                await stop.wait()
                accepting.cancel_scope.cancel()
            for connection in self._open:
                connection.is_last = True
                if connection.idle is not None:
                    connection.idle.cancel()
            connections.cancel_scope.deadline = trio.current_time() + _GRACE

    def _make_room(self) -> bool:
        """Let go of the oldest that asks nothing: else whoever only connects keeps out all others."""
        for connection in self._open:
            if connection.idle is not None:
                connection.is_last = True
                connection.idle.cancel()
                del self._open[connection]
                return True
        return False

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._open.pop(connection, None)


def _turn_away(sock: socket.socket) -> None:
    with contextlib.suppress(OSError), sock:
        sock.setblocking(False)
        sock.send(_FULL)
