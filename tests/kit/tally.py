"""What the counting sink has seen: its process, and what can be told from its records.

with Tally() as tally:
    ...                      # mail goes to tally.port
    tally.read()
    assert count_connections(tally.records) <= 8
"""

import bisect
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kit.counter import CLOSED, MESSAGE, OPENED, RECORD
from tests.kit.program import Program

_ROOT = Path(__file__).parents[2]
_SELF = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Record:
    """Something that the sink saw. Seconds on the monotonic clock."""

    kind: bytes  # OPENED, CLOSED or MESSAGE
    time: float
    sent: float  # 0: the message did not say
    client: str


class Tally(Program):
    """A running ``tests.kit.counter``; also a context manager.

    ``records`` holds what was read so far. It listens on 127.0.0.1 and on ``addresses`` besides;
    connections from 127.0.0.1 itself, with which we look whether it runs, are not recorded.
    """

    name = "the counting sink"

    def __init__(self, *addresses: str, pause: float = 0.0) -> None:
        super().__init__()
        self.records: list[Record] = []
        self._addresses = (_SELF, *addresses)
        self._pause = pause
        self._file = tempfile.NamedTemporaryFile(prefix="tally-")  # noqa: SIM115
        self._rest = b""

    def _launch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable, "-m", "tests.kit.counter",
                self._file.name, str(self._pause), str(self.port), *self._addresses,
            ],
            cwd=_ROOT, stdin=subprocess.PIPE, process_group=0,
        )  # fmt: skip

    def stop(self) -> None:
        """End it, and remove its file; ``records`` stay."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
        super().stop()
        self._file.close()

    def read(self) -> list[Record]:
        """Read what has come since the last time, and return it."""
        octets = self._rest
        while piece := os.read(self._file.fileno(), 1 << 20):
            octets += piece
        whole = len(octets) - len(octets) % RECORD.size
        self._rest = octets[whole:]
        fresh = [
            record
            for record in (
                Record(kind, when, sent, socket.inet_ntoa(client))
                for kind, when, sent, client in RECORD.iter_unpack(octets[:whole])
            )
            if record.kind == MESSAGE or record.client != _SELF
        ]
        self.records += fresh
        return fresh

    def wait(
        self,
        enough: Callable[[], bool],
        *,
        seconds: float,
        poll: float = 0.02,
    ) -> bool:
        """Read until ``enough()``, for ``seconds`` at most; say whether it came to that."""
        deadline = time.monotonic() + seconds
        while True:
            self.read()
            if enough():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(poll)


def select_messages(records: Iterable[Record]) -> list[Record]:
    """Return those that are final dots."""
    return [record for record in records if record.kind == MESSAGE]


def count_connections(records: Iterable[Record]) -> int:
    """Return how many connections were open at the same time, at most."""
    present = most = 0
    for record in records:
        present += {OPENED: 1, CLOSED: -1}.get(record.kind, 0)
        most = max(most, present)
    return most


def count_windows(
    times: Sequence[float], *, seconds: float, begin: float, end: float
) -> tuple[int, int]:
    """Return the fewest and the most of ``times`` in any ``seconds`` between ``begin`` and ``end``.

    ``times`` are in order. Every window counts, whenever it begins: the fullest begin with one of
    the times, the emptiest right after one. Raises ValueError when no window fits in.
    """
    if end - begin < seconds:
        raise ValueError(f"no {seconds} s between {begin} and {end}")
    starts = [begin, *(when for when in times if begin <= when <= end - seconds)]
    full = (
        bisect.bisect_left(times, start + seconds) - bisect.bisect_left(times, start)
        for start in starts
    )
    empty = (
        bisect.bisect_right(times, start + seconds) - bisect.bisect_right(times, start)
        for start in starts
    )
    return min(empty), max(full)


def find_percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a ``share`` (0 to 1) of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def find_longest_gap(times: Sequence[float], *, begin: float, end: float) -> float:
    """Return the longest time without any of ``times`` (in order) between ``begin`` and ``end``."""
    inside = [begin, *(when for when in times if begin < when < end), end]
    return max(after - before for before, after in itertools.pairwise(inside))
