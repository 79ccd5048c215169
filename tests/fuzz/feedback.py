"""Complaints and bounces: read, or not, within bounds; an id only where one of ours stands."""

from relay.feedback import Abuse, Bounce, find_message_id, read_report
from relay.feedback.arf import KINDS
from relay.model import read_home
from relay.store.keys import SHARDS
from tests.kit.reports import HOSTNAME, make_arf, make_bounce, make_original, make_report

_ORIGINAL = make_original("01KAZYTA0000000000000003")
_LONGEST = 500

SEEDS = [
    make_arf(_ORIGINAL, source_ip="192.0.2.9"),
    make_arf(_ORIGINAL, kind="not-spam", recipient="", headers_only=True),
    make_bounce(_ORIGINAL, ["a@y.test", "b@y.test"]),
    make_bounce(_ORIGINAL, action="delayed"),
    make_report("x", ("message/rfc822", b"X-HmXmrOriginalRecipient: b@y.test\r\n" + _ORIGINAL)),
    make_arf(_ORIGINAL).partition(b"MIME-Version")[2],
    _ORIGINAL,
]


def check(octets: bytes) -> None:
    """Whatever it is, it has no more of anything than bounds allow."""
    report = read_report(octets)
    texts: list[str] = []
    if isinstance(report, Abuse):
        assert report.kind in KINDS
        assert len(report.recipients) <= 10
        texts = [report.user_agent, report.mail_from, report.arrived, *report.recipients]
    elif isinstance(report, Bounce):
        assert len(report.failures) <= 100
        texts = [report.reporter]
        for failure in report.failures:
            texts += [failure.action, failure.status, failure.text, *failure.recipients]
    assert all(len(text) <= _LONGEST for text in texts)
    original = octets if report is None else report.original
    assert len(original) <= len(octets)
    if message_id := find_message_id(original, HOSTNAME):
        assert message_id.encode() in original
        assert 0 <= read_home(message_id) < SHARDS
