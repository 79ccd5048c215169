"""Delivery status reports: recipient by recipient."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.feedback import Bounce, Failure, read_report
from tests.kit.reports import make_bounce, make_original, make_report

ORIGINAL = make_original("01KAZYTA0000000000000003")


def read(octets: bytes) -> Bounce:
    report = read_report(octets)
    assert isinstance(report, Bounce)
    return report


def read_status(*groups: bytes) -> tuple[Failure, ...]:
    status = b"\r\n".join((b"Reporting-MTA: dns; mx.y.test\r\n", *groups))
    return read(make_report("delivery-status", ("message/delivery-status", status))).failures


def test_two_recipients() -> None:
    report = read(make_bounce(ORIGINAL, ["bob@y.test", "eve@y.test"]))

    text = "550 5.1.1 no such user"
    assert report.failures == (
        Failure("failed", "5.1.1", ("bob@y.test",), text),
        Failure("failed", "5.1.1", ("eve@y.test",), text),
    )
    assert report.reporter == "inner.y.test"
    assert report.original == ORIGINAL


def test_the_name_that_it_had_comes_first() -> None:
    (failure,) = read_status(
        b"Final-Recipient: RFC822;box17@inner.test\r\nOriginal-Recipient: rfc822;bob@y.test\r\n"
        b"Action: Failed\r\nStatus: 5.2.2 (mailbox full)\r\n"
    )

    assert failure == Failure("failed", "5.2.2", ("bob@y.test", "box17@inner.test"), "")


@pytest.mark.parametrize(
    ("group", "action", "status"),
    [
        (b"Final-Recipient: bob@y.test\r\n", "", ""),
        (b"Final-Recipient: rfc822;b\r\nAction: delayed\r\nStatus: 4.4.7\r\n", "delayed", "4.4.7"),
        (b"Final-Recipient: rfc822;b\r\nAction: exploded\r\nStatus: 9.9.9\r\n", "", ""),
    ],
)
def test_what_is_left_away_or_nonsense(group: bytes, action: str, status: str) -> None:
    (failure,) = read_status(group)

    assert (failure.action, failure.status) == (action, status)


def test_the_line_of_a_file_in_front() -> None:
    report = b"From MAILER-DAEMON  Thu Jul  2 12:05:05 2020\r\n" + make_bounce(ORIGINAL)

    assert read(report) == read(make_bounce(ORIGINAL))
    assert read_report(b"From no line end") is None


def test_no_recipient_at_all() -> None:
    assert read_status(b"Action: failed\r\nStatus: 5.1.1\r\n") == ()
    assert read(make_report("x", ("message/delivery-status", b""))).failures == ()


def test_recipients_are_bounded() -> None:
    report = read(make_bounce(ORIGINAL, [f"r{number}@y.test" for number in range(1000)]))

    assert len(report.failures) == 100
    assert report.original == ORIGINAL


def test_it_takes_time_in_proportion() -> None:
    start = time.perf_counter()
    for status in (
        b"\r\n" * 500_000,
        b"Final-Recipient: x\r\n\r\n" * 50_000,
        b"--=_c\r\n" * 150_000,
    ):
        read_report(make_report("delivery-status", ("message/delivery-status", status)))
        read_report(make_report("delivery-status", *[("multipart/mixed; boundary=c", status)]))
    assert time.perf_counter() - start < 5


@given(st.binary(max_size=300), st.integers(0, 900), st.integers(0, 20))
def test_whatever_is_changed_in_it(patch: bytes, at: int, cut: int) -> None:
    octets = make_bounce(ORIGINAL)
    for changed in (octets[:at] + patch + octets[at + cut :], octets[:at], octets + patch):
        report = read_report(changed)
        if isinstance(report, Bounce):
            assert len(report.failures) <= 100
            assert all(len(failure.text) <= 500 for failure in report.failures)
