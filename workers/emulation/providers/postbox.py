"""Complaints on their way to who wants to know, over SMTP: one connection, one report."""

import math
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from relay.errors import NetworkError
from relay.model import Envelope, Recipient
from relay.net.connect import connect
from relay.net.stream import Stream
from relay.net.tls import make_client_context
from relay.smtp.client import ClientSession, Closed, Event, Finished, Ready, SendContent, TlsGo
from relay.smtp.reply import RemoteProtocolError
from workers.emulation.providers.host import Host
from workers.emulation.providers.report import Report, make_report
from workers.emulation.providers.settings import Feedback
from workers.exchange import next_event

_LOOK = 0.5  # seconds between two looks for complaints
_PAUSE = 5.0  # ... and before another try
_PATIENCE = 30.0  # for one report
_TRIES = 20
_MOST = 10_000  # reports that wait; the oldest are dropped first


@dataclass
class Postbox:
    """Takes the complaints of all providers to one mailbox."""

    feedback: Feedback
    hosts: Sequence[Host]
    seed: int = 0
    sent: int = 0
    dropped: int = 0  # refused, or nobody took them in time
    waiting: deque[Report] = field(default_factory=deque)
    _numbers: int = 0
    _context: ssl.SSLContext | None = None

    async def run(self) -> None:
        """Carry complaints until cancelled."""
        while True:
            self._collect()
            while self.waiting:
                report = self.waiting.popleft()
                if not await self._carry(report):
                    break
                self._collect()
            await trio.sleep(_PAUSE if self.waiting else _LOOK)

    def _collect(self) -> None:
        for host in self.hosts:
            for complaint in host.provider.take_complaints():
                self._numbers += 1
                number = f"{self.seed}.{self._numbers}.{math.floor(complaint.at)}"
                self.waiting.append(
                    make_report(
                        complaint,
                        self.feedback,
                        host=host.provider.host,
                        number=number,
                        now=time.time(),
                    )
                )
        while len(self.waiting) > _MOST:
            self.waiting.popleft()
            self.dropped += 1

    async def _carry(self, report: Report) -> bool:
        """Bring one report; False: it waits for another try."""
        verdict = 400
        try:
            with trio.move_on_after(_PATIENCE):
                verdict = await _Errand(self, report).run()
        except (NetworkError, RemoteProtocolError):
            pass  # nobody there, or nobody who speaks SMTP: another try will see
        if verdict < 300:
            self.sent += 1
        elif verdict >= 500 or report.tries + 1 >= _TRIES:
            self.dropped += 1
        else:
            self.waiting.appendleft(Report(report.sender, report.content, report.tries + 1))
            return False
        return True

    @property
    def context(self) -> ssl.SSLContext:
        """TLS without looking at certificates: it never leaves the machine."""
        if self._context is None:
            self._context = make_client_context(verify=False)
        return self._context


class _Errand:
    """One connection, one report."""

    def __init__(self, postbox: Postbox, report: Report) -> None:
        self._postbox = postbox
        self._report = report
        self._session = ClientSession(report.sender.rpartition("@")[2].encode())
        self._stream: Stream | None = None

    async def run(self) -> int:
        """Return the reply's code. Raises NetworkError, RemoteProtocolError."""
        to = self._postbox.feedback
        source = "::1" if ":" in to.host.host else "127.0.0.1"
        self._stream = await connect(to.host.host, to.host.port, source=source)
        try:
            return await self._transact()
        finally:
            self._stream.close()

    async def _transact(self) -> int:
        session, report = self._session, self._report
        assert self._stream is not None
        event = await self._next()
        if isinstance(event, Ready) and session.capabilities.starttls:
            session.start_tls()
            event = await self._next()
            if isinstance(event, TlsGo):
                await self._stream.start_tls(self._postbox.context)
                session.tls_started()
                event = await self._next()
        if not isinstance(event, Ready):
            return 400
        address = self._postbox.feedback.address.encode()
        # 8BITMIME would be said if it were known to be needed; headers are what they were.
        envelope = Envelope(report.sender.encode(), (Recipient(address),))
        session.begin(envelope, len(report.content))
        while True:
            event = await self._next()
            if isinstance(event, SendContent):
                await self._stream.send(session.content(report.content, last=True))
            elif isinstance(event, Finished):
                return event.results[0].reply.code
            elif isinstance(event, Closed):
                return 400

    async def _next(self) -> Event:
        assert self._stream is not None
        return await next_event(self._session, self._stream)
