"""A link for virtual time: the world stands still while the store works.

It is a ``Link`` to whoever uses it, over a socket that blocks: each command is a round trip at once, and
its reply is there before anybody waits for it. So a program whose clock is virtual (trio's
MockClock) sees calls to the store take no time at all, and two runs of it are the same.

The scripts' clock is the caller's, too: it travels with each call, as a second key. What they would
publish comes back with the reply, and is handed to ``ring`` in order; with a subscription it would
arrive at some time, another one in each run.

Keys that Redis itself expires do so on the server's clock. In a simulation that runs faster than the
world they live too long: what the scripts decide by is dated, and does not depend on it.
"""

import socket
from collections.abc import Callable

import hiredis

from relay.errors import StoreUnavailable
from relay.store.link import Link, Part, Pending, Reply, translate
from relay.store.scripts import make_scripts
from relay.store.wire import make_pool, open_connection

_READ_OCTETS = 64 * 1024
_TIMEOUT = 10.0  # s
_CLOCK = "  return tonumber(string.match(KEYS[2], '%d+$'))\n"
_SCRIPTS = make_scripts(clock=_CLOCK, overheard=True)


class StillLink(Link):
    """One blocking connection. From one thread only; no loop is needed to make it."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        now: Callable[[], float],
        ring: Callable[[str], None] = lambda news: None,
    ) -> None:
        """``now``: seconds since 1970; ``ring``: takes what a Bell would hear.

        Raises redis.RedisError, OSError; ValueError for a bad URL.
        """
        self.url = url
        self.replicas = 0
        self.ring = ring
        self._now = now
        self._connection = open_connection(make_pool(url, timeout), _SCRIPTS)
        sock: socket.socket = self._connection._sock  # type: ignore[assignment]  # as in link.py
        self._send, self._receive = sock.sendall, sock.recv
        self._reader = hiredis.Reader()
        self._closed = False

    def start(
        self, script: str, shard_key: str, *arguments: Part, behind: Pending | None = None
    ) -> Pending:
        """Run a transition; see Link."""
        digest = _SCRIPTS[script].digest
        tag = shard_key[: shard_key.index("}") + 1]
        moment = f"{tag}:clock:{int(self._now() * 1000)}"
        call = Pending(script, (b"EVALSHA", digest, 2, shard_key, moment, *arguments))
        reply = self._ask(call)
        if isinstance(reply, Exception):
            call.resolve(reply)
            return call
        value, news = reply
        call.resolve(value)
        for text in news:
            self.ring(text.decode("ascii", "replace"))
        return call

    def _hand_in(self, call: Pending, *, like: Pending) -> Pending:
        call.resolve(self._ask(call))
        return call

    def _ask(self, call: Pending) -> Reply:
        """One round trip: the reply, or the exception that is one."""
        if self._closed:
            raise StoreUnavailable("the link to the store is closed", executed=False)
        try:
            self._send(call.packed)
            while (reply := self._reader.gets()) is False:
                if not (octets := self._receive(_READ_OCTETS)):
                    raise ConnectionError("the server closed the connection")
                self._reader.feed(octets)
        except OSError as error:
            # There is no other connection to go on with: what is simulated is over.
            self.close()
            return StoreUnavailable(f"the store does not answer: {error}", executed=True)
        return translate(reply, call.name) if isinstance(reply, hiredis.ReplyError) else reply

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._connection.disconnect()

    async def aclose(self) -> None:
        """Close the connection."""
        self.close()


def keep_nothing(url: str) -> None:
    """Let a server of ours keep nothing on disk: what it holds is a play. Blocks.

    Raises redis.RedisError, OSError.
    """
    connection = open_connection(make_pool(url, _TIMEOUT), {})
    try:
        connection.send_command("CONFIG", "SET", "appendonly", "no")
        connection.read_response()
    finally:
        connection.disconnect()
