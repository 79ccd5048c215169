"""Thousands of SMTP clients in one process, honest ones or others: ``python -m tests.kit.throng``.

The process reads what it should be, in JSON, as its first line; each further line is a command
("attack", "rest", "end"). Four times a second it writes a line with what it has counted so far.

A client is a generator. It yields None to wait for a reply, whose last line it gets, or a number of
seconds; ``Gone`` is raised in it when its connection ends. What it sends is small, and fits.
"""

import contextlib
import errno
import heapq
import itertools
import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Self

Steps = Generator[float | None, bytes, None]
_TICK = 0.25  # seconds between two reports
_AGAIN = 0.05  # seconds before an honest client that was turned away comes back
_MESSAGE = b"From: Ann <ann@acme.example>\r\nSubject: x\r\n\r\n" + (b"x" * 62 + b"\r\n") * 64
_ENVELOPE = b"MAIL FROM:<ann@acme.example>\r\nRCPT TO:<b@there.test>\r\n"
# The beginning of a ClientHello, which goes on for 16 KiB.
_HELLO = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"


class Gone(Exception):
    """The connection has ended."""


class Client:
    """One connection, and the generator that uses it."""

    def __init__(self, role: Callable[["Client"], Steps], sock: socket.socket, name: str) -> None:
        self.name = name
        self.sock = sock
        self.input = b""
        self.sleeps = False
        self.steps = role(self)

    def send(self, octets: bytes) -> None:
        try:
            self.sock.send(octets)
        except OSError as error:
            raise Gone from error


class Throng:
    """All clients, and their loop."""

    def __init__(self, port: int) -> None:
        self.counts: Counter[str] = Counter()
        self.clients: dict[int, Client] = {}
        self.on_end: Callable[[Client], None] = lambda client: None
        self._port = port
        self._poll = select.epoll()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._orders = b""
        self.ended = False
        self.on_order: Callable[[str], None] = lambda order: None

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something in so many seconds."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), call))

    def open(self, role: Callable[[Client], Steps], address: str, name: str) -> None:
        """Connect a client from an address."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: ports by pair, ip(7)
        sock.bind((address, 0))
        client = Client(role, sock, name)
        if sock.connect_ex(("127.0.0.1", self._port)) not in (0, errno.EINPROGRESS):
            sock.close()
            self.on_end(client)
            return
        self.clients[sock.fileno()] = client
        self._poll.register(sock, select.EPOLLIN)
        self._step(client, lambda: next(client.steps))

    def close(self, client: Client) -> None:
        """End a client's connection, whatever it was doing."""
        if self.clients.pop(client.sock.fileno(), None) is not None:
            client.sock.close()
            client.steps.close()

    def run(self) -> None:
        """Serve until told to end."""
        self._poll.register(0, select.EPOLLIN)
        self._report()
        while not self.ended:
            wait = max(0.0, self._timers[0][0] - time.monotonic())
            for number, _ in self._poll.poll(wait, 256):
                if number == 0:
                    self._take_orders()
                elif (client := self.clients.get(number)) is not None:
                    self._receive(client)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()

    def _report(self) -> None:
        # CLOCK_MONOTONIC is the machine's: whoever reads this has the same.
        line = {"time": time.monotonic(), "open": len(self.clients), **self.counts}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        self.at(_TICK, self._report)

    def _take_orders(self) -> None:
        octets = sys.stdin.buffer.raw.read(4096)  # type: ignore[attr-defined]
        *orders, self._orders = (self._orders + octets).split(b"\n")
        for order in ["end"] if not octets else [order.decode() for order in orders]:
            self.ended = self.ended or order == "end"
            self.on_order(order)

    def _receive(self, client: Client) -> None:
        try:
            octets = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._step(client, lambda: client.steps.throw(Gone()))
            return
        client.input += octets
        self._go_on(client)

    def _go_on(self, client: Client) -> None:
        while not client.sleeps and b"\n" in client.input and client.sock.fileno() in self.clients:
            line, _, client.input = client.input.partition(b"\n")
            if line[3:4] != b"-":
                self._step(client, lambda line=line: client.steps.send(line))  # type: ignore[misc]

    def _step(self, client: Client, step: Callable[[], float | None]) -> None:
        try:
            wait = step()
        except (StopIteration, Gone):
            if self.clients.pop(client.sock.fileno(), None) is not None:
                client.sock.close()
                self.on_end(client)
            return
        if wait is not None:
            client.sleeps = True
            self.at(wait, lambda: self._wake(client))

    def _wake(self, client: Client) -> None:
        if self.clients.get(client.sock.fileno()) is client:
            client.sleeps = False
            self._step(client, lambda: client.steps.send(b""))
            if self.clients.get(client.sock.fileno()) is client:
                self._go_on(client)


# -- honest clients


class Honest:
    """Send as fast as they can, in sessions that are kept or in one for each message."""

    def __init__(self, port: int, groups: Mapping[str, Mapping[str, Any]]) -> None:
        """``groups``: by name; ``count`` of sessions, their ``address``, are they ``kept``?"""
        self.throng = throng = Throng(port)
        self._groups = groups
        self._stopping = False
        throng.on_end = self._come_again
        throng.on_order = self._obey
        for name, group in groups.items():
            for _ in range(group["count"]):
                throng.open(self._send, group["address"], name)

    def _obey(self, order: str) -> None:
        self._stopping = self._stopping or order == "rest"

    def _come_again(self, client: Client) -> None:
        if not self._stopping:
            group = self._groups[client.name]
            turned_away = client.input == b"again"
            self.throng.at(
                _AGAIN if turned_away else 0.0,
                lambda: self.throng.open(self._send, group["address"], client.name),
            )

    def _send(self, client: Client) -> Steps:
        counts, kept = self.throng.counts, self._groups[client.name]["kept"]
        counts["connections"] += 1
        doing = "turned away"
        try:
            yield from _expect(b"220")
            doing = "displaced"
            client.send(b"EHLO honest.test\r\n")
            yield from _expect(b"250")
            while not self._stopping:
                client.send(_ENVELOPE + b"DATA\r\n")
                for code in (b"250", b"250", b"354"):
                    yield from _expect(code)
                doing = "unknown"
                client.send(_MESSAGE + b".\r\n")
                yield from _expect(b"250")
                counts[client.name] += 1
                doing = "displaced"
                if not kept:
                    break
            client.send(b"QUIT\r\n")
            yield from _expect(b"221")
        except Gone:
            counts[doing] += 1
            client.input = b"again"
            raise


def _expect(code: bytes) -> Steps:
    reply = yield None
    if reply[:3] != code:
        raise Gone(reply)


# -- attackers


class Attackers:
    """Open connections, do next to nothing with them, and open again what is closed."""

    def __init__(
        self, port: int, *, idle: int, dribbling: int, addresses: list[str], burst: int, again: int
    ) -> None:
        """``burst``: connections a second until all were opened once; ``again``: afterwards."""
        self.throng = Throng(port)
        self.throng.on_end = self._note_end
        self.throng.on_order = self._obey
        self._roles = [*_mix((_be_silent, _greet), idle), *_mix(_DRIBBLES, dribbling)]
        self._addresses = addresses
        self._rates = burst, again
        self._active = False
        self._waiting: list[int] = []  # to be opened
        self._fresh = 0  # not opened once yet
        self._begun = 0.0
        self._allowance = 0.0

    def _obey(self, order: str) -> None:
        if order == "attack":
            self._active = True
            # So that there is some of each kind, from each address, from the beginning on.
            step = 1009
            count = len(self._roles)
            self._waiting = [number * step % count for number in range(count)][::-1]
            self._fresh = count
            self._begun = time.monotonic()
            self._open_some()
        elif order == "rest":
            self._active = False
            for client in list(self.throng.clients.values()):
                self.throng.close(client)

    def _open_some(self) -> None:
        if not self._active:
            return
        burst, again = self._rates
        now = time.monotonic()
        rate = burst if self._fresh else again
        self._allowance = min(self._allowance + (now - self._begun) * rate, rate / 4)
        self._begun = now
        while self._allowance >= 1 and self._waiting:
            self._allowance -= 1
            self._fresh = max(0, self._fresh - 1)
            number = self._waiting.pop()
            self.throng.counts["opened"] += 1
            address = self._addresses[number % len(self._addresses)]
            self.throng.open(self._roles[number], address, str(number))
        self.throng.at(0.02, self._open_some)

    def _note_end(self, client: Client) -> None:
        self.throng.counts["closed"] += 1
        self._waiting.insert(0, int(client.name))


def _mix(
    roles: tuple[Callable[[Client], Steps], ...], count: int
) -> list[Callable[[Client], Steps]]:
    return list(itertools.islice(itertools.cycle(roles), count))


def _be_silent(client: Client) -> Steps:
    while True:
        yield None


def _greet(client: Client) -> Steps:
    yield None
    client.send(b"EHLO attacker.test\r\n")
    while True:
        yield None


def _dribble(*lines: bytes, beginning: bytes = b"") -> Callable[[Client], Steps]:
    """Say some lines, then ``beginning`` and more, an octet a second."""

    def role(client: Client) -> Steps:
        yield None
        for line in lines:
            client.send(line + b"\r\n")
            if not line.startswith(b"BDAT"):
                yield from _expect_some()
        for octet in itertools.chain(beginning, itertools.repeat(120)):
            client.send(bytes([octet]))
            yield 1.0

    return role


def _expect_some() -> Steps:
    reply = yield None
    if reply[:1] not in (b"2", b"3"):
        raise Gone(reply)


_OPEN = (b"EHLO attacker.test", *_ENVELOPE.splitlines())
_DRIBBLES = (
    _dribble(beginning=b"EHLO "),
    _dribble(*_OPEN, b"DATA"),
    _dribble(*_OPEN, b"BDAT 100000"),
    _dribble(b"EHLO attacker.test", b"STARTTLS", beginning=_HELLO),
)


# -- the process


class Running:
    """A process of such clients, and what it has told; also a context manager."""

    def __init__(self, kind: str, **arguments: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.throng"], cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.reports: list[dict[str, float]] = []
        self.order(json.dumps({"kind": kind, **arguments}))

    def order(self, order: str) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode() + b"\n")
        self._process.stdin.flush()

    def listen(self, until: float) -> dict[str, float]:
        """Take reports until one is of this time (monotonic) or later; return it."""
        assert self._process.stdout is not None
        while not self.reports or self.reports[-1]["time"] < until:
            line = self._process.stdout.readline()
            assert line, "the clients' process has ended"
            self.reports.append(json.loads(line))
        return self.reports[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.order("end")
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def main() -> None:
    # Not by way of the buffer: what follows the line is for the loop.
    line = b""
    while not line.endswith(b"\n"):
        line += sys.stdin.buffer.raw.read(1)  # type: ignore[attr-defined]
    arguments = json.loads(line)
    kinds: dict[str, Callable[..., Honest | Attackers]] = {"honest": Honest, "attackers": Attackers}
    kinds[arguments.pop("kind")](**arguments).throng.run()


if __name__ == "__main__":
    main()
