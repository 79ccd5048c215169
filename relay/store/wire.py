"""A wire: a connection to one server that redis-py has made, and trio reads and writes."""

import socket
import ssl
from collections.abc import Mapping

import hiredis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from relay.errors import NetworkError
from relay.net.stream import Stream
from relay.store.scripts import Script

_READ_OCTETS = 256 * 1024


class Wire:
    """One connection, as trio sees it."""

    def __init__(self, connection: AbstractConnection) -> None:
        # There is no public way to the socket; tests/relay/store/test_link.py would notice.
        sock: socket.socket = connection._sock  # type: ignore[assignment]
        self._connection = connection  # owns the socket
        self._stream = Stream(sock)
        if isinstance(sock, ssl.SSLSocket):
            self._stream.tls = sock
        self._reader = hiredis.Reader()

    async def send(self, octets: bytes) -> None:
        """Raises NetworkError."""
        await self._stream.send(octets)

    async def read(self) -> object:
        """Return the next reply; an error reply is a ``hiredis.ReplyError``, not raised.

        Raises NetworkError, and ProtocolError for what is not RESP.
        """
        while (reply := self._reader.gets()) is False:
            octets = await self._stream.receive(_READ_OCTETS)
            if not octets:
                raise NetworkError("the server closed the connection")
            self._reader.feed(octets)
        return reply

    def close(self) -> None:
        """Close it; what has not been read is lost."""
        self._stream.close()
        self._connection.disconnect()


def make_pool(url: str, timeout: float) -> ConnectionPool:
    """Return redis-py's recipe for connections; the ones made from it are ours alone."""
    return ConnectionPool.from_url(
        url,
        protocol=2,  # flat lists, the same from every server
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        health_check_interval=0,
    )


def open_connection(
    pool: ConnectionPool, scripts: Mapping[str, Script], *, master: bool = False
) -> AbstractConnection:
    """Connect, with these scripts loaded; blocks. Raises redis.RedisError, OSError.

    ``master``: a server that is none is an error.
    """
    connection: AbstractConnection = pool.connection_class(**pool.connection_kwargs)
    try:
        connection.connect()
        if master:
            _require_master(connection)
        commands = [("SCRIPT", "LOAD", script.source) for script in scripts.values()]
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        for _ in commands:
            connection.read_response()
    except BaseException:
        connection.disconnect()
        raise
    return connection


def _require_master(connection: AbstractConnection) -> None:
    connection.send_command("ROLE")
    role = connection.read_response()[0]
    if role not in (b"master", "master"):
        raise RedisConnectionError(f"it is a {role!r}, and no master (any more)")
