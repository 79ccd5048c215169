"""Daily reports of how TLS went, to the domains that ask for them (RFC 8460).

Some time after midnight (UTC), the same for all our workers and another one every day, one worker
takes the lease, and makes the report on the day before for each domain that was counted: accepts a
mail to each ``mailto:``, posts to each ``https:``, and removes what was counted. What nobody took is
tried again a few times, then given up. After each round the lease is kept until the time of the next
one, so that nobody else begins meanwhile; who dies in the middle loses it after five minutes.

Where everything is when the process dies, line by line of ``_report``:

    before, or while the report is made     counted in the store; the next who has the lease makes it
    a mail is accepted, `remove` not sent   queued, and counted still: the next makes the same mail
                                            again, and the store knows it by its id. A mail's id
                                            follows from day, domain and address, not from the counts
    a report is posted, `remove` not sent   posted, and counted still: it is posted a second time
                                            with the same report-id, by which receivers tell
    half of the fields removed              the rest is reported again, under the same ids: by mail
                                            that is nothing, posted it is a second, smaller one
    all removed, the event not written      sent; the message's story tells of it
    store away, at any line                 as if we had died there; we go on a minute later
    nobody reports for three days           the counts expire

The envelope's sender is the reporting address, not the null one: RFC 5321 §4.5.5 keeps that for
notifications that a standard wants it for, and RFC 8460 does not; and receivers' SPF and DMARC have a
domain to look at. NOTIFY=NEVER (RFC 3461) keeps bounces away from it, and of a report that we cannot
deliver ourselves the event ``bounced`` tells. Reports go out also where TLS fails (RFC 8460 §3).
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2s
from random import Random

import trio

from relay.config import Config
from relay.config.schema import TlsReports
from relay.dkim.sign import Signer, load_signer
from relay.errors import OutgateError, StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.model import Delivery, Envelope, Recipient, derive_message_id, make_message_id
from relay.net.resolver import NameUnavailable, Resolver
from relay.store.keys import SHARDS, find_shard
from relay.store.queue import Store
from relay.store.tlsrpt import DAY, Fields, Sessions, decode
from workers.tls.document import Report, Reporting, make_mail, make_report
from workers.tls.posting import Courier, NotPosted
from workers.tls.rua import find_rua, read_mailto
from workers.tls.several import do_several

# RFC 8460 §4.1: "perhaps several hours", for example up to four. Not before all workers have put
# away what they had counted by midnight (tally.LATE). s after midnight
_EARLIEST, _LATEST = 900.0, 14_400.0
# When what nobody took is tried again, s after the first time; §5.5: growing, for up to a day.
_ROUNDS = (0.0, 300.0, 1800.0, 7200.0, 28_800.0)
_AGAIN = 60.0  # s, when another has the lease, or the store is in trouble
_LONGEST = 600.0  # s; a clock that was set is noticed
_AT_A_TIME = 8  # domains

_log = logging.getLogger("outgate.worker")


class _NotTaken(OutgateError):
    """A report cannot be sent to this URI; the text says why."""


class _LeaseLost(OutgateError):
    """Another worker believes that it makes the reports."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was counted for a domain on a day. ``final``: what nobody takes now is given up."""

    day: int
    shard: int
    domain: str
    fields: Fields
    final: bool


class Reporter:
    """Of one worker process."""

    def __init__(
        self,
        config: Config,
        store: Store,
        courier: Courier,
        resolver: Resolver,
        events: EventLog,
        *,
        worker: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``worker``: names this process. ``now``: seconds since 1970. Raises StartError."""
        settings = config.tls_reports
        self._on = settings.send
        self._reporting = Reporting(settings.organization, settings.sender, settings.contact)
        self._signer = _load(settings) if settings.send else None
        self._tenant, self._pool = _find_tenant(config, settings.sender)
        self._store = store
        self._sessions = Sessions(store.link)
        self._courier = courier
        self._resolver = resolver
        self._events = events
        self._worker = worker
        self._now = now
        self._next = 0.0  # when the next round is ours

    async def run(self) -> None:
        """Make reports when it is time, until cancelled. Returns at once unless they are to be sent."""
        while self._on:
            wait = _AGAIN
            try:
                wait = await self.take_turn()
            except (StoreUnavailable, StoreError, _LeaseLost) as error:
                _log.warning("TLS reports: %s; going on later", error)
            except Exception:
                _log.exception("TLS reports: going on later")
            await trio.sleep(min(wait, _LONGEST))

    def find_due(self, day: int) -> float:
        """Return when the reports on a day (since 1970) are due, seconds since 1970.

        By chance, so that not all the world reports at once, and the same for all our workers.
        """
        chance = Random(f"{self._reporting.submitter} {day}")  # noqa: S311
        return (day + 1) * DAY + chance.uniform(_EARLIEST, _LATEST)

    async def take_turn(self) -> float:
        """Make what is due, unless somebody else does; return how long there is nothing to do."""
        now = self._now()
        if now < self._next:
            return self._next - now
        if not await self._sessions.lease.take(self._worker):
            return _AGAIN
        today = int(now // DAY)
        for day in (today - 2, today - 1):
            due = self.find_due(day)
            if now >= due:
                await self._report_day(day, final=now >= due + _ROUNDS[-1])
        self._next = self._find_next(now)
        wait = max(1.0, self._next - self._now())
        await self._sessions.lease.hold(self._worker, wait - 1)
        return wait

    def _find_next(self, now: float) -> float:
        today = int(now // DAY)
        times = [self.find_due(day) + after for day in (today - 1, today) for after in _ROUNDS]
        return min(moment for moment in times if moment > now)

    async def _report_day(self, day: int, *, final: bool) -> None:
        for shard in range(SHARDS):
            found = await self._sessions.read(day, shard)

            counted = [_Counted(day, shard, domain, found[domain], final) for domain in found]
            await do_several(self._report_carefully, counted, at_a_time=_AT_A_TIME)

    async def _report_carefully(self, counted: _Counted) -> None:
        """As ``_report``; a fault of ours in one report does not keep the others back."""
        # Also: a store that is over its limit refuses this, before it has to take more mail.
        if not await self._sessions.lease.hold(self._worker):
            raise _LeaseLost("another worker makes them")
        try:
            await self._report(counted)
        except (StoreUnavailable, StoreError):
            raise
        except Exception:
            _log.exception("no TLS report to %s", counted.domain)
            if counted.final:
                await self._remove(counted)

    async def _report(self, counted: _Counted) -> None:
        """Send a domain's report to whoever it names, and forget what it was made of.

        RFC 8460 §3: it is delivered when one of them has it. See the top of this file.
        """
        failures: dict[str, str] = {}
        taken = False
        uris: tuple[str, ...] = ()
        try:
            uris = await find_rua(self._resolver, counted.domain)
        except NameUnavailable as error:
            failures[""] = str(error)
        counts = decode(counted.fields)
        report = make_report(counted.domain, counted.day, counts, self._reporting)
        for uri in uris:
            try:
                await self._send(report, uri)
                taken = True
            except (NotPosted, _NotTaken) as error:
                failures[uri] = str(error)
        if failures and not taken and not counted.final:
            _log.info("no TLS report to %s yet: %s", counted.domain, "; ".join(failures.values()))
            return
        await self._remove(counted)
        for uri, text in failures.items():
            self._write_event("tls-report-failed", report, to=uri, text=text)

    async def _remove(self, counted: _Counted) -> None:
        await self._sessions.remove(counted.day, counted.shard, list(counted.fields))

    async def _send(self, report: Report, uri: str) -> None:
        """Raises NotPosted, _NotTaken, and what the store raises."""
        target = read_mailto(uri)
        if target is None:
            await self._courier.post(uri, report.content)
            self._write_event("tls-report", report, to=uri)
        else:
            await self._mail(report, uri, *target)

    async def _mail(self, report: Report, uri: str, address: str, domain: str) -> None:
        if self._signer is None:
            # RFC 8460 §3: without a signature it must be ignored.
            raise _NotTaken("mail must be signed: set tls_reports.dkim_key_file and dkim_selector")
        now = self._now()
        home = find_shard(domain)
        message_id = _derive_id(report, address, home)
        content = make_mail(report, self._reporting, to=address, message_id=message_id, now=now)
        content = self._signer.sign(content, now=now) + content
        delivery = self._make_delivery(message_id, address, domain, len(content), now)
        event = self._describe(delivery, report)
        if await self._store.accept([delivery], event, content):
            self._events.write(event)
            self._write_event("tls-report", report, to=uri, id=message_id)

    def _make_delivery(
        self, message_id: str, address: str, domain: str, size: int, now: float
    ) -> Delivery:
        sender = self._reporting.sender.encode()
        return Delivery(
            id=f"{message_id}.0",
            tenant=self._tenant,
            pool=self._pool,
            domain=domain,
            envelope=Envelope(
                sender=sender,
                recipients=(Recipient(address.encode("ascii"), notify=b"NEVER"),),
                smtputf8=not sender.isascii(),
                tls="optional",  # RFC 8460 §3: reports are delivered despite TLS failures
            ),
            size=size,
            chunks=1,
            accepted=now,
            home=find_shard(domain),
            alone=True,
            notice=True,
            priority="bulk",
        )

    def _describe(self, delivery: Delivery, report: Report) -> bytes:
        return encode_event(
            {
                "time": self._now(),
                "event": "accepted",
                "id": delivery.message_id,
                "tenant": delivery.tenant,
                "sender": self._reporting.sender,
                "recipients": [o.address.decode() for o in delivery.envelope.recipients],
                "size": delivery.size,
                "about": report.domain,
                "notice": "tls-report",
            }
        )

    def _write_event(self, name: str, report: Report, **more: str) -> None:
        event = {
            "time": self._now(),
            "event": name,
            "domain": report.domain,
            "report": report.id,
            "sessions": report.successes + report.failures,
            "failures": report.failures,
        }
        self._events.write(encode_event(event | more))


def _load(settings: TlsReports) -> Signer | None:
    if not settings.dkim_key_file:
        return None  # find_notices has told the operator
    domain = settings.sender.rpartition("@")[2].lower()
    return load_signer(domain, settings.dkim_selector, settings.dkim_key_file)


def _find_tenant(config: Config, sender: str) -> tuple[str, str]:
    """Return whose mail reports are, and the pool they go through.

    The tenant that the sender's domain belongs to; if it is nobody's, a name of its own.
    """
    domain = sender.rpartition("@")[2].lower()
    for tenant in config.tenant:
        if domain in tenant.domains:
            return tenant.name, tenant.pool
    return "tls-reports", "default" if "default" in config.pool else next(iter(config.pool))


def _derive_id(report: Report, address: str, home: int) -> str:
    """Return a mail's id: the same for the same day, domain and address, whoever makes it."""
    digest = blake2s(f"{report.id} {address}".encode(), person=b"tlsrpt").digest()
    return derive_message_id(make_message_id(home, now=report.start + DAY), digest, home)
