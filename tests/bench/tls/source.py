"""A generator with STARTTLS: ``python -m tests.bench.tls.source PORT CA_FILE COUNTS``.

For each line ``COUNT EACH`` on standard input it sends COUNT messages of 4 KiB over 20 sessions at
a time, EACH over one session, as fast as they are taken, and counts in the file COUNTS
(``counts.py``); it has begun nothing when that line comes but is ready to. It ends when standard
input does, and with 1 when something was not taken.

What a sender of volume does: TLS 1.3, certificate and name of the gateway verified, no ticket used
for the next session, MAIL, RCPT and DATA in one write, the content with its dot in another. One
thread around epoll, everything that is sent made beforehand.
"""

import select
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.tls.counts import Page

SIZE = 4096  # octets of a message
SESSIONS = 20
_READ = 64 * 1024
_PATIENCE = 60.0  # seconds for one answer
_HOST = "localhost"

_EHLO = b"EHLO client.example.net\r\n"
_ENVELOPE = b"MAIL FROM:<sender@acme.example>\r\nRCPT TO:<recipient@dest.example>\r\nDATA\r\n"
_HEAD = b"From: <sender@acme.example>\r\nTo: <recipient@dest.example>\r\nSubject: bench\r\n\r\n"
_LINE = b"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.\r\n"
_CONTENT = (_HEAD + _LINE * 62)[: SIZE - 2] + b"\r\n"
_MESSAGE = _CONTENT + b".\r\n"


class Refused(Exception):
    """The gateway did not take a message; everything that was to be measured is void."""


_Step = tuple[bytes, tuple[bytes, ...]]  # what to say, and the codes that answer it


class _Session:
    """One connection: what to say next is up to ``_talk``."""

    def __init__(self, source: "_Source", each: int) -> None:
        self.sock: socket.socket = socket.create_connection((_HOST, source.port))
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._source = source
        self._unread = b""
        self._shaking = False
        self._steps = self._talk(each)
        _, self._expected = next(self._steps)

    def _talk(self, each: int) -> Iterator[_Step]:
        """Yield what is said, resume when it was answered as it should be."""
        yield b"", (b"220",)
        yield _EHLO, (b"250",)
        self._source.sessions += 1
        yield b"STARTTLS\r\n", (b"220",)
        self._shaking = True
        yield b"", ()
        yield _EHLO, (b"250",)
        for _ in range(each):
            yield _ENVELOPE, (b"250", b"250", b"354")
            yield _MESSAGE, (b"250",)
            self._source.messages += 1
        yield b"QUIT\r\n", (b"221",)

    def take(self) -> bool:
        """Read what there is, and say what comes next; False when all is said. Raises Refused."""
        try:
            if self._shaking:
                self._shake_hands()
                return self._proceed()
            octets = self.sock.recv(_READ)
        except ssl.SSLWantReadError:  # also for tickets, which come after the handshake
            return True
        if not octets:
            raise Refused(f"closed when {self._expected} was expected")
        self._unread += octets
        return self._proceed() if self._is_answered() else True

    def _is_answered(self) -> bool:
        if not self._unread.endswith(b"\r\n"):
            return False
        codes = tuple([line[:3] for line in self._unread.split(b"\r\n") if line[3:4] == b" "])
        if len(codes) < len(self._expected):
            return False
        if codes != self._expected:
            raise Refused(self._unread.decode("utf-8", "replace"))
        self._unread = b""
        return True

    def _proceed(self) -> bool:
        step = next(self._steps, None)
        if step is None:
            return False
        octets, self._expected = step
        if self._shaking:
            self.sock = self._source.context.wrap_socket(
                self.sock, server_hostname=_HOST, do_handshake_on_connect=False
            )
            return self.take()  # it is we who begin
        if self.sock.send(octets) != len(octets):
            raise Refused("the gateway does not read")
        return True

    def _shake_hands(self) -> None:
        assert isinstance(self.sock, ssl.SSLSocket)
        self.sock.do_handshake()
        self._shaking = False
        self._source.handshakes += 1
        self._source.resumed += bool(self.sock.session_reused)


class _Source:
    """All sessions, and the counts."""

    def __init__(self, port: int, context: ssl.SSLContext, page: Page) -> None:
        self.port = port
        self.context = context
        self.sessions = self.handshakes = self.resumed = self.messages = 0
        self._page = page
        self._most_open = 0
        self._open: dict[int, _Session] = {}
        self._poll = select.epoll()

    def send(self, count: int, each: int) -> None:
        """Send them all, and come back when the last session has ended. Raises Refused."""
        shares = iter([each] * (count // each) + [count % each] * (count % each > 0))
        for _, share in zip(range(SESSIONS), shares, strict=False):
            self._begin(share)
        while self._open:
            ready = self._poll.poll(_PATIENCE)
            if not ready:
                raise Refused(f"no answer for {_PATIENCE:.0f} s")
            for number, _ in ready:
                if not self._open[number].take():
                    self._end(number)
                    if share := next(shares, 0):
                        self._begin(share)
            self._note()

    def _begin(self, share: int) -> None:
        session = _Session(self, share)
        self._open[session.sock.fileno()] = session
        self._most_open = max(self._most_open, len(self._open))
        self._poll.register(session.sock.fileno(), select.EPOLLIN)

    def _end(self, number: int) -> None:
        self._poll.unregister(number)
        self._open.pop(number).sock.close()

    def _note(self) -> None:
        self._page.note(
            self.sessions, self.handshakes, self.resumed, self.messages,
            self.messages * SIZE, SIZE, len(self._open), self._most_open,
        )  # fmt: skip


def main() -> int:
    """Send what is asked for; 1 when something was not taken."""
    port, ca_file, counts = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    source = _Source(int(port), context, Page(Path(counts)))
    try:
        for line in sys.stdin:
            count, each = map(int, line.split())
            source.send(count, each)
    except (Refused, OSError) as error:
        sys.stderr.write(f"source: {error!r}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
