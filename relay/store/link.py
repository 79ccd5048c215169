"""The link: one connection to Redis, driven by one thread, shared by all tasks of a process.

Theory of operation
===================
redis-py has no trio client, and a thread per call costs more than the call. So one thread owns
one connection; tasks put their commands into its queue and sleep. The thread takes whatever has
gathered since its last round trip, sends it as one pipeline, reads the replies and hands them to
the loop in one go. Under load the pipelines grow by themselves, and with them the commits that
share one fsync in the server; idle, a call costs one round trip.

redis-py's own retries are off. It repeats commands whose reply was lost, and a repeated XADD is a
message sent twice. Here a lost reply is an exception that says whether the command may have run
(``StoreUnavailable.executed``); who knows how to repeat itself safely, does (queue.py).

After a failure the connection is dropped and the next command tries a new one; commands fail at
once while there is none. This and ``embedded.py`` are the only files that import ``redis``.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import outcome
import redis
import trio
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.retry import Retry

from relay.errors import StoreError, StoreFull, StoreUnavailable
from relay.store.scripts import SCRIPTS, Script

Part = bytes | str | int | float
Reply = Any  # what RESP delivers: bytes, int, None or a list of these

# One pipeline carries at most so many octets (and at least one command): a dozen large messages
# at once must not keep the small ones beside them waiting for a gigabyte to be written.
_PIPELINE_OCTETS = 1 << 20
_PIPELINE_COMMANDS = 512

# What a server says when it will not run anything just now, and may a little later.
_NOT_NOW = (
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)
_NOT_NOW_TEXTS = ("BUSY ", "NOREPLICAS ")  # ... where redis-py has no word for it


class Pending:
    """A command on its way. ``wait`` for its reply, once, or never."""

    __slots__ = ("_reply", "_task", "octets", "parts", "script")

    def __init__(self, parts: Sequence[Part], octets: int, script: Script | None) -> None:
        self.parts = parts
        self.octets = octets
        self.script = script
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


class Link:
    """A connection to Redis for one trio process. ``async with open_link(url) as link``."""

    def __init__(self, url: str, *, timeout: float) -> None:
        """``timeout``: seconds that one round trip may take. Raises ValueError for a bad URL."""
        self.url = url
        pool = ConnectionPool.from_url(
            url,
            protocol=2,  # flat lists, the same from every server
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
        )
        self._pool = pool  # a recipe for connections; the one we use is ours
        self._connection: AbstractConnection | None = None
        self._calls: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._loop = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name="store-link", daemon=True)
        self._closing = False
        self._thread.start()

    # -- the loop's side ----------------------------------------------------------------------

    def start(self, script: str, shard_key: str, *arguments: Part) -> Pending:
        """Send a transition on its way. ``shard_key`` is any key of its shard.

        Raises StoreUnavailable when the link is closed.
        """
        transition = SCRIPTS[script]
        parts = (b"EVALSHA", transition.digest, 1, shard_key, *arguments)
        return self._hand_in(Pending(parts, _count_octets(arguments), transition))

    async def run(self, script: str, shard_key: str, *arguments: Part) -> Reply:
        """Run a transition and return its reply. Raises as ``call``."""
        return await self.start(script, shard_key, *arguments).wait()

    async def call(self, *parts: Part) -> Reply:
        """Send a command and return its reply.

        Raises StoreUnavailable (with what is known about its execution), StoreFull, StoreError.
        """
        return await self.send(*parts).wait()

    def send(self, *parts: Part) -> Pending:
        """Send a command on its way: several sent before the first wait travel together."""
        return self._hand_in(Pending(parts, _count_octets(parts), None))

    def _hand_in(self, call: Pending) -> Pending:
        if self._closing:
            raise StoreUnavailable("the link to the store is closed", executed=False)
        self._calls.put(call)
        return call

    def close(self) -> None:
        """Let the thread finish what was handed in, then stop it."""
        self._closing = True
        self._calls.put(None)

    async def aclose(self) -> None:
        """As ``close``, and wait for the thread."""
        self.close()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)

    @staticmethod
    def _deliver(calls: list[Pending], replies: list[Reply]) -> None:
        for call, reply in zip(calls, replies, strict=True):
            call.resolve(reply)

    # -- the thread's side --------------------------------------------------------------------

    def _work(self) -> None:
        going = True
        first: Pending | None = None
        while going:
            calls: list[Pending] = []
            octets = 0
            while True:
                try:
                    # Wait for the first; take what else is there.
                    call = first or self._calls.get(block=not calls)
                except queue.Empty:
                    break
                first = None
                if call is None:
                    going = False
                    break
                if calls and octets + call.octets > _PIPELINE_OCTETS:
                    first = call
                    break
                calls.append(call)
                octets += call.octets
                if len(calls) == _PIPELINE_COMMANDS:
                    break
            if calls:
                replies = self._exchange(calls)
                try:
                    self._loop.run_sync_soon(self._deliver, calls, replies)
                except trio.RunFinishedError:
                    break
        self._drop()

    def _exchange(self, calls: list[Pending]) -> list[Reply]:
        """One round trip: a reply or an exception for each call, never an exception raised."""
        try:
            connection = self._connect()
            packed = connection.pack_commands([call.parts for call in calls])
        except Exception as error:  # whatever it is, the callers must hear of it
            self._drop()
            # One for each: they are raised in as many tasks, and each leaves its trace in them.
            return [_unavailable(error, executed=False) for _ in calls]
        replies: list[Reply] = []
        try:
            connection.send_packed_command(packed, check_health=False)
            for call in calls:
                replies.append(self._read(connection, call))  # noqa: PERF401 - partial ones count
        except Exception as error:
            # Whatever was sent may have run: also what is still unread.
            self._drop()
            missing = len(calls) - len(replies)
            replies += [_unavailable(error, executed=True) for _ in range(missing)]
        return self._repeat_unknown(connection, calls, replies)

    @staticmethod
    def _read(connection: AbstractConnection, call: Pending) -> Reply:
        try:
            return connection.read_response()
        except redis.exceptions.NoScriptError as error:
            return error
        except redis.exceptions.OutOfMemoryError as error:
            return StoreFull(str(error))
        except _NOT_NOW as error:
            return _unavailable(error, executed=False)
        except redis.ResponseError as error:
            text = str(error)
            if "OOM" in text or "MISCONF" in text:
                return StoreFull(text)
            if text.startswith(_NOT_NOW_TEXTS):
                return _unavailable(error, executed=False)
            name = call.script or str(call.parts[0])
            return StoreError(f"{name}: {text}")

    def _repeat_unknown(
        self, connection: AbstractConnection, calls: list[Pending], replies: list[Reply]
    ) -> list[Reply]:
        """Somebody flushed the server's scripts: NOSCRIPT did not run, so it is safe to repeat."""
        lost = [i for i, r in enumerate(replies) if isinstance(r, redis.exceptions.NoScriptError)]
        if not lost:
            return replies
        try:
            _load_scripts(connection)
            again = [calls[i].parts for i in lost]
            connection.send_packed_command(connection.pack_commands(again), check_health=False)
            for i in lost:
                replies[i] = self._read(connection, calls[i])
        except (redis.RedisError, OSError) as error:
            self._drop()
            for i in lost:
                if isinstance(replies[i], redis.exceptions.NoScriptError):
                    replies[i] = _unavailable(error, executed=True)
        return replies

    def _connect(self) -> AbstractConnection:
        if self._connection is None:
            self._connection = _open_connection(self._pool)
            _load_scripts(self._connection)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def _open_connection(pool: ConnectionPool) -> AbstractConnection:
    connection: AbstractConnection = pool.connection_class(**pool.connection_kwargs)
    connection.connect()
    return connection


def _load_scripts(connection: AbstractConnection) -> None:
    commands = [("SCRIPT", "LOAD", script.source) for script in SCRIPTS.values()]
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    for _ in commands:
        connection.read_response()


def _unavailable(error: Exception, *, executed: bool) -> StoreUnavailable:
    failure = StoreUnavailable(f"the store does not answer: {error}", executed=executed)
    failure.__cause__ = error
    return failure


def _count_octets(parts: Sequence[Part]) -> int:
    return sum(len(part) for part in parts if isinstance(part, bytes))


class Bell:
    """Hears the wake-ups that transitions publish, and calls back on the loop.

    A wake-up can be missed (nothing is published to who is not there): whoever sleeps on it
    looks again from time to time.
    """

    def __init__(self, url: str, channel: str, ring: Callable[[str], None]) -> None:
        self._channel = channel
        self._ring = ring
        self._loop = trio.lowlevel.current_trio_token()
        self._closing = threading.Event()
        self._pool = ConnectionPool.from_url(
            url, protocol=2, socket_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        self._thread = threading.Thread(target=self._work, name="store-bell", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Stop listening; takes up to a second."""
        self._closing.set()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                connection = _open_connection(self._pool)
            except (redis.RedisError, OSError):
                self._closing.wait(0.5)
                continue
            try:
                connection.send_command("SUBSCRIBE", self._channel)
                self._listen(connection)
            except (redis.RedisError, OSError):
                self._closing.wait(0.5)
            finally:
                connection.disconnect()

    def _listen(self, connection: AbstractConnection) -> None:
        while not self._closing.is_set():
            try:
                reply = connection.read_response(disconnect_on_error=False)
            except redis.TimeoutError:
                continue
            if isinstance(reply, list) and reply[0] == b"message":
                try:
                    self._loop.run_sync_soon(self._ring, reply[2].decode("ascii"))
                except trio.RunFinishedError:
                    return
