"""Complaints as receivers send them, and as nobody should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.feedback import Abuse, read_report
from tests.kit.reports import make_arf, make_original, make_report

ORIGINAL = make_original("01KAZYTA0000000000000003")


def read(octets: bytes) -> Abuse:
    report = read_report(octets)
    assert isinstance(report, Abuse)
    return report


@pytest.mark.parametrize("headers_only", [False, True])
def test_a_complaint(headers_only: bool) -> None:
    report = read(make_arf(ORIGINAL, source_ip="192.0.2.9", headers_only=headers_only))

    assert report.kind == "abuse"
    assert report.user_agent == "Test/1.0"
    assert report.recipients == ("bob@y.test",)
    assert report.source_ip == "192.0.2.9"
    assert report.original.rstrip() == ORIGINAL.rstrip()


def test_all_fields() -> None:
    fields = (
        b"Feedback-Type: FRAUD\r\nUser-Agent: A/1\r\nVersion: 1\r\n"
        b"Original-Mail-From: <alice@acme.example>\r\nOriginal-Rcpt-To: <bob@y.test>\r\n"
        b"Original-Rcpt-To: <eve@y.test>\r\nArrival-Date: Thu, 8 Mar 2005\r\n 14:00:00 EDT\r\n"
        b"Source-IP: [IPv6:2001:DB8:0::1]\r\nReported-Domain: acme.example\r\n"
    )
    report = read(make_report("feedback-report", ("message/feedback-report", fields)))

    assert report == Abuse(
        "fraud", "A/1", "alice@acme.example", ("bob@y.test", "eve@y.test"),
        "Thu, 8 Mar 2005 14:00:00 EDT", "2001:db8::1", "acme.example",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "kind"),
    [(b"", "other"), (b"Feedback-Type: strange\r\n", "other"), (b"feedback-TYPE:virus", "virus")],
)
def test_kinds(fields: bytes, kind: str) -> None:
    report = make_report("feedback-report", ("message/feedback-report", fields))

    assert read(report).kind == kind


@pytest.mark.parametrize("text", ["", "somewhere", "192.0.2.999", "192.0.2.1 and more"])
def test_a_source_that_is_no_address(text: str) -> None:
    assert read(make_arf(ORIGINAL, source_ip=text)).source_ip == ""


def test_outlook_attaches_the_message() -> None:
    original = b"X-HmXmrOriginalRecipient: <bob@hotmail.test>\r\n" + ORIGINAL
    attached = make_report("x", ("message/rfc822", original)).replace(b" report-type=x;", b"")

    report = read(attached)

    assert (report.kind, report.recipients) == ("abuse", ("bob@hotmail.test",))
    assert report.original == original


def test_a_message_that_is_passed_on_is_no_complaint() -> None:
    attached = make_report("x", ("message/rfc822", ORIGINAL)).replace(b" report-type=x;", b"")

    assert read_report(attached) is None


def test_an_original_that_nobody_could_read_does_no_harm() -> None:
    broken = ORIGINAL + b'Content-Type: multipart/mixed; boundary="gone"\r\nno field\r\n'

    assert read(make_arf(broken)).original.startswith(ORIGINAL)


def test_a_report_within_a_multipart() -> None:
    inner = make_arf(ORIGINAL).partition(b"MIME-Version: 1.0\r\n")[2]
    outer = (
        b'Content-Type: multipart/mixed; boundary="=_o"\r\n\r\n--=_o\r\n%b\r\n--=_o--\r\n' % inner
    )

    assert read(outer).kind == "abuse"


def test_encoded_parts() -> None:
    report = make_arf(ORIGINAL).replace(
        b"message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n",
        b"message/feedback-report\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"RmVlZGJhY2stVHlwZTogdmlydXMNCg==\r\n",
    )

    assert read(report).kind == "virus"


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\r\n\r\n",
        b"Subject: x\r\n\r\nFeedback-Type: abuse\r\n",
        b"Content-Type: multipart/report; boundary=x; report-type=feedback-report\r\n\r\n--y\r\n",
        b"Content-Type: multipart/report; report-type=feedback-report\r\n\r\n--\r\n",
        b"no field at all\r\n\r\n" + make_arf(ORIGINAL),
    ],
)
def test_what_is_none(octets: bytes) -> None:
    assert read_report(octets) is None


def test_a_thousand_parts_and_recipients_are_not_looked_at() -> None:
    many = [("text/plain", b"x")] * 1000
    late = make_report("feedback-report", *many, ("message/feedback-report", b"Version: 1\r\n"))
    fields = b"Feedback-Type: abuse\r\n" + b"Original-Rcpt-To: a@y.test\r\n" * 1000

    assert read_report(late) is None
    report = read(make_report("feedback-report", ("message/feedback-report", fields)))
    assert len(report.recipients) == 10


def test_multiparts_in_multiparts_end_somewhere() -> None:
    octets = make_arf(ORIGINAL).partition(b"MIME-Version: 1.0\r\n")[2]
    for number in range(50):
        octets = b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n%b\r\n' % (
            number, number, octets,
        )  # fmt: skip

    assert read_report(octets) is None


@given(st.binary(max_size=300), st.integers(0, 900), st.integers(0, 20))
def test_whatever_is_changed_in_it(patch: bytes, at: int, cut: int) -> None:
    octets = make_arf(ORIGINAL)
    for changed in (patch, octets[:at] + patch + octets[at + cut :], octets[:at], octets + patch):
        report = read_report(changed)
        if isinstance(report, Abuse):
            assert len(report.recipients) <= 10
            assert max(map(len, (*report.recipients, report.user_agent, ""))) <= 500
