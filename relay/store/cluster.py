"""A link to a Cluster: a driver for each master, and each command to the one that has its slot.

Theory of operation
===================
All keys of a transition share a tag, so each command has one slot, and the chart (chart.py) says
which master has it. For each master there is a node: a Link of its own, with one connection and one
pipeline a round trip; nodes work side by side. What is handed in without a pause in between, for one
shard, reaches the server in that order.

The chart is read when the link begins, and again whenever somebody has reason to doubt it: a
connection was lost, a command was answered MOVED or CLUSTERDOWN. Until there is a better one, commands
go by the old one and fail as they do when a server is away. While there is none they wait for it.

    MOVED        it did not run: it goes to who has the slot now, a few times at most
    ASK          its slot is on the way, its key has gone ahead: it goes after it, over a connection of
                 its own, on which each command is announced by ASKING
    ASK, to a    not followed, it fails as not executed: there it would see only those keys that have
    script       arrived, and take the others for absent. The scripts of a Cluster have a guard for the
                 other half of this, see scripts.py.
    CLUSTERDOWN  not executed; the caller may come back
    TRYAGAIN

Commands without a key go to the master of the first shard: PING, TIME, and PUBLISH, which the Cluster
passes on to all. ``call_each`` asks every master that has a shard. The time is that of another node
for other shards: DESIGN.md says what depends on it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import hiredis
import trio

from relay.config.storeurl import Place, read_store_url, write_place
from relay.errors import StoreUnavailable
from relay.store.chart import Chart, find_slot, read_chart
from relay.store.door import make_door
from relay.store.keys import make_tag
from relay.store.link import LONG_OCTETS, Link, Part, Pending, Reply, make_unavailable
from relay.store.scripts import Script, make_scripts
from relay.store.wire import Wire

_SCRIPTS: Mapping[str, Script] = make_scripts(guarded=True)
_MOST_HOPS = 5
_PAUSE = 0.2  # seconds between two looks for a better chart
_KEYLESS = frozenset({
    "CLIENT", "CONFIG", "DBSIZE", "ECHO", "FLUSHDB", "INFO", "PING", "PUBLISH", "PUBSUB", "ROLE", "SCRIPT",
    "TIME", "WAIT",
})  # fmt: skip
_ASKING = b"*1\r\n$6\r\nASKING\r\n"


class Routed(Pending):
    """A command with the slot of its key, and what else must be known to send it on."""

    __slots__ = ("hops", "long", "scripted", "slot")

    def __init__(
        self,
        name: str,
        parts: tuple[Part, ...],
        slot: int,
        *,
        scripted: bool,
        behind: Pending | None = None,
    ) -> None:
        super().__init__(name, parts)
        self.slot = slot
        self.scripted = scripted
        self.long = len((behind or self).packed) > LONG_OCTETS  # which queue; see Link._hand_in
        self.hops = 0


class _Redirect(Exception):
    """The command did not run here: MOVED or ASK, the slot, and where to."""

    def __init__(self, text: str, asked: Place) -> None:
        super().__init__(text)
        word, slot, target, *_ = text.split(" ")
        host, _, port = target.rpartition(":")
        self.asks = word == "ASK"
        self.slot = int(slot)
        # No name: the one that was asked. "?": it does not know.
        self.place = None if host == "?" else (host or asked[0], int(port))


class _Node(Link):
    """The driver of one master."""

    scripts = _SCRIPTS

    def __init__(
        self,
        cluster: "ClusterLink",
        place: Place,
        *,
        timeout: float,
        replicas: int,
        leisure: int,
    ) -> None:
        self.place = place
        self._cluster = cluster
        url = cluster.address.make_url(place)
        super().__init__(url, timeout=timeout, replicas=replicas, leisure=leisure)

    def take_strangers(self, chart: Chart) -> list[Routed]:
        """Take out what waits here and belongs elsewhere now, in order."""
        taken = []
        for waiting in (self._short, self._long):
            calls = list(waiting)
            waiting.clear()
            for call in calls:
                if isinstance(call, Routed) and chart.owners[call.slot] != self.place:
                    taken.append(call)
                else:
                    waiting.append(call)
        return taken

    def put(self, call: Routed) -> None:
        """Take over a call, behind what waits in the same queue already."""
        if self._closing:
            call.resolve(_refuse("the link to the store is closed"))
            return
        (self._long if call.long else self._short).append(call)
        self._wake()

    def _find_shard(self) -> int | None:
        return self._cluster.find_shard(self.place)

    def _judge(self, error: hiredis.ReplyError, call: Pending) -> Exception:
        text = str(error)
        if text.startswith(("MOVED ", "ASK ")) and isinstance(call, Routed):
            return _Redirect(text, self.place)
        if text.startswith(("CLUSTERDOWN", "READONLY")):
            self._cluster.doubt(self.place)
        return super()._judge(error, call)

    def _resolve(self, calls: list[Pending], replies: list[Reply]) -> None:
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, _Redirect) and isinstance(call, Routed):
                self._cluster.redirect(call, reply, self.place)
            else:
                call.resolve(reply)

    def _drop(self) -> None:
        super()._drop()
        if not self._closing:
            self._cluster.doubt(self.place)


class _Usher(_Node):
    """Takes commands after keys that have gone ahead of their slot: never scripts."""

    async def _pass(self, wire: Wire, calls: list[Pending], replies: list[Reply]) -> None:
        await wire.send(b"".join([_ASKING + call.packed for call in calls]))
        for call in calls:
            await wire.read()
            reply = await wire.read()
            replies.append(
                self._judge(reply, call) if isinstance(reply, hiredis.ReplyError) else reply
            )


class ClusterLink(Link):
    """The link of a process to a Cluster. See Link, and this module's docstring."""

    scripts = _SCRIPTS

    def __init__(self, url: str, *, timeout: float, replicas: int = 0, leisure: int = 1) -> None:
        """See Link. It has no driver itself, so it does not begin as one."""
        self.url = url
        self.replicas = replicas
        self.address = read_store_url(url)
        make_door(url, timeout)  # raises ValueError for options that are none
        self._options: dict[str, Any] = {
            "timeout": timeout, "replicas": replicas, "leisure": leisure,
        }  # fmt: skip
        self._timeout = timeout
        self._closing = False
        self._chart: Chart | None = None
        self._nodes: dict[Place, _Node] = {}
        self._ushers: dict[Place, _Usher] = {}
        self._unplaced: list[Routed] = []  # handed in before there was a chart
        self._doubted: set[Place] = set()
        self._wanted = trio.Event()  # a better chart
        self._looked = trio.Event()  # somebody has looked for one since this was made
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self._wanted.set()
        trio.lowlevel.spawn_system_task(self._keep_chart, name="store-chart")

    # -- handing in ---------------------------------------------------------------------------

    def start(
        self, script: str, shard_key: str, *arguments: Part, behind: Pending | None = None
    ) -> Pending:
        """See Link."""
        parts = (b"EVALSHA", _SCRIPTS[script].digest, 1, shard_key, *arguments)
        call = Routed(script, parts, find_slot(shard_key), scripted=True, behind=behind)
        return self._hand_over(call)

    def send(self, *parts: Part) -> Pending:
        """See Link; the key is the first argument, or there is none."""
        name = str(parts[0])
        scripted = name in ("EVAL", "EVALSHA")
        return self._hand_over(Routed(name, parts, _find_slot_of(name, parts), scripted=scripted))

    async def call_each(self, *parts: Part) -> Sequence[tuple[str, Reply]]:
        """See Link."""
        if self._chart is None:
            await self._look()
        if self._chart is None:
            raise StoreUnavailable("the store does not answer: no node of it does", executed=False)
        places = self._chart.masters
        asked = [self._find_node(place).send(*parts) for place in places]
        return [
            (write_place(place), await one.wait()) for place, one in zip(places, asked, strict=True)
        ]

    def _hand_over(self, call: Routed) -> Routed:
        if self._closing:
            raise StoreUnavailable("the link to the store is closed", executed=False)
        if self._chart is None:
            self._unplaced.append(call)
            self._wanted.set()
        else:
            self._assign(call, self._chart)
        return call

    def _assign(self, call: Routed, chart: Chart) -> None:
        """Give a call to the node that has its slot."""
        place = chart.owners[call.slot]
        if place is None:
            self.doubt()
            call.resolve(_refuse(f"slot {call.slot} is on no node of the Cluster"))
        else:
            self._find_node(place).put(call)

    def _find_node(self, place: Place) -> _Node:
        if place not in self._nodes:
            self._nodes[place] = _Node(self, place, **self._options)
        return self._nodes[place]

    async def aclose(self) -> None:
        """Let the nodes finish what was handed in, then end them."""
        with trio.CancelScope(shield=True):
            if self._unplaced:
                await self._look()
            self._closing = True
            for node in [*self._nodes.values(), *self._ushers.values()]:
                await node.aclose()
            self._scope.cancel()
            await self._ended.wait()

    # -- what nodes tell ----------------------------------------------------------------------

    def find_shard(self, place: Place) -> int | None:
        """Return a shard that a master has, if it has any."""
        shards = self._chart.find_shards(place) if self._chart is not None else []
        return shards[0] if shards else None

    def doubt(self, place: Place | None = None) -> None:
        """Have the chart read again, soon; ``place``: who gave reason to doubt, and is asked last."""
        if place is not None:
            self._doubted.add(place)
        self._wanted.set()

    def redirect(self, call: Routed, redirect: _Redirect, place: Place) -> None:
        """Send a call on that did not run where it was."""
        call.hops += 1
        if redirect.place is None or call.hops > _MOST_HOPS:
            self.doubt(place)
            call.resolve(_refuse(f"{redirect} (a slot that is on the move)"))
        elif redirect.asks and call.scripted:
            call.resolve(_refuse("this part of the store moves to another node"))
        elif redirect.asks:
            if redirect.place not in self._ushers:
                self._ushers[redirect.place] = _Usher(self, redirect.place, **self._options)
            self._ushers[redirect.place].put(call)
        else:
            assert self._chart is not None
            if self._chart.owners[redirect.slot] != redirect.place:
                self._chart.owners[redirect.slot] = redirect.place
                self.doubt()
            self._find_node(redirect.place).put(call)

    # -- the chart ----------------------------------------------------------------------------

    async def _keep_chart(self) -> None:
        try:
            with self._scope:
                while True:
                    await self._wanted.wait()
                    self._wanted = trio.Event()
                    await self._read_chart()
                    looked, self._looked = self._looked, trio.Event()
                    looked.set()
                    await trio.sleep(_PAUSE)
        finally:
            self._closing = True
            self._ended.set()

    async def _look(self) -> None:
        """Wait until the chart has been looked for once more."""
        looked = self._looked
        self._wanted.set()
        await looked.wait()

    async def _read_chart(self) -> None:
        doubted = frozenset(self._doubted)
        read = partial(read_chart, self.address, self._timeout, list(self._nodes), doubted)
        try:
            chart = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
        except Exception as error:  # whatever it is, the callers must hear of it
            for call in self._take_unplaced():
                call.resolve(make_unavailable(error, executed=False))
            return
        self._doubted -= doubted
        self._chart = chart
        for call in self._take_unplaced():
            self._assign(call, chart)
        for node in list(self._nodes.values()):
            for call in node.take_strangers(chart):
                self._assign(call, chart)
        for place in self._nodes.keys() - set(chart.owners):
            # Nothing will be handed in there any more. What it has been given, it finishes.
            trio.lowlevel.spawn_system_task(self._nodes.pop(place).aclose, name="store-node")

    def _take_unplaced(self) -> list[Routed]:
        unplaced, self._unplaced = self._unplaced, []
        return unplaced


def _find_slot_of(name: str, parts: tuple[Part, ...]) -> int:
    if name in ("EVAL", "EVALSHA"):
        key: Part = parts[3]
    elif name in _KEYLESS or len(parts) < 2:
        key = make_tag(0)
    else:
        key = parts[1]
    return find_slot(key if isinstance(key, str | bytes) else str(key))


def _refuse(text: str) -> StoreUnavailable:
    return make_unavailable(RuntimeError(text), executed=False)
