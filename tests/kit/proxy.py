"""A proxy in front of the store's socket that breaks connections at the worst moment.

It runs in threads, because what is tested against it runs in a trio loop and a thread of its own.
"""

import contextlib
import os
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_OCTETS = 1 << 20


class Proxy:
    """Passes octets on between clients and a server's unix socket, until told otherwise.

    ``cut_request`` and ``cut_reply`` arm it: the next request that contains ``marker`` is not
    passed on, or is passed on and its reply is not; either way the connection is closed. Each
    works ``times`` times. While it is ``away`` nobody gets through.
    """

    def __init__(self, path: Path, server: Path) -> None:
        self.url = f"unix://{path}"
        self._server = str(server)
        self._requests: dict[bytes, int] = {}
        self._replies: dict[bytes, int] = {}
        self.cuts = 0
        self.away = False
        self._ends: set[socket.socket] = set()
        self._closing = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut_request(self, marker: bytes, *, times: int = 1) -> None:
        """Swallow requests: the server never sees them."""
        self._requests[marker] = times

    def cut_reply(self, marker: bytes, *, times: int = 1) -> None:
        """Swallow replies: the server has done what was asked, and nobody hears of it."""
        self._replies[marker] = times

    def cut_now(self) -> None:
        """Close all connections, as they are."""
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut_off(self) -> None:
        """Close all connections, and let nobody through until ``away`` is False again."""
        self.away = True
        self.cut_now()

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_now()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            try:
                server.connect(self._server)
                self._ends |= {client, server}
                if self.away:  # after it is in ``_ends``: ``cut_now`` may have looked before
                    return
                self._pass_on(client, server)
            except OSError:
                pass
            finally:
                self._ends -= {client, server}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        # Not select(): a test run may have more than a thousand files open.
        with selectors.DefaultSelector() as both:
            both.register(client, selectors.EVENT_READ, client)
            both.register(server, selectors.EVENT_READ, server)
            self._pass_on_from(both, client, server)

    def _pass_on_from(
        self, both: selectors.BaseSelector, client: socket.socket, server: socket.socket
    ) -> None:
        doomed = False
        while True:
            for end in [key.data for key, _ in both.select()]:
                octets = end.recv(_OCTETS)
                if not octets or (doomed and end is server):
                    return
                if end is server:
                    client.sendall(octets)
                    continue
                if self._strike(self._requests, octets):
                    return
                server.sendall(octets)
                doomed = doomed or self._strike(self._replies, octets)

    def _strike(self, armed: dict[bytes, int], octets: bytes) -> bool:
        for marker, times in armed.items():
            if times and marker in octets:
                armed[marker] -= 1
                self.cuts += 1
                return True
        return False


@contextlib.contextmanager
def open_proxy(server: Path) -> Iterator[Proxy]:
    """Run a proxy for the server's socket until the block ends."""
    with tempfile.TemporaryDirectory(prefix="og-", dir=os.environ.get("TMPDIR", "/tmp")) as name:
        proxy = Proxy(Path(name) / "sock", server)
        try:
            yield proxy
        finally:
            proxy.close()
