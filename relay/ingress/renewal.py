"""Certificates that are renewed while we run: new files are taken up, what is amiss is told.

Certbot, cert-manager and the like replace files when they please, and nobody restarts a gateway
for that. So the files are looked at every minute (an inotify would not see what happens on NFS,
and little of what Kubernetes does with its links), and at once on SIGHUP.

A good pair serves the handshakes from then on. Anything else, half of a new pair included, leaves
the one before in use, is reported once, and is tried again at every look.
"""

import datetime as dt
import logging
import math
import signal
import time
from collections.abc import Callable

import trio

from relay.errors import CertificateRefused
from relay.events import EventLog, encode_event
from relay.net.certificates import Certificate, Certificates, Loaded, renew

_log = logging.getLogger("outgate.ingress")

LOOK = 60.0  # seconds between two looks at the files
_AGAIN = 86400.0  # seconds between two reports of the same


class Renewal:
    """Looks after the certificates of one ingress process, and writes events of its own."""

    def __init__(
        self,
        certificates: Certificates,
        events: EventLog,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock``: seconds since 1970."""
        self._certificates = certificates
        self._events = events
        self._clock = clock
        self._refused: dict[str, str] = {}  # by place: what was said of the files there
        self._told: dict[str, tuple[str, float]] = {}  # by place: the last report of its end, when

    async def run(self) -> None:
        """Watch until cancelled."""
        with trio.open_signal_receiver(signal.SIGHUP) as hangups:
            for loaded in self._certificates.loaded:
                self._write("certificate-loaded", loaded.certificate)
            while True:
                await self.look()
                with trio.move_on_after(LOOK):
                    await anext(hangups)

    async def look(self) -> None:
        """Tell of certificates that end, and take up what is new."""
        for loaded in self._certificates.loaded:
            self._tell_end(loaded.certificate)
        for number, loaded in enumerate(self._certificates.loaded):
            await self._renew(number, loaded)

    async def _renew(self, number: int, loaded: Loaded) -> None:
        place = loaded.certificate.pair.place
        try:
            # A thread: the files may be on a disk that does not answer just now.
            fresh = await trio.to_thread.run_sync(renew, loaded, self._now, abandon_on_cancel=True)
        except CertificateRefused as error:
            self._tell_refused(loaded.certificate, str(error))
            return
        self._refused.pop(place, None)
        if fresh is not None:
            self._certificates.replace(number, fresh)
            self._told.pop(place, None)
            self._write("certificate-loaded", fresh.certificate)
            _log.info("%s: new files; %s", place, fresh.certificate.describe(self._now))
            self._tell_end(fresh.certificate)

    def _tell_refused(self, used: Certificate, text: str) -> None:
        """Say once what is wrong with new files, and what that means."""
        if self._refused.get(used.pair.place) == text:
            return
        self._refused[used.pair.place] = text
        self._write("certificate-refused", used, text=text)
        _log.warning(
            "%s. The pair loaded before stays in use (%s); correct the files, they are looked at "
            "every minute",
            text,
            used.find_fault(self._now) or f"until {used.expires:%Y-%m-%d}",
        )

    def _tell_end(self, certificate: Certificate) -> None:
        """Say once a day that a certificate is about to expire, or has."""
        event, place = self._judge_end(certificate), certificate.pair.place
        before, when = self._told.get(place, ("", -math.inf))
        if not event or (event == before and self._clock() - when < _AGAIN):
            return
        self._told[place] = (event, self._clock())
        self._write(event, certificate)
        said = certificate.describe(self._now)
        if event == "certificate-expired":
            _log.error("%s: %s: senders that verify it will not come; renew it", place, said)
        else:
            _log.warning("%s: %s: renew it", place, said)

    def _judge_end(self, certificate: Certificate) -> str:
        """Return what there is to tell of its end, "" for nothing."""
        if self._now >= certificate.expires:
            return "certificate-expired"
        return "certificate-expiring" if certificate.ends_soon(self._now) else ""

    def _write(self, event: str, certificate: Certificate, **more: str) -> None:
        """Write an event about a certificate that is in use."""
        self._events.write(
            encode_event(
                {
                    "time": self._clock(),
                    "event": event,
                    "names": certificate.names,
                    "file": certificate.pair.certificate,
                    "expires": certificate.expires.isoformat(),
                    "days": certificate.count_days(self._now),
                    **more,
                }
            )
        )

    @property
    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock(), dt.UTC)
