"""The link: one connection to Redis, shared by all tasks of a process.

Theory of operation
===================
Tasks hand in commands and sleep. A driver takes whatever has gathered since its last round trip,
sends it as one pipeline, reads the replies, and wakes the tasks. Under load the pipelines grow by
themselves, and with them the commits that share one fsync in the server; idle, a call costs one
round trip.

redis-py makes the connection (URL, TLS, authentication, database), and hiredis, its parser, packs
commands and reads replies; but redis-py has no trio client, so the octets are moved by the driver,
a trio task, over redis-py's socket. The obvious alternative, a thread that runs redis-py's own
blocking client, costs 53 to 160 microseconds a call in pipelines of one to four commands, against
22 to 75 (measured 2026-11-23): two threads that take turns spend their time on handing over the
interpreter's lock.

redis-py's retries are not used. It repeats commands whose reply was lost, and a repeated XADD is a
message sent twice. Here a lost reply is an exception that says whether the command may have run
(``StoreUnavailable.executed``); who knows how to repeat itself safely, does (queue.py).

After a failure the connection is dropped and the next command tries a new one; commands fail at
once while there is none. Only ``relay/store`` imports ``redis`` and ``hiredis``.
"""

import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import hiredis
import outcome
import redis
import trio
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.retry import Retry

from relay.errors import NetworkError, StoreError, StoreFull, StoreUnavailable
from relay.net.stream import Stream
from relay.store.scripts import SCRIPTS, Script

Part = bytes | str | int | float
Reply = Any  # what RESP delivers: bytes, int, None or a list of these

# One pipeline carries at most so many octets (and at least one command), and what is short goes
# before what is long: a dozen large messages at once must not keep the small ones beside them
# waiting until all their parts are written.
_PIPELINE_OCTETS = 1 << 20
_PIPELINE_COMMANDS = 512
_LONG_OCTETS = 64 * 1024
_READ_OCTETS = 256 * 1024
_RING_PAUSE = 0.5  # seconds before a lost subscription is tried again

# What a server says when it will not run anything just now, and may a little later.
_NOT_NOW = frozenset(
    ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS")
)


class Pending:
    """A command on its way. ``wait`` for its reply, once, or never."""

    __slots__ = ("_reply", "_task", "name", "packed")

    def __init__(self, name: str, parts: tuple[Part, ...]) -> None:
        """``name`` is for error texts. Raises StoreError for a part that cannot be sent."""
        self.name = name
        self.packed = _pack(*parts)
        self._task: trio.lowlevel.Task | None = None
        self._reply: outcome.Outcome[Reply] | None = None

    async def wait(self) -> Reply:
        """Return the reply. Raises StoreUnavailable, StoreFull, StoreError.

        Cancelled, it leaves the command to run: nobody is interested in its reply any more.
        """
        if self._reply is not None:
            return self._reply.unwrap()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._task = trio.lowlevel.current_task()
        return await trio.lowlevel.wait_task_rescheduled(abort)

    def resolve(self, reply: Reply) -> None:
        """Hand in the reply, or the exception, on the loop."""
        self._reply = outcome.Error(reply) if isinstance(reply, Exception) else outcome.Value(reply)
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task, self._reply)


def _pack(*parts: Part) -> bytes:
    try:
        # Its type stub asks for a tuple of one; it takes as many as there are.
        packed: bytes = hiredis.pack_command(parts)  # type: ignore[arg-type]
    except Exception as error:
        raise StoreError(f"{parts[0]!r}: cannot be sent: {error}") from error
    return packed


class _Wire:
    """A connection that redis-py has made, and trio reads and writes."""

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

    async def read(self) -> Reply:
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
        self._stream.close()
        self._connection.disconnect()


async def _open_wire(pool: ConnectionPool) -> _Wire:
    """Connect, with all scripts loaded. Raises redis.RedisError, OSError."""
    return _Wire(await trio.to_thread.run_sync(open_connection, pool, abandon_on_cancel=True))


def open_connection(
    pool: ConnectionPool, scripts: Mapping[str, Script] = SCRIPTS
) -> AbstractConnection:
    """Connect, with all scripts loaded; blocks. Raises redis.RedisError, OSError."""
    connection: AbstractConnection = pool.connection_class(**pool.connection_kwargs)
    try:
        connection.connect()
        commands = [("SCRIPT", "LOAD", script.source) for script in scripts.values()]
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        for _ in commands:
            connection.read_response()
    except BaseException:
        connection.disconnect()
        raise
    return connection


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


class Link:
    """A connection to Redis for one trio process; made inside ``trio.run``, closed by ``aclose``.

    Its driver is a system task: what ends the caller's nursery must not cut off a settle.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        """``timeout``: seconds that one round trip may take. Raises ValueError for a bad URL."""
        self.url = url
        self._timeout = timeout
        self._pool = make_pool(url, timeout)
        self._wire: _Wire | None = None
        self._short: deque[Pending] = deque()  # handed in, not yet sent
        self._long: deque[Pending] = deque()
        self._sleeping: trio.lowlevel.Task | None = None  # the driver, while it has no work
        self._closing = False
        self._ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._drive, name="store-link")

    def start(
        self, script: str, shard_key: str, *arguments: Part, behind: Pending | None = None
    ) -> Pending:
        """Send a transition on its way. ``shard_key`` is any key of its shard.

        ``behind``: a command just handed in that must reach the server before it. Raises
        StoreUnavailable when the link is closed.
        """
        digest = SCRIPTS[script].digest
        call = Pending(script, (b"EVALSHA", digest, 1, shard_key, *arguments))
        return self._hand_in(call, like=behind or call)

    async def run(self, script: str, shard_key: str, *arguments: Part) -> Reply:
        """Run a transition and return its reply. Raises as ``call``."""
        return await self.start(script, shard_key, *arguments).wait()

    def send(self, *parts: Part) -> Pending:
        """Send a command on its way: several sent before the first wait travel together."""
        call = Pending(str(parts[0]), parts)
        return self._hand_in(call, like=call)

    async def call(self, *parts: Part) -> Reply:
        """Send a command and return its reply.

        Raises StoreUnavailable (with what is known about its execution), StoreFull, StoreError.
        """
        return await self.send(*parts).wait()

    def _hand_in(self, call: Pending, *, like: Pending) -> Pending:
        """Queue a call where ``like`` is, or would be, queued: within a queue the order holds."""
        if self._closing:
            raise StoreUnavailable("the link to the store is closed", executed=False)
        (self._long if len(like.packed) > _LONG_OCTETS else self._short).append(call)
        self._wake()
        return call

    def _wake(self) -> None:
        if self._sleeping is not None:
            task, self._sleeping = self._sleeping, None
            trio.lowlevel.reschedule(task)

    async def aclose(self) -> None:
        """Let the driver finish what was handed in, then end it."""
        self._closing = True
        self._wake()
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    # -- the driver ---------------------------------------------------------------------------

    async def _drive(self) -> None:
        try:
            while True:
                calls = self._take()
                if not calls:
                    if self._closing:
                        return
                    await self._sleep()
                    continue
                for call, reply in zip(calls, await self._exchange(calls), strict=True):
                    call.resolve(reply)
        finally:
            self._closing = True
            self._drop()
            self._ended.set()

    async def _sleep(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeping = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeping = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _take(self) -> list[Pending]:
        """Take the calls of the next round trip: short ones first, then at least one long one."""
        calls: list[Pending] = []
        octets = 0
        while self._short and len(calls) < _PIPELINE_COMMANDS and octets < _PIPELINE_OCTETS:
            calls.append(self._short.popleft())
            octets += len(calls[-1].packed)
        if self._long:
            calls.append(self._long.popleft())
            octets += len(calls[-1].packed)
            while self._long and octets + len(self._long[0].packed) <= _PIPELINE_OCTETS:
                octets += len(self._long[0].packed)
                calls.append(self._long.popleft())
        return calls

    async def _exchange(self, calls: list[Pending]) -> list[Reply]:
        """One round trip: a reply or an exception for each call, never an exception raised."""
        try:
            if self._wire is None:
                self._wire = await _open_wire(self._pool)
        except Exception as error:  # whatever it is, the callers must hear of it
            # One for each: they are raised in as many tasks, and each leaves its trace in them.
            return [_unavailable(error, executed=False) for _ in calls]
        replies: list[Reply] = []
        try:
            with trio.fail_after(self._timeout):
                await self._pass(self._wire, calls, replies)
        except Exception as error:
            # Whatever was sent may have run: also what is still unread.
            self._drop()
            missing = len(calls) - len(replies)
            replies += [_unavailable(error, executed=True) for _ in range(missing)]
        return replies

    async def _pass(self, wire: _Wire, calls: list[Pending], replies: list[Reply]) -> None:
        """Send the calls and append their replies, as far as they come."""
        await wire.send(b"".join([call.packed for call in calls]))
        unknown: list[int] = []
        for call in calls:
            reply = await wire.read()
            if isinstance(reply, hiredis.ReplyError):
                if str(reply).startswith("NOSCRIPT"):
                    unknown.append(len(replies))
                reply = translate(reply, call.name)
            replies.append(reply)
        if unknown:
            await self._repeat(wire, calls, replies, unknown)

    @staticmethod
    async def _repeat(
        wire: _Wire, calls: list[Pending], replies: list[Reply], places: list[int]
    ) -> None:
        """Somebody flushed the server's scripts. What was unknown did not run: send it again."""
        packed = [_pack("SCRIPT", "LOAD", script.source) for script in SCRIPTS.values()]
        packed += [calls[place].packed for place in places]
        for place in places:
            # What follows may run and its reply be lost: then this is what is known.
            replies[place] = _unavailable(RuntimeError("no reply"), executed=True)
        await wire.send(b"".join(packed))
        for _ in SCRIPTS:
            await wire.read()
        for place in places:
            reply = await wire.read()
            failed = isinstance(reply, hiredis.ReplyError)
            replies[place] = translate(reply, calls[place].name) if failed else reply

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


def translate(error: hiredis.ReplyError, name: str) -> Exception:
    """An error that the server answered, in our words."""
    text = str(error)
    word = text.partition(" ")[0]
    if word in _NOT_NOW:
        return _unavailable(error, executed=False)
    if word == "MISCONF" or "OOM" in text:
        return StoreFull(text)
    return StoreError(f"{name}: {text.removeprefix('ERR ')}")


def _unavailable(error: Exception, *, executed: bool) -> StoreUnavailable:
    text = "it takes too long" if isinstance(error, trio.TooSlowError) else str(error)
    failure = StoreUnavailable(f"the store does not answer: {text}", executed=executed)
    failure.__cause__ = error
    return failure


class Bell:
    """Hears the wake-ups that transitions publish, and calls back.

    A wake-up can be missed (nothing is published to who is not there): whoever sleeps on it
    looks again from time to time. When the subscription has begun, ``ring`` is called with "",
    for whatever was published before. ``lost`` is told why there is none, at each try.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        ring: Callable[[str], None],
        *,
        lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._channel = channel
        self._ring = ring
        self._lost = lost
        self._pool = make_pool(url, 10)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                wire = await _open_wire(self._pool)
                try:
                    await self._listen(wire)
                finally:
                    wire.close()
            except (redis.RedisError, OSError, NetworkError) as error:
                self._lost(str(error))
                await trio.sleep(_RING_PAUSE)

    async def _listen(self, wire: _Wire) -> None:
        await wire.send(_pack("SUBSCRIBE", self._channel))
        while True:
            reply = await wire.read()
            if isinstance(reply, list) and reply[0] == b"subscribe":
                self._ring("")
            elif isinstance(reply, list) and reply[0] == b"message":
                self._ring(reply[2].decode("utf-8", "replace"))
