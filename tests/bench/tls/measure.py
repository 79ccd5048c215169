"""Messages a second from the generator through a system to the sink, all of it in TLS."""

import os
import time
from collections import Counter
from dataclasses import dataclass

from tests.bench.process import read_busy
from tests.bench.progress import Progress
from tests.bench.system import BenchFailed, Running
from tests.bench.throughput import count_system, per_message, read_cpu
from tests.bench.tls.certificates import KINDS, Kind, make_certificates
from tests.bench.tls.counts import Counts
from tests.bench.tls.ends import Sink, Source, open_source
from tests.bench.tls.source import SIZE
from tests.bench.tls.system import OPEN, PER_SESSION, SYSTEMS

_WARM_UP = 10  # messages of each of the generator's first sessions
_STALL = 30.0  # seconds without a message at the sink: give up


@dataclass(frozen=True, slots=True)
class Case:
    """What one run sends: ``count`` messages, ``each`` over one session, 20 sessions at a time."""

    kind: Kind
    each: int
    count: int

    @property
    def name(self) -> str:
        """For people: ``ECDSA P-256, 100 a session``."""
        return f"{KINDS[self.kind]}, {self.each} a session"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured; ``sent`` and ``arrived`` with what went before to warm up."""

    system: str
    case: Case
    seconds: float  # from the order to the generator until the sink had the last message
    accept_seconds: float  # until the generator had its last 250
    cpu: dict[str, float]  # milliseconds of CPU per message, by process
    harness: dict[str, float]  # the same for generator and sink
    others: float  # share of the machine's CPU that went to anything else: noise
    sent: Counts
    arrived: Counts

    @property
    def rate(self) -> float:
        """Messages a second, end to end."""
        return self.case.count / self.seconds

    @property
    def fewest(self) -> int:
        """How many handshakes with the sink the messages need, at most.

        One for each full session, and one for each that may be open besides.
        """
        return self.arrived.messages // PER_SESSION + OPEN

    @property
    def is_thrifty(self) -> bool:
        """True when no handshake, on either side, was made where a session was open."""
        return self.sent.handshakes <= self.sent.sessions and (
            self.arrived.handshakes <= min(self.arrived.sessions, self.fewest)
        )


def measure(name: str, case: Case, progress: Progress) -> Run:
    """Run one case through a fresh instance of one system. Raises BenchFailed."""
    warm_up = OPEN * min(_WARM_UP, case.each)
    with (
        make_certificates(case.kind) as certificates,
        Sink(certificates) as sink,
        SYSTEMS[name](sink.port, certificates) as system,
        open_source(system.port, certificates) as source,
    ):
        try:
            # Python imports, Postfix starts its processes, everybody opens sessions.
            _Sending(source, sink, warm_up, warm_up // OPEN).watch(progress)
            run = _measure_once(name, system, source, sink, case, progress)
            system.check(warm_up + case.count)
            _check(run, warm_up + case.count, sink.read())
        except BenchFailed as error:
            raise BenchFailed(f"{name}: {error}\n{system.read_log()[-3000:]}") from None
    return run


def _measure_once(
    name: str, system: Running, source: Source, sink: Sink, case: Case, progress: Progress
) -> Run:
    pids = {"source": source.pid, "sink": sink.pid}
    cpu, before = count_system(system), {end: read_cpu(pid) for end, pid in pids.items()}
    busy, ours = read_busy(), time.process_time()
    sending = _Sending(source, sink, case.count, case.each)
    sending.watch(progress)
    spent: Counter[str] = count_system(system)
    busy, ours = read_busy() - busy, time.process_time() - ours
    spent.subtract(cpu)
    harness = {end: read_cpu(pid) - before[end] for end, pid in pids.items()}
    others = busy - ours - sum(spent.values()) - sum(harness.values())
    return Run(
        system=name,
        case=case,
        seconds=sending.seconds,
        accept_seconds=sending.accept_seconds,
        cpu=per_message(spent, case.count),
        harness=per_message(harness, case.count),
        others=max(0.0, others / (sending.seconds * (os.cpu_count() or 1))),
        sent=source.read(),
        arrived=sink.read(),
    )


def _check(run: Run, count: int, arrived: Counts) -> None:
    """Raise BenchFailed unless each message has arrived, once, and as a whole."""
    if arrived.messages != count:
        raise BenchFailed(f"{arrived.messages} of {count} messages arrived")
    if arrived.octets < count * SIZE:
        raise BenchFailed(f"only {arrived.octets} octets in {count} messages of {SIZE}")
    if run.arrived.handshakes < run.arrived.most_open:
        raise BenchFailed("sessions without TLS")


class _Sending:
    """The generator at work, watched until the sink has everything."""

    def __init__(self, source: Source, sink: Sink, count: int, each: int) -> None:
        self.seconds = 0.0  # until the last arrival
        self.accept_seconds = 0.0  # until the last 250
        self._source, self._sink = source, sink
        self._count = count
        self._sent, self._arrived = source.read().messages, sink.read().messages
        self._begun = time.monotonic()
        source.begin(count, each)

    def watch(self, progress: Progress) -> None:
        """Return when the generator is done and all has arrived. Raises BenchFailed."""
        arrived, open_sessions = 0, 1
        while arrived < self._count or open_sessions:
            time.sleep(0.005)
            seconds = time.monotonic() - self._begun
            sent = self._source.read()
            open_sessions = sent.open
            if not self.accept_seconds and sent.messages - self._sent >= self._count:
                self.accept_seconds = seconds
            if (latest := self._sink.read().messages - self._arrived) != arrived:
                arrived, self.seconds = latest, seconds
            elif seconds - self.seconds > _STALL:
                raise BenchFailed(
                    f"{arrived} of {self._count} messages, then {_STALL} s of nothing"
                )
            progress.show(arrived, self._count, seconds)
