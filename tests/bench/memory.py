"""Memory: idle sessions, and twenty of the largest messages at once, with small ones beside them."""

import base64
import hashlib
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process import name_outgate, read_peak, read_resident, tree
from tests.bench.progress import Progress
from tests.bench.receiver import MARK
from tests.bench.system import BenchFailed
from tests.kit.gateway import Gateway
from tests.kit.sink import Sink

SESSIONS = 1000
LARGE = 20
LARGE_SIZE = 36_000_000  # what 25 MB, Gmail's limit, becomes in base64 and MIME
_DEADLINE = 180.0  # seconds for all of it to arrive


@dataclass(frozen=True, slots=True)
class Idle:
    """The ingress with nobody connected, and with sessions that have said EHLO and wait."""

    sessions: int
    start: int  # KiB
    held: int  # KiB

    @property
    def per_session(self) -> float:
        """KiB for each session beyond the start."""
        return (self.held - self.start) / self.sessions


@dataclass(frozen=True, slots=True)
class Large:
    """What it took to pass the large messages, and what the small ones felt of it."""

    messages: int
    size: int
    seconds: float  # until the last one was at the receiver
    accept_seconds: float  # until the last one had its 250
    start: dict[str, int]  # KiB of resident memory before, by process
    peak: dict[str, int]  # KiB, by process
    small: int  # how many small messages went beside them
    p50: float  # seconds from MAIL to the 250 after the dot
    p99: float
    longest: float

    def ratio(self, name: str) -> float:
        """Peak of one process to the bytes in flight."""
        return self.peak[name] * 1024 / (self.messages * self.size)


def measure_idle(progress: Progress) -> Idle:
    """Hold sessions open and look at the ingress."""
    _allow_files(SESSIONS + 200)
    # All of them come from one address.
    limits = f"client_connections = {SESSIONS}"
    with (
        Sink() as sink,
        Gateway({"*": sink.port}, ingress=limits) as gateway,
        ExitStack() as sessions,
    ):
        ingress = _find(gateway)["ingress"]
        start = read_resident(ingress)
        begun = time.monotonic()
        for number in range(SESSIONS):
            sessions.enter_context(_open_session(gateway.port))
            progress.show(number + 1, SESSIONS, time.monotonic() - begun)
        time.sleep(1)  # let it finish what it does after its reply
        return Idle(SESSIONS, start, read_resident(ingress))


def measure_large(progress: Progress, *, count: int = LARGE, size: int = LARGE_SIZE) -> Large:
    """Send large messages at once and small ones beside them. Raises BenchFailed."""
    # The default limit of the embedded store, 1 GiB, is near what is in flight here; this is not
    # about 452 4.3.1.
    with _receiver() as receiver, Gateway({"*": receiver.port}) as gateway:
        processes = _find(gateway)
        start = {name: read_resident(pid) for name, pid in processes.items()}
        senders = _Senders(gateway.port, count=count, size=size)
        begun = time.monotonic()
        senders.start()
        while not senders.large <= receiver.read().keys():
            progress.show(len(receiver.arrived), len(senders.expected), time.monotonic() - begun)
            if senders.failures or time.monotonic() - begun > _DEADLINE:
                break
            time.sleep(0.02)
        seconds = time.monotonic() - begun
        senders.stop()
        if not senders.failures:
            _wait_all(receiver, senders)
        peak = {name: read_peak(pid) for name, pid in processes.items()}
        _verify(receiver, senders, gateway)
    latencies = sorted(senders.latencies)
    return Large(
        messages=count,
        size=size,
        seconds=seconds,
        accept_seconds=senders.accepted - begun,
        start=start,
        peak=peak,
        small=len(latencies),
        p50=statistics.median(latencies),
        p99=latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))],
        longest=latencies[-1],
    )


def _wait_all(receiver: "_Receiver", senders: "_Senders") -> None:
    """The small messages that were accepted last may still be on their way."""
    deadline = time.monotonic() + 30
    while receiver.read() != senders.expected and time.monotonic() < deadline:
        time.sleep(0.05)


def _verify(receiver: "_Receiver", senders: "_Senders", gateway: Gateway) -> None:
    if senders.failures:
        raise BenchFailed(f"a sender failed: {senders.failures[0]!r}\n{gateway.read_output()}")
    if missing := senders.expected.keys() - receiver.arrived.keys():
        raise BenchFailed(f"{len(missing)} messages did not arrive, {min(missing)} for one")
    if receiver.arrived != senders.expected:
        raise BenchFailed("a message arrived with other bytes than it was sent with")
    if receiver.lines != len(senders.expected):
        raise BenchFailed(f"{receiver.lines - len(senders.expected)} messages arrived twice")
    ledger = gateway.wait_ledger(len(senders.expected))
    if not (ledger.is_closed and ledger.delivered == len(senders.expected)):
        raise BenchFailed(f"{len(senders.expected)} messages sent, but the ledger says {ledger}")


class _Senders:
    """Threads that each send one large message, and one that sends small ones until stopped."""

    def __init__(self, port: int, *, count: int, size: int) -> None:
        self.expected: dict[str, str] = {}  # mark -> "octets sha256"
        self.large = {f"large-{number}" for number in range(count)}
        self.latencies: list[float] = []
        self.failures: list[Exception] = []
        self.accepted = 0.0  # when the last large message had its 250
        self._port = port
        self._stopped = threading.Event()
        self._body = _make_body(size)
        self._small_body = _make_body(4096)
        for name in self.large:
            self._expect(name, self._body)
        self._threads = [
            threading.Thread(target=self._guard, args=(self._send_large, name))
            for name in self.large
        ]
        self._threads.append(threading.Thread(target=self._guard, args=(self._send_small, "small")))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more small messages; wait for every thread."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_DEADLINE)

    def _guard(self, send: Callable[[str], None], name: str) -> None:
        try:
            send(name)
        except Exception as error:
            self.failures.append(error)

    def _send_large(self, name: str) -> None:
        with _open_session(self._port) as session:
            _send_message(session, name, self._body)
        self.accepted = max(self.accepted, time.monotonic())

    def _send_small(self, prefix: str) -> None:
        with _open_session(self._port) as session:
            for number in range(100_000):
                if self._stopped.wait(0.01):
                    return
                name = f"{prefix}-{number}"
                begun = time.monotonic()
                _send_message(session, name, self._small_body)
                self.latencies.append(time.monotonic() - begun)
                self._expect(name, self._small_body)

    def _expect(self, name: str, body: bytes) -> None:
        digest = hashlib.sha256(_head(name))
        digest.update(body)
        self.expected[name] = f"{len(_head(name)) + len(body)} {digest.hexdigest()}"


class _Receiver:
    """The other end: what has arrived, by mark. ``output`` is what its process prints."""

    def __init__(self, output: Path) -> None:
        self.arrived: dict[str, str] = {}
        self.lines = 0
        self._output = output
        self._read = 0
        deadline = time.monotonic() + 10
        while not (line := output.read_text()).endswith("\n"):
            if time.monotonic() > deadline:
                raise BenchFailed("the receiver did not start")
            time.sleep(0.02)
        self._read = len(line)
        self.port = int(line)

    def read(self) -> dict[str, str]:
        """Take in what has arrived since the last time; return all of it."""
        with self._output.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        for line in new[: new.rfind(b"\n") + 1].decode("ascii").splitlines():
            name, _, what = line.partition(" ")
            self.arrived[name] = what
            self.lines += 1
        self._read += new.rfind(b"\n") + 1
        return self.arrived


@contextmanager
def _receiver() -> Iterator[_Receiver]:
    with tempfile.NamedTemporaryFile(prefix="receiver-") as output:
        process = subprocess.Popen([sys.executable, "-m", "tests.bench.receiver"], stdout=output)
        try:
            yield _Receiver(Path(output.name))
        finally:
            process.kill()
            process.wait()


@contextmanager
def _open_session(port: int) -> Iterator[socket.socket]:
    """A connection that has said EHLO."""
    with socket.create_connection(("127.0.0.1", port), timeout=_DEADLINE) as session:
        _expect_reply(session, b"220")
        _command(session, b"EHLO client.example.net", b"250")
        yield session


def _send_message(session: socket.socket, name: str, body: bytes) -> None:
    size = len(_head(name)) + len(body)
    _command(session, b"MAIL FROM:<sender@acme.example> SIZE=%d" % size, b"250")
    _command(session, b"RCPT TO:<recipient@dest.example>", b"250")
    _command(session, b"DATA", b"354")
    session.sendall(_head(name))
    session.sendall(body)
    session.sendall(b".\r\n")
    _expect_reply(session, b"250")


def _command(session: socket.socket, line: bytes, code: bytes) -> None:
    session.sendall(line + b"\r\n")
    _expect_reply(session, code)


def _expect_reply(session: socket.socket, code: bytes) -> None:
    """Read one reply. Nothing is pipelined, so it is all that there is to read."""
    reply = b""
    while not (reply.endswith(b"\r\n") and reply.splitlines()[-1][3:4] == b" "):
        data = session.recv(4096)
        if not data:
            raise BenchFailed(f"the gateway closed the session, {code!r} was expected")
        reply += data
    if not reply.startswith(code):
        raise BenchFailed(f"{code!r} expected, got {reply!r}")


def _head(name: str) -> bytes:
    return MARK + name.encode() + b"\r\nSubject: one of many\r\n\r\n"


def _make_body(size: int) -> bytes:
    """Random bytes in base64, in lines of 76: nothing that compresses, no line begins with a dot."""
    lines = base64.encodebytes(os.urandom(size * 57 // 78)).replace(b"\n", b"\r\n")
    return lines if lines.endswith(b"\r\n") else lines + b"\r\n"


def _find(gateway: Gateway) -> dict[str, int]:
    """Return the process ids of ingress, worker and store."""
    deadline = time.monotonic() + 10
    while True:
        found = {name_outgate(p): p.pid for p in tree(gateway.pid)}
        if {"ingress", "worker", "store"} <= found.keys():
            return {name: found[name] for name in ("ingress", "worker", "store")}
        if time.monotonic() > deadline:
            raise BenchFailed(f"expected ingress, worker and store, found {', '.join(found)}")
        time.sleep(0.05)


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
