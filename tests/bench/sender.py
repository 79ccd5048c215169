"""Senders that say when: ``python -m tests.bench.sender PORT COUNT RATE DOMAIN ...``.

Sends COUNT messages of 4 KiB over twenty sessions that stay open, to the domains in turn; RATE a
second, or 0: as fast as they are taken. Each message says in its header when it was sent
(``X-Sent``, monotonic clock); of a paced message that is when it was due, so that one that had to
wait for a slow answer to the one before it does not look faster than it was.
"""

import socket
import sys
import time
from collections.abc import Iterator

import trio

from relay.errors import NetworkError
from relay.net.stream import Stream

_SESSIONS = 20
_PATIENCE = 60.0  # seconds for one answer
_BODY = b"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.\r\n" * 62


class Refused(Exception):
    """The gateway did not take a message; everything that was to be measured is void."""


class _Session:
    def __init__(self, port: int) -> None:
        self._stream = Stream(socket.create_connection(("127.0.0.1", port)))
        self._unread = b""

    async def greet(self) -> None:
        await self._expect(b"220")
        await self._say(b"EHLO client.example.net\r\n", b"250")

    async def send(self, domain: str, sent: float) -> None:
        await self._say(
            b"MAIL FROM:<alice@acme.example>\r\nRCPT TO:<bob@%b>\r\nDATA\r\n" % domain.encode(),
            b"250", b"250", b"354",
        )  # fmt: skip
        head = b"From: alice@acme.example\r\nX-Sent: %.6f\r\n\r\n" % sent
        await self._say(head + _BODY + b".\r\n", b"250")

    async def quit(self) -> None:
        await self._say(b"QUIT\r\n", b"221")
        self._stream.close()

    async def _say(self, octets: bytes, *codes: bytes) -> None:
        await self._stream.send(octets)
        for code in codes:
            await self._expect(code)

    async def _expect(self, code: bytes) -> None:
        """Read a reply. Raises Refused when it is another one."""
        line = b"-" * 4
        while line[3:4] == b"-":
            while b"\n" not in self._unread:
                octets = await self._stream.receive()
                if not octets:
                    raise Refused(f"closed when {code.decode()} was expected")
                self._unread += octets
            line, _, self._unread = self._unread.partition(b"\n")
        if not line.startswith(code):
            raise Refused(line.decode("utf-8", "replace"))


async def _send(port: int, count: int, rate: float, domains: list[str]) -> None:
    begin = trio.current_time() + 0.2
    numbers = iter(range(count))
    async with trio.open_nursery() as nursery:
        for _ in range(_SESSIONS):
            nursery.start_soon(_send_some, port, numbers, rate, begin, domains)


async def _send_some(
    port: int, numbers: Iterator[int], rate: float, begin: float, domains: list[str]
) -> None:
    session = _Session(port)
    with trio.fail_after(_PATIENCE) as patience:
        await session.greet()
        for number in numbers:  # shared: each session takes the next
            due = begin + number / rate if rate else begin
            await trio.sleep_until(due)
            sent = time.monotonic() - max(0.0, trio.current_time() - due if rate else 0.0)
            patience.deadline = trio.current_time() + _PATIENCE
            await session.send(domains[number % len(domains)], sent)
        await session.quit()


def main() -> int:
    """Send it all; 1 when something was not taken."""
    port, count, rate, *domains = sys.argv[1:]
    try:
        trio.run(_send, int(port), int(count), float(rate), domains)
    except ExceptionGroup as group:
        failures, others = group.split((Refused, NetworkError, trio.TooSlowError, OSError))
        if others:
            raise
        assert failures is not None
        sys.stderr.write(f"sender: {failures.exceptions[0]!r}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
