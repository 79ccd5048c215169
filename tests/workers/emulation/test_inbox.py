"""What an inbox makes of a message."""

import hashlib

import pytest

from workers.emulation.inbox import Inbox, digest_relayed, read_failed

REPORT = b"""\
Received: from a by b\r
From: <mailer-daemon@gateway.acme.test>\r
Content-Type: multipart/report; report-type=delivery-status; boundary=x\r
\r
--x\r
\r
Two did not get it.\r
--x\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; gateway.acme.test\r
\r
Final-Recipient: rfc822; nobody1@picky.test\r
Action: failed\r
Status: 5.1.1\r
\r
Original-Recipient: rfc822; x@picky.test\r
Final-Recipient: rfc822;nobody2@picky.test\r
Action: FAILED\r
\r
Final-Recipient: rfc822; anna@slow.test\r
Action: delayed\r
\r
--x--\r
"""


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        (b"Received: x\r\nSubject: y\r\n\r\nz\r\n", b"Subject: y\r\n\r\nz\r\n"),
        (b"Received: x\r\n\tby y;\r\n Mon\r\nSubject: y\r\n", b"Subject: y\r\n"),
        (b"Received: x\r\n\r\nno header\r\n", b"\r\nno header\r\n"),
        (b"Received: x\r\n", b""),
    ],
)
def test_the_hash_is_of_all_but_the_first_header(content: bytes, rest: bytes) -> None:
    assert digest_relayed(content) == hashlib.sha256(rest).digest()


def test_a_report_names_its_failed_recipients_only() -> None:
    assert read_failed(REPORT) == [b"nobody1@picky.test", b"nobody2@picky.test"]


def test_a_bounce_is_booked_under_what_it_is_about() -> None:
    inbox = Inbox()

    inbox.take(b"", [b"m7@acme.test"], REPORT, answered=True)

    assert inbox.bounces == {
        (b"m7@acme.test", b"nobody1@picky.test"): 1,
        (b"m7@acme.test", b"nobody2@picky.test"): 1,
    }


def test_mail_with_a_sender_is_never_a_bounce() -> None:
    inbox = Inbox()

    inbox.take(b"joker@acme.test", [b"m7@acme.test"], REPORT, answered=True)

    assert not inbox.bounces
    assert inbox.copies[b"joker@acme.test", b"m7@acme.test"] == [digest_relayed(REPORT)]


def test_a_message_taken_in_silence_is_remembered_as_such() -> None:
    inbox = Inbox()

    inbox.take(b"a@acme.test", [b"x@flaky.test"], b"A: b\r\n\r\n", answered=False)

    assert inbox.unanswered == {(b"a@acme.test", b"x@flaky.test")}
    assert (inbox.messages, inbox.accepted) == (1, 1)
