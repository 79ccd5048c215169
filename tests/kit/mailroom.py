"""An inbox that notes when it saw whose final dots, and keeps some clients waiting for their 250."""

import threading
import time
from collections import Counter

from tests.kit.inbox import Inbox


class Mailroom(Inbox):
    """An ``Inbox``. ``dots``: when it saw final dots (monotonic), and of which client."""

    def __init__(self, address: str, *, port: int, delay: float = 0.0) -> None:
        """``delay``: seconds between a final dot and its answer."""
        super().__init__(address=address, port=port, pause=self._wait)
        self.most = 0  # connections at the same time
        self.dots: list[tuple[float, str]] = []
        self.kept: Counter[str] = Counter()  # dots that wait for ``release``, by client
        self.open: Counter[str] = Counter()  # connections, by client
        self._count_lock = threading.Lock()
        self._delay = delay
        self._held: frozenset[str] = frozenset()
        self._released = threading.Event()
        self._local = threading.local()  # whose dot this thread has seen

    def begin(self, client: str) -> None:
        """Count a connection."""
        self._count(self.open, client, 1)

    def end(self, client: str) -> None:
        """Count one less."""
        self._count(self.open, client, -1)

    def take(self, client: str, content: bytes, recipients: list[bytes]) -> None:
        """Note it, and take the message."""
        self.dots.append((time.monotonic(), client))
        self._local.client = client
        super().take(client, content, recipients)

    def hold(self, *clients: str) -> None:
        """Do not answer final dots of these any more, until ``release``."""
        self._held |= frozenset(clients)

    def release(self) -> None:
        """Answer all, from now on."""
        self._held = frozenset()
        released, self._released = self._released, threading.Event()
        released.set()

    def _wait(self) -> None:
        time.sleep(self._delay)
        client, released = self._local.client, self._released  # the event before the look at it
        if client in self._held:
            self._count(self.kept, client, 1)
            released.wait(60)
            self._count(self.kept, client, -1)

    def _count(self, counter: Counter[str], client: str, change: int) -> None:
        with self._count_lock:
            counter[client] += change
            self.most = max(self.most, self.open.total())
