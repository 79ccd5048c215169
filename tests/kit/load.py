"""Senders in threads that never send a message twice, and know what became of each."""

import smtplib
import threading
import time
from collections.abc import Sequence
from typing import Self


class Load:
    """Sends small messages to ``port`` of ``host`` until the block ends; ``name`` begins their marks.

    ``accepted`` maps the mark of each message that got 250 to its id and its recipients' domains;
    ``unknown`` has the marks of those whose answer did not come: it may or may not arrive.
    """

    def __init__(
        self,
        port: int,
        domains: Sequence[str],
        *,
        threads: int = 4,
        pause: float = 0.01,
        host: str = "127.0.0.1",
        name: str = "",
    ) -> None:
        self.accepted: dict[str, tuple[str, list[str]]] = {}
        self.unknown: set[str] = set()
        self.refused = 0  # 4xx
        self._port = port
        self._host = host
        self._name = name
        self._domains = domains
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            try:
                with smtplib.SMTP(self._host, self._port, "client.test", timeout=30) as session:
                    session.ehlo()
                    while not self._stop.is_set():
                        count += 1
                        self._send_one(session, f"{self._name}{number}-{count}", count)
                        time.sleep(self._pause)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.1)

    def _send_one(self, session: smtplib.SMTP, mark: str, count: int) -> None:
        # Every fifth is for two domains, which are most often in two shards.
        start = count % len(self._domains)
        domains = (list(self._domains) * 2)[start : start + (2 if count % 5 == 0 else 1)]
        session.mail("sender@acme.example")
        for domain in domains:
            session.rcpt(f"r@{domain}")
        self.unknown.add(mark)
        code, text = session.data(f"X-Mark: {mark}\r\nSubject: load\r\n\r\nhello\r\n")
        self.unknown.discard(mark)
        if code == 250:
            self.accepted[mark] = (text.decode().split()[1], domains)
        else:
            self.refused += 1
