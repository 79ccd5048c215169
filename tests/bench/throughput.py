"""Messages a second from smtp-source through a system to smtp-sink, and what they cost."""

import contextlib
import os
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process import count_cpu, read, read_busy
from tests.bench.progress import Progress
from tests.bench.proven import write_message
from tests.bench.system import SYSTEMS, BenchFailed, Running
from tests.kit.sink import Sink, source_command

_WARM_UP = 200
_STALL = 30.0  # seconds without a message at the sink: give up


@dataclass(frozen=True, slots=True)
class Load:
    """What one run sends: ``count`` messages with bodies of ``size`` octets, over 20 sessions."""

    size: int
    count: int
    reuse: bool  # sessions are kept; otherwise each message has a connection of its own


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured."""

    system: str
    load: Load
    seconds: float  # from the start of smtp-source until the sink had the last message
    accept_seconds: float  # until smtp-source had its last 250
    cpu: dict[str, float]  # milliseconds of CPU per message, by process
    harness: dict[str, float]  # the same for smtp-source and smtp-sink
    others: float  # share of the machine's CPU that went to anything else: noise
    peak: dict[str, int]  # KiB of resident memory, by process

    @property
    def rate(self) -> float:
        """Messages a second, end to end."""
        return self.load.count / self.seconds


def measure(name: str, load: Load, progress: Progress) -> Run:
    """Run one load through a fresh instance of one system. Raises BenchFailed."""
    with (
        Sink() as sink,
        SYSTEMS[name](sink.port) as system,
        write_message(load.size) if system.proven else contextlib.nullcontext() as message,
    ):
        try:
            # Python imports, Postfix starts its processes, everybody opens connections.
            warm_up = Load(load.size, _WARM_UP, load.reuse)
            _Sending(system, sink, warm_up, message).watch(progress)
            run = _measure_once(name, system, sink, load, message, progress)
            system.check(_WARM_UP + load.count)
            if sink.count != _WARM_UP + load.count:
                raise BenchFailed(f"the sink has {sink.count - _WARM_UP} of {load.count} messages")
        except BenchFailed as error:
            raise BenchFailed(f"{name}: {error}\n{system.read_log()[-3000:]}") from None
    return run


def _measure_once(
    name: str, system: Running, sink: Sink, load: Load, message: Path | None, progress: Progress
) -> Run:
    cpu, sink_cpu = count_system(system), read_cpu(sink.pid)
    busy, ours = read_busy(), time.process_time()
    sending = _Sending(system, sink, load, message)
    sending.watch(progress)
    spent, busy, ours = count_system(system), read_busy() - busy, time.process_time() - ours
    spent.subtract(cpu)
    harness = {"source": sending.source_cpu, "sink": read_cpu(sink.pid) - sink_cpu}
    others = busy - ours - sum(spent.values()) - sum(harness.values())
    return Run(
        system=name,
        load=load,
        seconds=sending.seconds,
        accept_seconds=sending.accept_seconds,
        cpu=per_message(spent, load.count),
        harness=per_message(harness, load.count),
        others=max(0.0, others / (sending.seconds * (os.cpu_count() or 1))),
        peak=system.peaks(),
    )


class _Sending:
    """One smtp-source at work, watched until the sink has everything."""

    def __init__(self, system: Running, sink: Sink, load: Load, message: Path | None) -> None:
        self.seconds = 0.0  # until the last arrival
        self.accept_seconds = 0.0  # until the last 250
        self.source_cpu = 0.0
        self._sink = sink
        self._count = load.count
        self._first = sink.count
        command = source_command(
            system.port, count=load.count, size=load.size, reuse=load.reuse,
            sender="sender@acme.example", recipient="recipient@dest.example", message=message,
        )  # fmt: skip
        self._begun = time.monotonic()
        self._source = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def watch(self, progress: Progress) -> None:
        """Return when smtp-source is done and all has arrived. Raises BenchFailed."""
        arrived = 0
        with self._source:
            try:
                while arrived < self._count or self._source.returncode is None:
                    time.sleep(0.01)
                    seconds = time.monotonic() - self._begun
                    if (latest := self._sink.count - self._first) != arrived:
                        arrived, self.seconds = latest, seconds
                    elif seconds - self.seconds > _STALL:
                        raise BenchFailed(
                            f"{arrived} of {self._count} messages, then {_STALL} s of nothing"
                        )
                    self._ask_source(seconds)
                    progress.show(arrived, self._count, seconds)
            finally:
                self._source.kill()

    def _ask_source(self, seconds: float) -> None:
        """Note that smtp-source has ended, when it has. Raises BenchFailed when it failed."""
        if self._source.returncode is not None:
            return
        pid, status, usage = os.wait4(self._source.pid, os.WNOHANG)
        if pid == 0:
            return
        self.accept_seconds = seconds
        self.source_cpu = usage.ru_utime + usage.ru_stime
        self._source.returncode = os.waitstatus_to_exitcode(status)
        if self._source.returncode:
            assert self._source.stderr is not None
            raise BenchFailed(self._source.stderr.read().decode("utf-8", "replace"))


def count_system(system: Running) -> Counter[str]:
    """Return the CPU seconds that a system has used so far, by process."""
    return count_cpu(system.root, system.naming) if system.root else Counter()


def read_cpu(pid: int) -> float:
    """Return the CPU seconds that one process has used so far; 0 when it is gone."""
    process = read(pid)
    return process.cpu if process else 0.0


def per_message(seconds: dict[str, float] | Counter[str], count: int) -> dict[str, float]:
    """Return milliseconds for a message, by process; without those that used nothing."""
    return {name: value * 1000 / count for name, value in sorted(seconds.items()) if value > 0}
