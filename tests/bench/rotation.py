"""Rotation: three workers on three sources of weight 5, 2 and 3, messages to one site.

Plain: the worker of the heaviest source gets less of the processor than the others, and the shares
hold all the same. Halted: one worker stands still in the middle, and the others do without it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from tests.bench.crew import Crew, open_crew
from tests.bench.progress import Progress
from tests.bench.promise import Promise
from tests.bench.system import BenchFailed
from tests.kit.tally import Tally, find_longest_gap, select_messages

_WEIGHTS = {"a": 5, "b": 2, "c": 3}
_MESSAGES = 1_000
_TOLERANCE = 0.02
_SLOWER = {"a": 10}  # nice
# The halted case: a rate, so that it is known how long it would take with all of them.
_RATE = 200  # a second
_BEFORE, _HALT = 1.0, 5.0  # seconds with all of them, then without the heaviest
_GAP = 2.0  # seconds: a turn is forfeited after one
_DRAIN = 1.5  # times as long as with all of them
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """What came from which source, and how a halt was felt."""

    messages: int
    shares: dict[str, int]
    gap: float  # seconds without an arrival while one stood still
    drain: float  # seconds for all of the halted case
    even: float  # ... and what they take at the site's rate

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        wanted = self.wanted()
        yield Promise(
            f"{_join(self.shares)} of {self.messages:,} messages from sources of weight "
            f"{_join(_WEIGHTS)} (within {_TOLERANCE:.0%} of {_join(wanted)})",
            all(
                abs(self.shares[name] - count) <= _TOLERANCE * count
                for name, count in wanted.items()
            ),
        )
        yield Promise(
            f"a source that stands still: the others go on after {self.gap:.2f} s "
            f"(at most {_GAP:.0f})",
            self.gap <= _GAP,
        )
        yield Promise(
            f"a source that stands still for {_HALT:.0f} s: all delivered in {self.drain:.1f} s "
            f"(at most {_DRAIN} x {self.even:.1f})",
            self.drain <= _DRAIN * self.even,
        )

    def wanted(self) -> dict[str, int]:
        """Return the share of each source."""
        whole = sum(_WEIGHTS.values())
        return {name: self.messages * weight // whole for name, weight in _WEIGHTS.items()}

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        yield (
            f"Rotation: {_join(self.shares)} of {self.messages:,}, the first one's worker slowed "
            f"down; with it halted a gap of {self.gap:.2f} s, all delivered in {self.drain:.1f} s"
        )


def measure_rotation(progress: Progress) -> Rotation:
    """Measure both cases. Raises BenchFailed."""
    return trio.run(_measure, progress)


async def _measure(progress: Progress) -> Rotation:
    shares = await _run_plain(progress)
    gap, drain, messages = await _run_halted(progress)
    return Rotation(_MESSAGES, shares, gap, drain, messages / _RATE)


async def _run_plain(progress: Progress) -> dict[str, int]:
    with Tally() as tally:
        async with open_crew(_WEIGHTS, port=tally.port, site="") as crew:
            await crew.start(*_WEIGHTS, nice=_SLOWER)
            await crew.post(_MESSAGES)
            await _await_all(tally, crew, _MESSAGES, progress)
            clients = Counter(one.client for one in select_messages(tally.records))
            return {name: clients[address] for name, address in crew.addresses.items()}


async def _run_halted(progress: Progress) -> tuple[float, float, int]:
    """Return the longest gap in the halt, the seconds that it all took, and how many it were."""
    messages = int(_RATE * (_BEFORE + _HALT + 2))
    with Tally() as tally:
        site = f'rate = "{_RATE}/s"'
        async with open_crew(_WEIGHTS, port=tally.port, site=site) as crew:
            await crew.start(*_WEIGHTS)
            await crew.post(messages)
            await _await_all(tally, crew, 1, progress)
            await trio.sleep(_BEFORE)
            crew.halt("a")
            halted = _now(tally)
            await trio.sleep(_HALT)
            crew.resume("a")
            await _await_all(tally, crew, messages, progress)
    times = [one.time for one in select_messages(tally.records)]
    gap = find_longest_gap(times, begin=halted, end=halted + _HALT)
    return gap, times[-1] - times[0], messages


def _now(tally: Tally) -> float:
    """Return the time of the last arrival: the sink's clock."""
    tally.read()
    return tally.records[-1].time


async def _await_all(tally: Tally, crew: Crew, count: int, progress: Progress) -> None:
    begun = trio.current_time()
    with trio.move_on_after(_PATIENCE):
        while (arrived := len(select_messages(tally.records))) < count:
            progress.show(arrived, count, trio.current_time() - begun)
            await trio.sleep(0.05)
            tally.read()
        return
    raise BenchFailed(
        f"{len(select_messages(tally.records))} of {count} messages arrived; the workers said:\n"
        f"{crew.read_output()[-3000:]}"
    )


def _join(shares: dict[str, int]) -> str:
    return "/".join(map(str, shares.values()))
