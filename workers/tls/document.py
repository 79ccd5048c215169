"""The report itself: its JSON (RFC 8460 §4.4), and the mail that carries it (§5.3).

What hosts said and domains published stands in it as they wrote it, cut to length: it goes back to
whoever answers for them.
"""

import base64
import gzip
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2s

import msgspec

from relay.store.tlsrpt import DAY, Session
from workers.quote import fold, format_date, limit

MAX_DETAILS = 500  # of one policy; the rarest ones are summed up without details

_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", omit_defaults=True):
    """A part of the document; what is empty is left out."""


class _Dates(_Part, frozen=True):
    start_datetime: str
    end_datetime: str


class _Policy(_Part, frozen=True, kw_only=True):
    policy_type: str
    policy_string: tuple[str, ...] = ()
    policy_domain: str
    mx_host: tuple[str, ...] = ()


class _Summary(_Part, frozen=True):
    total_successful_session_count: int
    total_failure_session_count: int


class _Failure(_Part, frozen=True, kw_only=True):
    result_type: str
    sending_mta_ip: str = ""
    receiving_mx_hostname: str = ""
    receiving_ip: str = ""
    failed_session_count: int
    # A stranger's words. Not ``additional-information``: that is a URI (§4.4).
    failure_reason_code: str = ""


class _Result(_Part, frozen=True):
    policy: _Policy
    summary: _Summary
    failure_details: tuple[_Failure, ...] = ()


class _Document(_Part, frozen=True):
    organization_name: str
    date_range: _Dates
    contact_info: str
    report_id: str
    policies: tuple[_Result, ...]


@dataclass(frozen=True, slots=True)
class Reporting:
    """Who reports: ``sender`` and ``contact`` are addresses."""

    organization: str
    sender: str
    contact: str

    @property
    def submitter(self) -> str:
        """The domain that reports. RFC 8460 §5.3: it must be that of the contact."""
        return self.contact.rpartition("@")[2].lower()


@dataclass(frozen=True, slots=True)
class Report:
    """A domain's report on a day. ``content``: gzip."""

    domain: str
    start: int  # seconds since 1970
    id: str
    submitter: str
    content: bytes
    successes: int
    failures: int

    @property
    def filename(self) -> str:
        """RFC 8460 §5.1."""
        return f"{self.submitter}!{self.domain}!{self.start}!{self.start + DAY - 1}.json.gz"


def make_report(
    domain: str, day: int, counts: Mapping[Session, int], reporting: Reporting
) -> Report:
    """Write the report on a day (since 1970, UTC). The same counts make the same octets."""
    start = day * DAY
    first, last = (_format(second) for second in (start, start + DAY - 1))
    mark = blake2s(f"{domain} {reporting.submitter}".encode(), digest_size=8).hexdigest()
    identity = f"{first[:10]}.{mark}@{reporting.submitter}"
    document = _Document(
        organization_name=reporting.organization,
        date_range=_Dates(start_datetime=first, end_datetime=last),
        contact_info=reporting.contact,
        report_id=identity,
        policies=_find_results(domain, counts),
    )
    failures = sum(result.summary.total_failure_session_count for result in document.policies)
    return Report(
        domain=domain,
        start=start,
        id=identity,
        submitter=reporting.submitter,
        content=gzip.compress(_encode(document), mtime=0),
        successes=sum(counts.values()) - failures,
        failures=failures,
    )


def _format(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # RFC 3339


def _find_results(domain: str, counts: Mapping[Session, int]) -> tuple[_Result, ...]:
    """Sort the sessions by policy."""
    found: dict[_Policy, dict[Session, int]] = defaultdict(dict)
    for session, count in sorted(counts.items(), key=lambda pair: (-pair[1], _encode(pair[0]))):
        found[_make_policy(domain, session)][session] = count
    return tuple(_make_result(policy, sessions) for policy, sessions in found.items())


def _make_policy(domain: str, session: Session) -> _Policy:
    # RFC 8460 §1.1: with DANE the policy domain is the TLSA base domain; §4.4: MX patterns are for STS.
    tlsa = session.kind == "tlsa"
    return _Policy(
        policy_type=session.kind,
        policy_string=session.strings,
        policy_domain=session.mx_pattern[0] if tlsa and session.mx_pattern else domain,
        mx_host=session.mx_pattern if session.kind == "sts" else (),
    )


def _make_result(policy: _Policy, sessions: Mapping[Session, int]) -> _Result:
    failed = {session: count for session, count in sessions.items() if session.failing}
    failures = sum(failed.values())
    return _Result(
        policy=policy,
        summary=_Summary(
            total_successful_session_count=sum(sessions.values()) - failures,
            total_failure_session_count=failures,
        ),
        failure_details=_find_failures(failed),
    )


def _find_failures(failed: Mapping[Session, int]) -> tuple[_Failure, ...]:
    """The most frequent first; what is left over is summed up by result type."""
    ordered = list(failed.items())
    found = [_make_failure(session, count) for session, count in ordered[:MAX_DETAILS]]
    rest: Counter[str] = Counter()
    for session, count in ordered[MAX_DETAILS:]:
        rest[session.failing] += count
    found += [_Failure(result_type=kind, failed_session_count=n) for kind, n in rest.items()]
    return tuple(found)


def _make_failure(session: Session, count: int) -> _Failure:
    return _Failure(
        result_type=session.failing,
        sending_mta_ip=session.source,
        receiving_mx_hostname=session.host,
        receiving_ip=session.address,
        failed_session_count=count,
        failure_reason_code=limit(session.text),
    )


# -- The mail

_WORDS = """\
This is an aggregate report of TLS sessions with the mail servers of {domain},
from {organization}, for {date} (UTC): {successes} succeeded, {failures} failed.

The attached file is for programs to read (RFC 8460). You get it because the DNS
says so at _smtp._tls.{domain}. Questions go to {contact}.
"""


def make_mail(
    report: Report, reporting: Reporting, *, to: str, message_id: str, now: float
) -> bytes:
    """Return the message to an address, without a signature. ``now``: seconds since 1970."""
    subject = (
        f"Subject: Report Domain: {report.domain} Submitter: {report.submitter} "
        f"Report-ID: <{report.id}>"
    )
    # Parts are a text of ours and base64: nobody else can write a boundary into them.
    boundary = f"=_{message_id}"
    head = (
        f"From: <{reporting.sender}>",
        f"To: <{to}>",
        fold(subject).decode("ascii"),
        f"Date: {format_date(now).decode('ascii')}",
        f"Message-ID: <{message_id}@{report.submitter}>",
        "Auto-Submitted: auto-generated",  # RFC 3834 §5
        "TLS-Required: No",  # RFC 8689 §5: what our own envelope says, for those who pass it on
        f"TLS-Report-Domain: {report.domain}",
        f"TLS-Report-Submitter: {report.submitter}",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="tlsrpt";\r\n\tboundary="{boundary}"',
    )
    parts = (_write_words(report, reporting), _write_file(report))
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("utf-8")


def _write_words(report: Report, reporting: Reporting) -> str:
    text = _WORDS.format(
        domain=report.domain,
        organization=limit(reporting.organization, 200),
        date=_format(report.start)[:10],
        successes=report.successes,
        failures=report.failures,
        contact=limit(reporting.contact),
    )
    head = "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    return head + text.replace("\n", "\r\n")


def _write_file(report: Report) -> str:
    lines = textwrap.wrap(base64.b64encode(report.content).decode("ascii"), 76)
    return (
        "Content-Type: application/tlsrpt+gzip\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment;\r\n\tfilename="{report.filename}"\r\n\r\n'
    ) + "\r\n".join(lines)
