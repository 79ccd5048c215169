"""Proxies that sources leave through, on loopback: a SOCKS5 server, one that reads PROXY headers.

Both do what they are asked for: bind an address of 127.0.0.0/8, connect, pass octets on. The SOCKS
server can be told to say something else at a step instead. Written from RFC 1928, RFC 1929 and
HAProxy's proxy-protocol.txt in plain octets: no code in common with what is tested.

Programs that others wrote run here, too: microsocks, Dante, HAProxy, where they are installed.
"""

import errno
import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.kit.ports import find_free_port, is_listening

_CODES = {errno.ECONNREFUSED: 5, errno.EHOSTUNREACH: 4, errno.ENETUNREACH: 3}
SILENCE = object()  # said instead of an answer: nothing, for ever


class _Over(Exception):
    """A client has gone, or was not let in."""


@dataclass
class SocksServer:
    """A SOCKS5 proxy. ``users`` are names with password and the address each leaves from.

    ``says`` replaces an answer (to "method", "password", "connect"): these octets and the end of
    the connection, or SILENCE. ``reports`` replaces BND.ADDR and its type. ``split`` sends the
    answers octet by octet.
    """

    leaves_from: str = "127.0.0.21"
    users: dict[str, tuple[str, str]] = field(default_factory=dict)
    says: dict[str, object] = field(default_factory=dict)
    reports: bytes | None = None
    split: bool = False
    port: int = 0
    address: str = "127.0.0.1"
    offered: list[bytes] = field(default_factory=list)  # methods of each client
    asked: list[tuple[str, int]] = field(default_factory=list)  # hosts of each CONNECT

    async def serve(self, client: trio.SocketStream) -> None:
        """One client, from greeting to the end."""
        leaves_from = self.leaves_from
        version, count = await _read(client, 2)
        methods = await _read(client, count)
        self.offered.append(methods)
        method = 2 if self.users else 0
        if version != 5 or method not in methods:
            method = 255
        await self._answer(client, "method", bytes([5, method]))
        if method == 2:
            leaves_from = await self._check_password(client)
        elif method == 255:
            raise _Over
        host = await self._connect(client, leaves_from)
        async with host:
            await _pass_on(client, host)

    async def _check_password(self, client: trio.SocketStream) -> str:
        _, length = await _read(client, 2)
        user = (await _read(client, length)).decode()
        (length,) = await _read(client, 1)
        given = (await _read(client, length)).decode()
        password, leaves_from = self.users.get(user, (None, ""))
        await self._answer(client, "password", bytes([1, int(given != password)]))
        if given != password:
            raise _Over
        return leaves_from

    async def _connect(self, client: trio.SocketStream, leaves_from: str) -> trio.SocketStream:
        _version, _command, _reserved, kind = await _read(client, 4)
        address = str(ipaddress.ip_address(await _read(client, {1: 4, 4: 16}[kind])))
        port = int.from_bytes(await _read(client, 2))
        self.asked.append((address, port))
        if "connect" in self.says:
            await self._answer(client, "connect", b"")
        try:
            host = await open_from(leaves_from, address, port)
        except OSError as error:
            code = _CODES.get(error.errno or 0, 1)
            await self._answer(client, "connect", bytes([5, code, 0, 1, *bytes(6)]))
            raise _Over from error
        bound = host.socket.getsockname()
        report = pack_address(bound[0]) if self.reports is None else self.reports
        await self._answer(client, "connect", b"\5\0\0" + report + bound[1].to_bytes(2))
        return host

    async def _answer(self, client: trio.SocketStream, step: str, octets: bytes) -> None:
        said = self.says.get(step, octets)
        if said is SILENCE:
            await trio.sleep_forever()
        assert isinstance(said, bytes)
        for part in [said[i : i + 1] for i in range(len(said))] if self.split else [said]:
            await client.send_all(part)
        if step in self.says:
            raise _Over


@dataclass
class HeaderProxy:
    """A proxy that is told by a PROXY header, version 2, from where to connect to where."""

    port: int = 0
    address: str = "127.0.0.1"
    headers: list[bytes] = field(default_factory=list)
    silent: bool = False  # reads the header, and that is all

    async def serve(self, client: trio.SocketStream) -> None:
        head = await _read(client, 16)
        block = await _read(client, int.from_bytes(head[14:]))
        self.headers.append(head + block)
        if self.silent:
            await trio.sleep_forever()
        assert head[:13] == b"\r\n\r\n\x00\r\nQUIT\n\x21", "version 2, command PROXY"
        family, size = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}[head[13]]
        source, target = (socket.inet_ntop(family, block[i : i + size]) for i in (0, size))
        try:
            host = await open_from(source, target, int.from_bytes(block[2 * size + 2 :]))
        except OSError as error:
            raise _Over from error  # all that the protocol has to say about it
        async with host:
            await _pass_on(client, host)


Server = SocksServer | HeaderProxy


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    """Run a proxy until the block ends."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(server.port, host=server.address)
        server.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, _guard(server), [listener])
        yield server
        nursery.cancel_scope.cancel()


def _guard(server: Server) -> Callable[[trio.SocketStream], object]:
    async def serve(client: trio.SocketStream) -> None:
        async with client:
            with suppress(_Over, trio.BrokenResourceError):
                await server.serve(client)

    return serve


def pack_address(address: str) -> bytes:
    """Return an address as SOCKS5 has it: type and octets."""
    ip = ipaddress.ip_address(address)
    return bytes([1 if ip.version == 4 else 4]) + ip.packed


async def open_from(source: str, address: str, port: int) -> trio.SocketStream:
    """Connect from an address. Raises OSError."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    sock = trio.socket.socket(family)
    try:
        await sock.bind((source, 0))
        await sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def _pass_on(one: trio.SocketStream, two: trio.SocketStream) -> None:
    """Pass octets on, both ways, until one side has ended."""

    async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async for octets in source:
                await target.send_all(octets)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(copy, one, two)
        nursery.start_soon(copy, two, one)


async def _read(stream: trio.SocketStream, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        more = await stream.receive_some(size - len(octets))
        if not more:
            raise _Over
        octets += more
    return octets


# -- a host to connect to ----------------------------------------------------------------------


@dataclass
class Sink:
    """An SMTP server that says yes to all. ``late``: it does not greet before ``greet`` is set."""

    address: str = "127.0.0.1"
    port: int = 0
    late: bool = False
    greet: trio.Event = field(default_factory=trio.Event)
    clients: list[str] = field(default_factory=list)  # address of each session's client
    lines: list[bytes] = field(default_factory=list)

    async def serve(self, client: trio.SocketStream) -> None:
        self.clients.append(client.socket.getpeername()[0])
        if self.late:
            await self.greet.wait()
        await client.send_all(b"220 sink.test\r\n")
        rest = b""
        async for octets in client:
            *lines, rest = (rest + octets).split(b"\r\n")
            self.lines += lines
            await client.send_all(b"250 yes\r\n" * len(lines))


@asynccontextmanager
async def open_sink(address: str = "127.0.0.1", *, late: bool = False) -> AsyncIterator[Sink]:
    """Run a sink until the block ends."""
    sink = Sink(address, late=late)

    async def serve(client: trio.SocketStream) -> None:
        async with client:
            with suppress(trio.BrokenResourceError):
                await sink.serve(client)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=address)
        sink.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield sink
        nursery.cancel_scope.cancel()


# -- others' programs --------------------------------------------------------------------------

_SOCKD = """
logoutput: {directory}/log
internal: 127.0.0.1 port = {port}
external: {source}
socksmethod: none
clientmethod: none
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks block {{ from: 127.0.0.0/8 to: 127.0.0.99/32 }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 command: connect }}
"""
_HAPROXY = """
defaults
    mode tcp
    retries 0
    timeout connect 5s
    timeout client 10s
    timeout server 10s
listen out
    bind 127.0.0.1:{port} accept-proxy
    source 0.0.0.0 usesrc clientip
    server any 0.0.0.0
"""


def find_program(name: str) -> str | None:
    """Return the path of a program; daemons are not on everybody's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@contextmanager
def open_microsocks(source: str, user: str = "", password: str = "") -> Iterator[int]:
    """Run microsocks, leaving from ``source``; gives its port."""
    port = find_free_port()
    login = ["-u", user, "-P", password] if user else []
    with _open("microsocks", port, "-i", "127.0.0.1", "-p", str(port), "-b", source, *login):
        yield port


@contextmanager
def open_dante(source: str, directory: Path) -> Iterator[int]:
    """Run Dante's server, leaving from ``source``; 127.0.0.99 is forbidden. Gives its port."""
    port = find_free_port()
    path = directory / "danted.conf"
    path.write_text(_SOCKD.format(directory=directory, port=port, source=source))
    with _open("danted", port, "-f", str(path), "-p", str(directory / "pid")):
        yield port


@contextmanager
def open_haproxy(directory: Path) -> Iterator[int]:
    """Run HAProxy, leaving from the address that headers name; needs root. Gives its port."""
    port = find_free_port()
    path = directory / "haproxy.cfg"
    path.write_text(_HAPROXY.format(port=port))
    with _open("haproxy", port, "-db", "-q", "-f", str(path)):
        yield port


@contextmanager
def _open(name: str, port: int, *arguments: str) -> Iterator[None]:
    program = find_program(name)
    assert program is not None, f"{name} is not installed"
    with subprocess.Popen(
        [program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(100):
                if is_listening(port):
                    break
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
                    raise AssertionError(f"{name} has ended with {process.returncode}")
            yield
        finally:
            process.terminate()
