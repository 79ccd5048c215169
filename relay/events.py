"""The event log: one JSON line for each thing that happened to a message.

It is the operator's record, apart from the service's own log. Keys are stable:

    time        seconds since 1970
    event       accepted refused postponed limited attempt delivered deferred bounced reclaimed unknown
                lost held feedback
    id          the message; ``delivery`` its part for one domain
    tenant      whose it is
    sender, recipients, size, client, hello, tls      (accepted)
    message_id  the value of its Message-ID field, at most 250 octets (accepted; when there is one)
    proof       network header dkim; ``signed_by``: the domain whose signature it was, ``seen``: how
                often that came before
    rule, reason    the rule that decided, and why; what was refused (5xx), postponed (4xx) or limited
                (4xx: its tenant has had what it may) has a reason always, and what is held ``why``
    scans       what scanners said, by their names: result, score, details
    changed, not_changed    what a rule did to the message, and what could not be done
    archived    true: a copy is kept
    domain, attempt, source, host, tls, recipients    (attempts: what each recipient got, and why)
    tls_policy  who demanded TLS: dane sts requiretls rule site, or opportunistic, none
    tls_verified, tls_problem    by what the host was verified: dane-ee dane-ta pkix, or "" and why not,
                or why it went in clear
    certificate the host's, SHA-256
    seconds     that the attempt took, from MAIL to the last answer; 0 when there was none
    wait        seconds until the next attempt        (deferred)

What operators decide is an event of its own, one for each command:

    event       suspended resumed retried held bounced-by-operator lifted
    who, why    of the command; a source that a worker sets aside or takes up again is ``suspended``
                or ``resumed`` with ``worker`` and ``text`` in their place
    tenant, domain, site, source, ids                 what was meant; nothing: everything
    deliveries, affected                              how many, and how many recipients of them
    until       when a suspension ends; null: when it is resumed

What comes back later, to a mailbox domain of ours (``feedback.domains``):

    event       feedback
    kind, type  complaint: abuse fraud virus opt-out, and others that nobody complains with; bounce:
                failed, delayed ...; other: no report
    id          the message that it is about, as tenant, source, site, domain, recipient; without it
                ``source`` is what the report says
    counted     false: not for the first time, or about nothing that we know (``text``)
    status, text, reporter      what the host said that gave up; which program, or host, reports

What regular checks find of our own sources, when it is another than before (``suspended`` and ``resumed``
also come with ``who`` "doctor"):

    event       check
    source, check                      ptr ehlo dnsbl spf
    level, was                         ok notice warning error; was "": it is the first look
    text                               what was found

What receivers' answers do to a source at a site (relay/store/DESIGN.md, Reputation):

    event       slowed                 its pace falls (before, pace: deliveries/s), after ``wait`` s of silence
                unpaced                its pace is above what is configured, and forgotten; or it is throttled at any
                                       pace alike (``text``), and that is only counted
                narrowed               fewer connections (before, connections)
                quarantined            it sends nothing there (until, count: how often, score)
                released               it was probed, and sends again (pace, score)
                put-off                a tenant sends nothing there for ``wait`` s, from any source
                all-quarantined        no source of ``pool`` may send there: its mail waits
    site, source, tenant, text         where, who, and what was said

What a tenant does to the reputation of the sources that it shares with others; one worker tells for all:

    event       tenant-slowed tenant-held       a share has reached its threshold
                tenant-released        it has fallen, or an operator has forgiven it (who, why)
    tenant, reason                     whose; which share, of how many recipients, and the threshold

A certificate of the ingress is none of a message's. Each process tells for itself:

    event       certificate-loaded     at the start, and when new files took the place of the old
                certificate-refused    new files cannot be used (``text``); those before stay in use
                certificate-expiring   fewer than 14 days are left; once a day
                certificate-expired    once a day
    names, file, expires, days         of the certificate that is in use

Nor are the sets of networks that tenants send from. Who asks for one tells; the others take it from
the store:

    event       networks-changed       published anew, and in use (added, removed: at most a hundred)
                networks-refused       published anew, and so different that an operator must decide
                                       (``text``: how); those before stay in use
                networks-accepted      an operator has taken what was refused (who, why)
                networks-not-refreshed nobody could be asked, or the answer was none (``text``); at
                                       most once an hour; those before stay in use, if there are any
    set, origin                        its name, and whom it was asked of
    old, new                           how many networks it had, and has or would have

TLS on the way out, where it is less than it was:

    event       tls-downgraded         hosts that had shown validated TLS for a while do not any more
                                       (domain, site, source, host); refused: whether mail waits for it
                policy-not-refreshed   a domain's MTA-STS policy is in use, and cannot be had again
    text        why

Reports of how TLS went (RFC 8460) are accepted as mail, or posted:

    event       tls-report tls-report-failed
    domain, to, report    about whom, the URI (failed, "": its record could not be had), and the id
    sessions, failures    how many it tells of, and how many of them failed
    id, text    the message, if it is one; why it failed

A scanner that stops answering, and that answers again; each process tells for itself:

    event       scanner-down           it has failed several times in a row, and is left alone for a
                                       while; what its rules do without it says ``on_failure``
                scanner-up
    name, text  of the scanner; what went wrong

What becomes of the archive's copies is an operator's decision (``who``, ``why``), too:

    event       archive-held archive-released    a hold, by its name (``hold``), and what it is about:
                tenant, ids, from, to (days)
                archive-purged         copies of a tenant and ``day`` are about to be removed: how many
                (``count``), and from where (``copy``: directory, s3). A purge that was cut short
                tells the rest again

What is told to whoever listens just now (relay/store/broadcast.py), and stands nowhere else:

    event       dropped     the process had more to tell than it could: ``count`` events
                missed      the listener was too slow: ``count``; null: it heard nothing since ``since``

The audit trail (relay/audit) has the same events, and some of its own. They are not in the log:

    event       command     a command of an operator, before it does anything: command, asked, who, why
                seal        the end of a day
                torn        the line before is half: its process died
                missed      the trail could not be written for a while (``text``): how many lines are
                            not there
                purged      days of a chain were taken away (this one is in the log, too)

The same lines are kept in the store for a while, as the message's story (``outgate explain``);
an operator's decision stands in the story of each message that it was about, too, unless whole queues
were retried.
"""

import logging
import os
import sys
import weakref
from collections.abc import Mapping
from typing import Protocol

import msgspec
import trio

_encode = msgspec.json.Encoder().encode
_FLUSH_OCTETS = 64 * 1024
_FLUSH_SECONDS = 0.25

_log = logging.getLogger("outgate.events")


def encode_event(event: Mapping[str, object]) -> bytes:
    """Return an event as one line of JSON, without the line end."""
    return _encode(event)


def decode_event(line: bytes) -> dict[str, object]:
    """Read what ``encode_event`` wrote. Raises msgspec.DecodeError."""
    return msgspec.json.decode(line, type=dict[str, object])


class AuditTrail(Protocol):
    """What the log hands events on to (relay/audit/trail.py)."""

    @property
    def trouble(self) -> str:
        """Why lines do not get to the disk, "" when all is well."""

    def write(self, event: bytes) -> None:
        """Take one encoded event."""

    def flush(self) -> None:
        """Write what has gathered."""

    async def run(self) -> None:
        """Have it on the disk, from time to time. Until cancelled."""

    def close(self) -> None:
        """Write the last."""


class Publisher(Protocol):
    """What tells events to whoever listens just now (relay/store/broadcast.py)."""

    def offer(self, lines: bytes) -> None:
        """Take a batch of encoded events, joined by line ends; at once, and never raising."""

    async def run(self) -> None:
        """Publish, until cancelled."""

    async def finish(self) -> None:
        """Publish the last; takes a moment at most."""


class EventLog:
    """Appends events to a file that all processes share, or to standard output.

    Lines are gathered and written together; O_APPEND keeps them whole beside other processes'.
    A full disk costs events, never mail: the trouble is reported once, in the service's own log.
    The audit trail, where there is one, has the same events, and is not content with that
    (``trouble``). A publisher has them, too, and may do with them what it can.
    """

    def __init__(
        self, path: str, trail: AuditTrail | None = None, publisher: Publisher | None = None
    ) -> None:
        """``path``: a file, made if need be, or "stdout"."""
        self._path = path
        self._trail = trail
        self._publisher = publisher
        self._lines: list[bytes] = []
        self._octets = 0
        self._broken = False
        if path == "stdout":
            self._file = sys.stdout.fileno()
        else:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            weakref.finalize(self, os.close, self._file)

    @property
    def trouble(self) -> str:
        """Why no mail should be accepted: it would be missing from the audit trail. "": it may."""
        return self._trail.trouble if self._trail is not None else ""

    def write(self, line: bytes) -> None:
        """Take one encoded event."""
        self._lines.append(line)
        self._octets += len(line)
        if self._trail is not None:
            self._trail.write(line)
        if self._octets >= _FLUSH_OCTETS:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        if self._trail is not None:
            self._trail.flush()  # also without news: a day may be over
        if not self._lines:
            return
        data = b"\n".join(self._lines)
        if self._publisher is not None:
            self._publisher.offer(data)
        data += b"\n"
        self._lines.clear()
        self._octets = 0
        try:
            while data:
                data = data[os.write(self._file, data) :]
            self._broken = False
        except OSError as error:
            if not self._broken:
                self._broken = True
                _log.error("cannot write events to %s: %s", self._path, error.strerror)

    async def run(self) -> None:
        """Flush from time to time, until cancelled; then once more."""
        try:
            async with trio.open_nursery() as nursery:
                if self._trail is not None:
                    nursery.start_soon(self._trail.run)
                if self._publisher is not None:
                    nursery.start_soon(self._publisher.run)
                while True:
                    await trio.sleep(_FLUSH_SECONDS)
                    self.flush()
        finally:
            self.flush()
            if self._publisher is not None:
                await self._publisher.finish()

    def close(self) -> None:
        """Write the last, when nobody writes any more: tasks that end beside ``run`` may have."""
        self.flush()
        if self._trail is not None:
            self._trail.close()
