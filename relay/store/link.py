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
once while there is none. Where the new one leads to is the door's matter (door.py): behind Sentinels,
to whoever is master by then. A Cluster has a driver for each of its masters (cluster.py).

With ``replicas`` what may have written is acknowledged when so many replicas have it, too: one WAIT
at the end of a pipeline. WAIT asks about what *this* connection has written, and a repeated call
whose first reply was lost writes nothing: so each connection begins with a write of its own, behind
everything that an earlier one can have written.

Only ``relay/store`` imports ``redis`` and ``hiredis``.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import hiredis
import outcome
import redis
import trio

from relay.errors import NetworkError, StoreError, StoreFull, StoreUnavailable
from relay.store.door import Door, make_door, open_wire
from relay.store.keys import make_key
from relay.store.scripts import SCRIPTS, Script
from relay.store.wire import Wire

Part = bytes | str | int | float
Reply = Any  # what RESP delivers: bytes, int, None or a list of these

# One pipeline carries at most so many octets (and at least one command), and what is short goes
# before what is long: a dozen large messages at once must not keep the small ones beside them
# waiting until all their parts are written.
_PIPELINE_OCTETS = 1 << 20
_PIPELINE_COMMANDS = 512
LONG_OCTETS = 64 * 1024
_RING_PAUSE = 0.5  # seconds before a lost subscription is tried again
_RING_IDLE = (
    5.0  # seconds without news after which a subscription is asked whether it is still alive
)
_SYNCED_LIFE = 86_400_000  # ms

# What a server says when it will not run anything just now, and may a little later.
_NOT_NOW = frozenset(
    ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS")
)
# Redis 6.2 puts what stopped a script at the end of a sentence of its own.
_INSIDE = re.compile(r"ERR Error running script .*@user_script: ?\d+: -?([A-Z]+) ")

# Commands that write nothing, as far as we use them: they are answered whoever else has what.
_READS = frozenset({
    "count", "CONFIG", "DBSIZE", "ECHO", "EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HLEN", "HMGET",
    "HSCAN", "HVALS", "INFO", "LLEN", "LRANGE", "PING", "PTTL", "PUBLISH", "PUBSUB", "ROLE", "SCARD",
    "SMEMBERS", "TIME", "TTL", "XLEN", "XRANGE", "ZCARD", "ZCOUNT", "ZMSCORE", "ZRANGE", "ZRANGEBYSCORE",
    "ZRANK", "ZSCORE",
})  # fmt: skip


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


class Link:
    """A connection to Redis for one trio process; made inside ``trio.run``, closed by ``aclose``.

    Its driver is a system task: what ends the caller's nursery must not cut off a settle.
    """

    scripts: ClassVar[Mapping[str, Script]] = SCRIPTS

    def __init__(self, url: str, *, timeout: float, replicas: int = 0, leisure: int = 1) -> None:
        """Not for a Cluster: ``make_link`` (opening.py) knows which class a URL wants.

        ``timeout``: seconds that one round trip may take. ``replicas``: how many must have a
        write before it is acknowledged. ``leisure``: how many turns of the loop the driver lets pass
        before a round trip, so that tasks which are about to ask, or ask for several things at a time,
        have handed them in. With one turn a busy ingress and worker make a sixth fewer round trips,
        and the server as many fewer syncs. Raises ValueError for a bad URL.
        """
        self.url = url
        self._timeout = timeout
        self._leisure = leisure
        self.replicas = replicas
        self._wait = _pack("WAIT", replicas, max(1, int(timeout * 500)))
        self._door: Door = make_door(url, timeout)
        self._wire: Wire | None = None
        self._demoted = False  # what the wire leads to refuses writes: a master no more
        self._marked = False  # the wire has begun with a write of its own
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
        digest = self.scripts[script].digest
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

    async def call_each(self, *parts: Part) -> Sequence[tuple[str, Reply]]:
        """Send a command to each master; return its name (one has none) and reply. Raises as ``call``."""
        return [("", await self.call(*parts))]

    def _hand_in(self, call: Pending, *, like: Pending) -> Pending:
        """Queue a call where ``like`` is, or would be, queued: within a queue the order holds."""
        if self._closing:
            raise StoreUnavailable("the link to the store is closed", executed=False)
        (self._long if len(like.packed) > LONG_OCTETS else self._short).append(call)
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
                if not self._short and not self._long:
                    if self._closing:
                        return
                    await self._sleep()
                for _ in range(self._leisure):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                if calls := self._take():
                    self._resolve(calls, await self._exchange(calls))
        finally:
            self._closing = True
            self._drop()
            self._ended.set()

    def _resolve(self, calls: list[Pending], replies: list[Reply]) -> None:
        for call, reply in zip(calls, replies, strict=True):
            call.resolve(reply)

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
                self._wire = await open_wire(self._door, self.scripts)
            wire = self._wire
        except Exception as error:  # whatever it is, the callers must hear of it
            self._drop()
            # One for each: they are raised in as many tasks, and each leaves its trace in them.
            return [make_unavailable(error, executed=False) for _ in calls]
        replies: list[Reply] = []
        try:
            with trio.fail_after(self._timeout):
                await self._pass(wire, calls, replies)
        except Exception as error:
            # Whatever was sent may have run: also what is still unread.
            self._drop()
            missing = len(calls) - len(replies)
            replies += [make_unavailable(error, executed=True) for _ in range(missing)]
        if self._demoted:
            self._drop()
        return replies

    def _find_shard(self) -> int | None:
        """Return a shard that is where the wire leads to."""
        return 0

    async def _pass(self, wire: Wire, calls: list[Pending], replies: list[Reply]) -> None:
        """Send the calls and append their replies, as far as they come."""
        if self.replicas and any(call.name not in _READS for call in calls):
            await self._pass_synced(wire, calls, replies)
            return
        await wire.send(b"".join([call.packed for call in calls]))
        if unknown := await self._read(wire, calls, replies):
            await self._repeat(wire, calls, replies, unknown)

    async def _pass_synced(self, wire: Wire, calls: list[Pending], replies: list[Reply]) -> None:
        """The same, and ask how many replicas have it. Until that is known there are no replies."""
        mark = b"" if self._marked else self._make_mark()
        await wire.send(b"".join([mark, *(call.packed for call in calls), self._wait]))
        if mark:
            await wire.read()
            self._marked = await wire.read() == 1
        read: list[Reply] = []
        unknown = await self._read(wire, calls, read)
        reached = await wire.read()
        if unknown:
            await self._repeat(wire, calls, read, unknown)
            await wire.send(self._wait)
            reached = await wire.read()
        self._confirm(calls, read, reached)
        replies += read

    def _make_mark(self) -> bytes:
        """Two commands, of which the second is a write that also a full server lets pass."""
        shard = self._find_shard()
        if shard is None:  # nothing of ours is there
            return b""
        key = make_key(shard, "synced")
        return _pack("SET", key, "", "NX") + _pack("PEXPIRE", key, _SYNCED_LIFE)

    async def _read(self, wire: Wire, calls: list[Pending], replies: list[Reply]) -> list[int]:
        """Append the replies as they come; return the places of scripts that the server lacks."""
        unknown: list[int] = []
        for call in calls:
            reply = await wire.read()
            if isinstance(reply, hiredis.ReplyError):
                if str(reply).startswith("NOSCRIPT"):
                    unknown.append(len(replies))
                reply = self._judge(reply, call)
            replies.append(reply)
        return unknown

    async def _repeat(
        self, wire: Wire, calls: list[Pending], replies: list[Reply], places: list[int]
    ) -> None:
        """Somebody flushed the server's scripts. What was unknown did not run: send it again."""
        packed = [_pack("SCRIPT", "LOAD", script.source) for script in self.scripts.values()]
        packed += [calls[place].packed for place in places]
        for place in places:
            # What follows may run and its reply be lost: then this is what is known.
            replies[place] = make_unavailable(RuntimeError("no reply"), executed=True)
        await wire.send(b"".join(packed))
        for _ in self.scripts:
            await wire.read()
        for place in places:
            reply = await wire.read()
            if isinstance(reply, hiredis.ReplyError):
                reply = self._judge(reply, calls[place])
            replies[place] = reply

    def _confirm(self, calls: list[Pending], replies: list[Reply], reached: Reply) -> None:
        """Take back the replies to what may have written, unless enough replicas have it."""
        if isinstance(reached, int) and reached >= self.replicas and self._marked:
            return
        if not isinstance(reached, int):
            self._demoted = True  # a replica: it was the master a moment ago
            reached = 0
        text = f"{reached} of {self.replicas} replicas (store.replicas) have what was written"
        for place, call in enumerate(calls):
            if call.name not in _READS and not isinstance(replies[place], Exception):
                replies[place] = make_unavailable(RuntimeError(text), executed=True)

    def _judge(self, error: hiredis.ReplyError, call: Pending) -> Exception:
        """Say what an error reply means."""
        if str(error).startswith("READONLY"):
            self._demoted = True
        return translate(error, call.name)

    def _drop(self) -> None:
        self._demoted = self._marked = False
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


def translate(error: hiredis.ReplyError, name: str) -> Exception:
    """An error that the server answered, in our words."""
    text = str(error)
    inside = _INSIDE.match(text)
    word = inside[1] if inside else text.partition(" ")[0]
    if word in _NOT_NOW:
        return make_unavailable(error, executed=False)
    if word == "MISCONF" or "OOM" in text:
        return StoreFull(text)
    return StoreError(f"{name}: {text.removeprefix('ERR ')}")


def make_unavailable(error: Exception, *, executed: bool) -> StoreUnavailable:
    """Why there is no reply, in our words."""
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
        self._door = make_door(url, 10)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                wire = await open_wire(self._door, {})
                try:
                    await self._listen(wire)
                finally:
                    wire.close()
            except (redis.RedisError, OSError, NetworkError) as error:
                self._lost(str(error))
                await trio.sleep(_RING_PAUSE)

    async def _listen(self, wire: Wire) -> None:
        await wire.send(_pack("SUBSCRIBE", self._channel))
        asked = False
        while True:
            # A master that hangs or was cut off says nothing, and somebody else is master by now.
            with trio.move_on_after(_RING_IDLE) as idle:
                reply = await wire.read()
            if idle.cancelled_caught:
                if asked:
                    raise NetworkError("the store says nothing any more")
                await wire.send(_pack("PING"))
                asked = True
                continue
            asked = False
            if isinstance(reply, list) and reply[0] == b"subscribe":
                self._ring("")
            elif isinstance(reply, list) and reply[0] == b"message":
                self._ring(reply[2].decode("utf-8", "replace"))
