"""A mail server in threads that keeps a list of what it took responsibility for.

Its SMTP is written for this, from the RFC, and has nothing from the project that it judges.
"""

import contextlib
import re
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

_MARK = re.compile(rb"^X-Mark: (\S+)\r$", re.MULTILINE | re.IGNORECASE)


def no_delay() -> None:
    """Answer at once."""


class Inbox:
    """Listens on ``port`` of an address; also a context manager.

    A message's mark is its X-Mark header. ``arrived`` counts marks with the recipient's domain,
    those whose final dot was seen; ``pause`` runs between the dot and its answer.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        address: str = "127.0.0.1",
        pause: Callable[[], None] = no_delay,
    ) -> None:
        self.arrived: Counter[tuple[str, str]] = Counter()
        self.clients: Counter[str] = Counter()  # messages by the address they came from
        self.pause = pause
        self.waiting = 0  # dots without an answer
        self.lines = 0  # of content, about: threads may miscount
        self._lock = threading.Lock()
        self._server = _Server((address, port), _Connection)
        self._server.inbox = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def begin(self, client: str) -> None:
        """A client has connected."""

    def end(self, client: str) -> None:
        """It is about to hear the answer to QUIT, or has gone: it may connect again."""

    def take(self, client: str, content: bytes, recipients: list[bytes]) -> None:
        """Take a message; returns when it may be answered."""
        found = _MARK.search(content)
        mark = found[1].decode() if found else ""
        with self._lock:
            self.clients[client] += 1
            for domain in {address.rpartition(b"@")[2] for address in recipients}:
                self.arrived[mark, domain.decode()] += 1
            self.waiting += 1
        self.pause()
        with self._lock:
            self.waiting -= 1

    def wait(self, count: int, *, seconds: float = 20) -> bool:
        """Wait until ``count`` different messages have arrived; say whether they did."""
        deadline = time.monotonic() + seconds
        while len(self.arrived) < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def hang_up(self) -> None:
        """End every connection, as it is."""
        self._server.hang_up()

    def close(self) -> None:
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    inbox: Inbox

    def __init__(self, address: tuple[str, int], handler: type) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection, as it is."""
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what the tests are about."""


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        client = self.client_address[0]
        self.server.inbox.begin(client)
        try:
            quits = self._converse()
        finally:
            self.server.inbox.end(client)
        if quits:
            self._say(b"221 bye")

    def _converse(self) -> bool:
        """Serve the client; True when it says QUIT."""
        recipients: list[bytes] = []
        self._say(b"220 inbox.test ESMTP")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                self._say(b"250-inbox.test\r\n250-PIPELINING\r\n250 8BITMIME")
            elif verb == b"RCPT":
                recipients.append(line.partition(b"<")[2].partition(b">")[0])
                self._say(b"250 2.1.5 ok")
            elif verb == b"DATA":
                self._say(b"354 go on")
                content = self._read_content()
                if content is None:
                    return False
                self.server.inbox.take(self.client_address[0], content, recipients)
                recipients = []
                self._say(b"250 2.0.0 taken")
            elif verb == b"QUIT":
                return True
            else:
                recipients = [] if verb in (b"MAIL", b"RSET") else recipients
                self._say(b"250 2.0.0 ok")
        return False

    def _say(self, reply: bytes) -> None:
        self.wfile.write(reply + b"\r\n")

    def _read_content(self) -> bytes | None:
        """Read up to the dot; None when the client went away before it."""
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return None
            lines.append(line)
            self.server.inbox.lines += 1
        return b"".join(lines)
