"""The report as a document and as a mail, read by others' parsers."""

import base64
import email
import email.policy
import gzip
import json
import re

import pytest

from relay.store.tlsrpt import DAY, Session
from workers.tls.document import MAX_DETAILS, Report, Reporting, make_mail, make_report

REPORTING = Reporting("Company-X", "tlsrpt@company-x.example", "sts-reporting@company-x.example")
FIRST_OF_APRIL = 16_892  # 2016-04-01
POLICY = (
    *("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"),
)  # fmt: skip
MX = ("*.mail.company-y.example",)


def make_failure(
    failing: str, source: str, host: str, address: str = "", text: str = ""
) -> Session:
    return Session("company-y.example", "sts", POLICY, MX, host, source, failing, text, address)


EXPIRED = make_failure("certificate-expired", "2001:db8:abcd:12::1", "mx1.mail.company-y.example")
NO_TLS = make_failure(
    *("starttls-not-supported", "2001:db8:abcd:13::1", "mx2.mail.company-y.example"), "203.0.113.56"
)
INVALID = make_failure(
    *("validation-failure", "198.51.100.62", "mx-backup.mail.company-y.example", "203.0.113.58"),
    "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
)
COUNTS = {
    Session("company-y.example", "sts", POLICY, MX): 5326,
    INVALID: 3,
    EXPIRED: 100,
    NO_TLS: 200,
}


def read(report: Report) -> dict[str, object]:
    found: dict[str, object] = json.loads(gzip.decompress(report.content))
    return found


def test_it_is_the_example_of_the_rfc() -> None:
    report = make_report("company-y.example", FIRST_OF_APRIL, COUNTS, REPORTING)

    # RFC 8460, appendix B: the same keys, types and nesting, with our id and order.
    assert read(report) == {
        "organization-name": "Company-X",
        "date-range": {
            "start-datetime": "2016-04-01T00:00:00Z",
            "end-datetime": "2016-04-01T23:59:59Z",
        },
        "contact-info": "sts-reporting@company-x.example",
        "report-id": report.id,
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": list(POLICY),
                    "policy-domain": "company-y.example",
                    "mx-host": ["*.mail.company-y.example"],
                },
                "summary": {
                    "total-successful-session-count": 5326,
                    "total-failure-session-count": 303,
                },
                "failure-details": [
                    {
                        "result-type": "starttls-not-supported",
                        "sending-mta-ip": "2001:db8:abcd:13::1",
                        "receiving-mx-hostname": "mx2.mail.company-y.example",
                        "receiving-ip": "203.0.113.56",
                        "failed-session-count": 200,
                    },
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "2001:db8:abcd:12::1",
                        "receiving-mx-hostname": "mx1.mail.company-y.example",
                        "failed-session-count": 100,
                    },
                    {
                        "result-type": "validation-failure",
                        "sending-mta-ip": "198.51.100.62",
                        "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                        "receiving-ip": "203.0.113.58",
                        "failed-session-count": 3,
                        "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                    },
                ],
            }
        ],
    }
    assert (report.successes, report.failures) == (5326, 303)


def test_each_policy_has_its_own_counts() -> None:
    records = ("3 1 1 " + "AB" * 32,)
    counts = {
        Session("y.test", "tlsa", records, ("mx.y.test",)): 5,
        Session("y.test", "tlsa", records, ("mx.y.test",), "mx.y.test", failing="tlsa-invalid"): 2,
        Session("y.test", "no-policy-found"): 4,
        Session("y.test", "sts", POLICY, MX): 1,
    }
    policies = read(make_report("y.test", FIRST_OF_APRIL, counts, REPORTING))["policies"]

    assert policies == [
        {
            # RFC 8460 §1.1: the TLSA base domain.
            "policy": {
                "policy-type": "tlsa",
                "policy-string": list(records),
                "policy-domain": "mx.y.test",
            },
            "summary": {"total-successful-session-count": 5, "total-failure-session-count": 2},
            "failure-details": [
                {
                    "result-type": "tlsa-invalid",
                    "receiving-mx-hostname": "mx.y.test",
                    "failed-session-count": 2,
                }
            ],
        },
        {
            "policy": {"policy-type": "no-policy-found", "policy-domain": "y.test"},
            "summary": {"total-successful-session-count": 4, "total-failure-session-count": 0},
        },
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": list(POLICY),
                "policy-domain": "y.test",
                "mx-host": list(MX),
            },
            "summary": {"total-successful-session-count": 1, "total-failure-session-count": 0},
        },
    ]


def test_details_are_bounded_and_sums_are_not() -> None:
    counts = {
        make_failure("validation-failure", "192.0.2.1", f"mx{n}", text=f"{n}"): n + 1
        for n in range(MAX_DETAILS + 10)
    }
    counts[make_failure("certificate-expired", "192.0.2.1", "mx")] = 0
    report = make_report("y.test", FIRST_OF_APRIL, counts, REPORTING)
    (policy,) = json.loads(gzip.decompress(report.content))["policies"]
    details = policy["failure-details"]

    assert len(details) == MAX_DETAILS + 2
    assert {"result-type": "validation-failure", "failed-session-count": 55} in details
    assert sum(one["failed-session-count"] for one in details) == report.failures
    assert policy["summary"]["total-failure-session-count"] == report.failures


def test_strangers_words_are_made_fit() -> None:
    counts = {
        make_failure("validation-failure", "", "mx", text="a\r\nb\x00\x1b[31m" + "x" * 999): 1
    }
    report = make_report("y.test", FIRST_OF_APRIL, counts, REPORTING)
    (detail,) = json.loads(gzip.decompress(report.content))["policies"][0]["failure-details"]

    assert detail["failure-reason-code"].startswith("a??b??[31mxxx")
    assert len(detail["failure-reason-code"]) == 500


def test_ids_follow_from_domain_day_and_us() -> None:
    def identify(domain: str, day: int, contact: str = REPORTING.contact) -> str:
        return make_report(domain, day, {}, Reporting("X", "a@x.example", contact)).id

    one = identify("y.test", 5)
    assert (
        one == make_report("y.test", 5, COUNTS, Reporting("X", "a@x.example", REPORTING.contact)).id
    )
    others = {
        one,
        identify("z.test", 5),
        identify("y.test", 6),
        identify("y.test", 5, "a@z.example"),
    }
    assert len(others) == 4
    assert re.fullmatch(r"1970-01-06\.[0-9a-f]{16}@company-x\.example", one)


def test_the_mail_is_that_of_the_rfc() -> None:
    report = make_report("company-y.example", FIRST_OF_APRIL, COUNTS, REPORTING)
    content = make_mail(
        report, REPORTING, to="tls@company-y.example", message_id="01ABC", now=1_459_600_000
    )
    assert content.count(b"\n") == content.count(b"\r\n") == content.count(b"\r")
    assert max(map(len, content.split(b"\r\n"))) <= 140
    message = email.message_from_bytes(content, policy=email.policy.default)

    assert message["From"] == "tlsrpt@company-x.example"
    assert message["To"] == "tls@company-y.example"
    assert message["Subject"] == (
        f"Report Domain: company-y.example Submitter: company-x.example Report-ID: <{report.id}>"
    )
    assert message["Date"] == "Sat, 02 Apr 2016 12:26:40 +0000"
    assert message["Message-ID"] == "<01ABC@company-x.example>"
    assert message["TLS-Report-Domain"] == "company-y.example"
    # RFC 8460 §5.3: the domain of contact-info.
    assert message["TLS-Report-Submitter"] == "company-x.example"
    assert message["TLS-Required"] == "No"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "tlsrpt"
    words, file = message.iter_parts()
    assert words.get_content_type() == "text/plain"
    assert "5326 succeeded, 303 failed" in words.get_content()
    assert file.get_content_type() == "application/tlsrpt+gzip"
    start = FIRST_OF_APRIL * DAY
    assert file.get_filename() == (
        f"company-x.example!company-y.example!{start}!{start + DAY - 1}.json.gz"
    )
    assert file.get_content() == report.content


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_the_attachment_survives(size: int) -> None:
    counts = {make_failure("validation-failure", "", "mx", text=f"{n}"): 1 for n in range(size)}
    report = make_report("y.test", FIRST_OF_APRIL, counts, REPORTING)
    content = make_mail(report, REPORTING, to="a@y.test", message_id="01ABC", now=0)
    body = content.split(b'json.gz"\r\n\r\n')[1].partition(b"\r\n--")[0]

    assert base64.b64decode(body) == report.content
