"""Real complaints and bounces: those of the corpus that say in their head what they are."""

from relay.feedback import Abuse, Bounce, read_report
from tests.kit.mime import needs_corpus, read_corpus


@needs_corpus
def test_the_reports_of_the_corpus_are_read() -> None:
    complaints = bounces = addressed = failed = 0
    for sample in read_corpus():
        head = sample.content.partition(b"\r\n\r\n")[0].lower()
        report = read_report(sample.content)
        if b"report-type=feedback-report" in head.replace(b'"', b""):
            assert isinstance(report, Abuse), sample.name
            assert report.original, sample.name
            complaints += 1
            addressed += bool(report.recipients or report.source_ip)
        elif b"report-type=delivery-status" in head.replace(b'"', b""):
            bounces += 1
            if isinstance(report, Bounce):
                failed += bool(report.failures)
        else:
            assert not isinstance(report, Abuse) or b"feedback-report" in sample.content, (
                sample.name
            )
    assert complaints >= 8
    assert addressed >= complaints - 3
    assert bounces >= 15
    assert failed >= bounces - 3  # which name nobody
