"""Limits: four workers on four sources, one site that allows 200 messages a second and 8 connections.

The sink answers each final dot after a pause, so that fewer connections than that would hardly do.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import trio

from relay.config.units import parse_rate
from tests.bench.crew import Crew, open_crew
from tests.bench.progress import Progress
from tests.bench.promise import Promise
from tests.bench.system import BenchFailed
from tests.kit.tally import Tally, count_connections, count_windows, select_messages

_RATE = parse_rate("200/s")
_CONNECTIONS = 8
_TOLERANCE = 0.02
_PAUSE = 0.025  # seconds: 8 connections take at most 320 a second
_WINDOW = 10.0  # seconds
_SKIP = 1.0  # seconds at the beginning that do not count
_SOURCES = dict.fromkeys("abcd", 1)
_STARTS_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the sink saw in ``seconds``."""

    seconds: float
    window: float
    connections: int  # at the same time, at most
    fewest: int  # messages in any window
    most: int
    sources: int  # how many of them took part

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        even = _RATE.count * self.window
        least, most = even * (1 - _TOLERANCE), even + _RATE.burst
        yield Promise(
            f"{self.connections} connections to a site that allows {_CONNECTIONS}",
            self.connections <= _CONNECTIONS,
        )
        yield Promise(
            f"{self.fewest:,} to {self.most:,} messages in any {self.window:.0f} s to a site that "
            f"allows {_RATE.count}/s (at least {least:,.0f}, at most {most:,.0f})",
            self.fewest >= least and self.most <= most,
        )

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        yield (
            f"Limits: {self.seconds:.0f} s, {len(_SOURCES)} workers, {self.sources} sources took "
            f"part: at most {self.connections} connections, {self.fewest:,} to {self.most:,} "
            f"messages in {self.window:.0f} s"
        )


def measure_limits(progress: Progress, *, seconds: float = 35.0) -> Limits:
    """Run for so many seconds after the first message. Raises BenchFailed."""
    return trio.run(_measure, progress, seconds)


async def _measure(progress: Progress, seconds: float) -> Limits:
    site = f'rate = "{_RATE.count}/s"\nconnections = {_CONNECTIONS}'
    with Tally(pause=_PAUSE) as tally:
        async with open_crew(_SOURCES, port=tally.port, site=site) as crew:
            await crew.start(*_SOURCES)
            await crew.post(int(_RATE.count * (seconds + 15)))
            begin = await _await_first(tally, crew)
            while trio.current_time() < begin + seconds:
                await trio.sleep(0.2)
                tally.read()
                done = trio.current_time() - begin
                progress.show(len(tally.records), int(_RATE.count * seconds), done)
    return _judge(tally, seconds)


async def _await_first(tally: Tally, crew: Crew) -> float:
    for _ in range(int(_STARTS_WITHIN * 100)):
        await trio.sleep(0.01)
        if tally.read():
            return trio.current_time()
    raise BenchFailed(f"nothing arrived; the workers said:\n{crew.read_output()[-3000:]}")


def _judge(tally: Tally, seconds: float) -> Limits:
    messages = select_messages(tally.records)
    times = [one.time for one in messages]
    # Short runs are for trying out: they have room for shorter windows only.
    window = min(_WINDOW, (seconds - _SKIP) // 2)
    fewest, most = count_windows(
        times, seconds=window, begin=times[0] + _SKIP, end=times[0] + seconds
    )
    return Limits(
        seconds=seconds,
        window=window,
        connections=count_connections(tally.records),
        fewest=fewest,
        most=most,
        sources=len({one.client for one in messages}),
    )
