"""A complaint as providers send it: ARF (RFC 5965), about one message, from nobody who exists.

The gateway's own reading of such reports has no code in common with this.
"""

from dataclasses import dataclass
from email.utils import formatdate

from workers.emulation.providers.complaints import Complaint
from workers.emulation.providers.settings import Feedback

_REPORT = """\
From: <{sender}>
To: <{address}>
Date: {date}
Subject: complaint about a message from {source}
MIME-Version: 1.0
Message-ID: <{number}.{host}>
Content-Type: multipart/report; report-type=feedback-report;
 boundary="{boundary}"

--{boundary}
Content-Type: text/plain; charset="us-ascii"

This is an abuse report for a message from {source}, received on
{arrived}. It was made by a person who does not exist: the provider is emulated.

--{boundary}
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: outgate-emulate/1.0
Version: 1
Original-Mail-From: <{mail_from}>
Original-Rcpt-To: <{recipient}>
Arrival-Date: {arrived}
Source-IP: {source}
Reporting-MTA: dns; {host}

--{boundary}
Content-Type: text/rfc822-headers

"""


@dataclass(frozen=True, slots=True)
class Report:
    """One message about one complaint."""

    sender: str
    content: bytes
    tries: int = 0


def make_report(
    complaint: Complaint, feedback: Feedback, *, host: str, number: str, now: float
) -> Report:
    """Write a complaint as ARF: for people, for programs (RFC 5965 §3.1, §3.2), and the header.

    ``host``: who reports. ``now``: seconds since 1970, and the message arrived just before.
    """
    sender = feedback.sender or f"complaints@{host.removeprefix('mx.')}"
    # Drawn from nothing that a message could have been written to hold.
    boundary = f"=_feedback_{number}"
    text = _REPORT.format(
        sender=sender,
        address=feedback.address,
        date=formatdate(now, localtime=False),
        arrived=formatdate(now, localtime=False),
        source=complaint.address,
        host=host,
        number=number,
        boundary=boundary,
        mail_from=complaint.sender.decode("utf-8", "replace"),
        recipient=complaint.recipient.decode("utf-8", "replace"),
    )
    head = complaint.head or b"Message-ID: <%s>\r\n" % complaint.message_id.encode()
    content = text.replace("\n", "\r\n").encode() + head + f"\r\n--{boundary}--\r\n".encode()
    return Report(sender, content)
