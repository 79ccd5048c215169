"""What all processes have counted (relay/counters.py), and how each of them is just now.

``counters`` is a hash of sums that only grow, and outlive every process: fields ``name|label|label``. A
push is one script, so it has run as a whole or not at all; where its reply is lost nobody knows, and it
is taken for done: better too few than twice. So what is missing here after a crash, of a process or of
the way to the store, is what was counted in two seconds. Nothing of the kind can happen to the ledger.

``gauges`` has how each process is: fields ``service:host:pid|name``; ``at`` says when it last told, and
who has not told for GONE is gone.
"""

import contextlib
import os
import platform
from collections.abc import Callable, Mapping

import trio

from relay.counters import COUNTERS, Counters, Kind, fold
from relay.errors import StoreError, StoreUnavailable
from relay.store.keys import make_key
from relay.store.link import Link, Part

PUSH = 2.0  # s between two pushes
SOURCE = "source:"  # before its name: a gauge of how many sessions are open from it
GONE = 30.0  # s without a word, and a process is not there any more
MAX_FIELDS = 10_000  # of the counters
_CHUNK = 500  # counts of one script: mail must not wait behind thousands of ours
_LOOK = 15  # every so many pushes, for processes that are gone
_STEP = 0.25  # s: how late we wake tells how late others are
_LAST = 1.0  # s, for the last push of a process that ends
_PAGE = os.sysconf("SC_PAGE_SIZE")
# The pid namespace of the host itself: PROC_PID_INIT_INO of linux/proc_ns.h.
_HOST_PIDS = "pid:[4026531836]"

Counted = dict[str, dict[tuple[str, ...], int]]  # counter -> labels -> how many


class Books:
    """The hashes, over one link. All of it raises StoreUnavailable, StoreError."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._counters = make_key(0, "counters")
        self._gauges = make_key(0, "gauges")

    async def push(
        self,
        counts: Mapping[Kind, int],
        who: str,
        gauges: Mapping[str, float],
        *,
        look: bool = False,
    ) -> None:
        """Add what one process has counted; ``look``: forget those that are gone.

        At most _CHUNK counts: StoreUnavailable is about all of them.
        """
        arguments: list[Part] = [MAX_FIELDS, who, int(GONE * 1000) if look else 0, len(gauges)]
        for name, value in gauges.items():
            arguments += (name, f"{value:.6g}" if value < 1e5 else int(value))
        for kind, amount in counts.items():
            arguments += (_make_field(kind), _make_field(fold(kind)), amount)
        await self._link.run("push_counts", self._counters, *arguments)

    async def read(self) -> Counted:
        """Return what was counted since the store was made; ``LABELS`` says what the labels are."""
        flat = await self._link.call("HGETALL", self._counters)
        found: Counted = {}
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            name, *labels = field.decode("utf-8", "replace").split("|")
            found.setdefault(name, {})[tuple(labels)] = int(value)
        return found

    async def read_gauges(self) -> dict[tuple[str, str, str], dict[str, float]]:
        """Return how the processes that are there are: by service, host and pid."""
        now = self._link.send("TIME")
        flat = await self._link.call("HGETALL", self._gauges)
        mark = int((await now.wait())[0]) * 1000 - GONE * 1000
        found: dict[str, dict[str, float]] = {}
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            who, _, name = field.decode("utf-8", "replace").rpartition("|")
            found.setdefault(who, {})[name] = float(value)
        return {
            _split(who): gauges for who, gauges in found.items() if gauges.pop("at", 0.0) >= mark
        }


class Pusher:
    """Hands in what one process counts, and how it is. One for each process."""

    def __init__(
        self,
        link: Link,
        service: str,
        count_sessions: Callable[[], Mapping[str, int]],
        *,
        counters: Counters = COUNTERS,
    ) -> None:
        """``service``: "ingress", "worker". ``count_sessions``: how many are open just now, by source.

        Those by source that there are now must be there always: a gauge goes with its process.
        """
        self._books = Books(link)
        self._who = f"{service}:{platform.node().replace('|', '_')}:{_find_pid()}"
        self._count_sessions = count_sessions
        self._counters = counters
        self._lag = 0.0  # the longest of late, s
        self._pushes = 0

    async def run(self) -> None:
        """Push every PUSH seconds, until cancelled; then once more. Trouble waits for the next time."""
        try:
            while True:
                await self._push_quietly()
                await self._wait()
        finally:
            with trio.move_on_after(_LAST, shield=True):
                await self._push_quietly()

    async def _wait(self) -> None:
        """Sleep in steps, and see how much longer they take: so long anybody here waits for a turn."""
        self._lag = 0.0
        due = trio.current_time() + PUSH
        while (now := trio.current_time()) < due:
            await trio.sleep(_STEP)
            self._lag = max(self._lag, trio.current_time() - now - _STEP)

    async def _push_quietly(self) -> None:
        # Who looks sees that the store is away; what is not lost comes with the next push.
        with contextlib.suppress(StoreUnavailable, StoreError):
            await self.push()

    async def push(self) -> None:
        """Hand in now. Raises StoreUnavailable, StoreError; what was certainly not counted is kept."""
        counts = list(self._counters.take().items())
        gauges = self._read_gauges()
        look = self._pushes % _LOOK == 0
        self._pushes += 1
        for start in range(0, max(1, len(counts)), _CHUNK):  # also of nothing: the gauges go along
            piece = dict(counts[start : start + _CHUNK])
            try:
                await self._books.push(piece, self._who, gauges, look=look)
            except BaseException as error:
                if isinstance(error, StoreError) or _is_undone(error):
                    self._counters.give_back(piece)
                self._counters.give_back(dict(counts[start + _CHUNK :]))
                raise

    def _read_gauges(self) -> dict[str, float]:
        used, sessions = os.times(), self._count_sessions()
        return {
            **{f"{SOURCE}{name}": count for name, count in sessions.items() if name},
            "sessions": sum(sessions.values()),
            "memory": _read_memory(),
            "lag": max(0.0, self._lag),
            "cpu": used.user + used.system,
        }


def _is_undone(error: BaseException) -> bool:
    """Tell whether a push has certainly not run. Cancelled, it is on its way."""
    return isinstance(error, StoreUnavailable) and not error.executed


def _make_field(kind: Kind) -> str:
    name, labels = kind
    return "|".join((name, *labels))


def _split(who: str) -> tuple[str, str, str]:
    service, _, rest = who.partition(":")
    host, _, pid = rest.rpartition(":")
    return service, host, pid


def _read_memory() -> int:
    """Return how many octets of memory this process has; 0 where that cannot be told."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _find_pid() -> str:
    """Return our pid; with its namespace in a container: there everybody is number 1 or 7."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = _HOST_PIDS
    pid = str(os.getpid())
    return pid if space == _HOST_PIDS else f"{pid}@{space.strip('pid:[]')}"
