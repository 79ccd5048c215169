"""Servers on loopback that say what a test wants, and how to read what they are asked."""

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

Talk = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def open_scripted(talk: Talk) -> AsyncIterator[str]:
    """Yield the address of a server that talks so to each client, then closes."""

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # the client has had enough
            await talk(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def say(answer: bytes) -> Talk:
    """Read a whole question, of either protocol, and answer it with these octets."""

    async def talk(stream: trio.SocketStream) -> None:
        await read_question(stream)
        await stream.send_all(answer)

    return talk


def say_json(body: bytes, status: bytes = b"200 OK") -> Talk:
    """Answer as rspamd does."""
    head = b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return say(head + body)


async def read_question(stream: trio.SocketStream) -> bytes:
    """Return a request of HTTP, or what goes to clamd (no message in these tests has NULs)."""
    octets = bytearray()
    while not _is_whole(octets):
        more = await stream.receive_some()
        if not more:
            break
        octets += more
    return bytes(octets)


def _is_whole(octets: bytearray) -> bool:
    if octets.startswith(b"z"):
        return octets.endswith(bytes(4))
    head, found, body = octets.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    return bool(found) and len(body) >= int(length[1] if length else 0)


async def wait_for_end(stream: trio.SocketStream) -> None:
    """Return when the client has closed."""
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass
