"""The generated corpus: always the same, and as awkward as promised."""

from collections.abc import Callable

import pytest

from workers.emulation.corpus import GeneratedCorpus, Sample
from workers.emulation.internet import STRANGER

COUNT = 400


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    corpus = GeneratedCorpus(1, COUNT)
    return [corpus.make(number) for number in range(len(corpus))]


def test_the_same_seed_makes_the_same_messages(samples: list[Sample]) -> None:
    again = GeneratedCorpus(1, 5)

    assert [again.make(number) for number in range(5)] == samples[:5]
    assert GeneratedCorpus(2, 5).make(0) != samples[0]


def test_the_envelope_can_be_had_without_the_content(samples: list[Sample]) -> None:
    corpus = GeneratedCorpus(1, COUNT)

    assert all(corpus.envelope(sample.number) == sample.envelope for sample in samples)


def test_every_message_has_a_sender_of_its_own(samples: list[Sample]) -> None:
    assert len({sample.envelope.sender for sample in samples}) == COUNT


def test_every_message_can_be_sent_as_it_is(samples: list[Sample]) -> None:
    for sample in samples:
        content = sample.content
        assert content.endswith(b"\r\n")
        assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
        # RFC 5322 §2.1.1: 998 characters and CRLF.
        assert max(map(len, content.split(b"\r\n"))) <= 998
        if not content.isascii():
            assert sample.envelope.body == b"8BITMIME"


def test_no_recipient_is_named_twice_in_a_message(samples: list[Sample]) -> None:
    for sample in samples:
        addresses = [recipient.address for recipient in sample.envelope.recipients]
        assert len(set(addresses)) == len(addresses) > 0
        assert all(address.isascii() for address in addresses) or sample.envelope.smtputf8


def test_strangers_live_at_picky_only(samples: list[Sample]) -> None:
    addresses = [r.address for sample in samples for r in sample.envelope.recipients]
    strangers = [address for address in addresses if address.startswith(STRANGER)]

    assert 0 < len(strangers) < len(addresses) / 10
    assert all(address.endswith(b"@picky.test") for address in strangers)


@pytest.mark.parametrize(
    "feature",
    [
        lambda s: b"\r\n.\r\n" in s.content,
        lambda s: b"\r\n..\r\n" in s.content,
        lambda s: b"x" * 998 in s.content,
        lambda s: "Grüße".encode() in s.content,
        lambda s: "会議".encode() in s.content,
        lambda s: b"\r\n\r\n" not in s.content,
        lambda s: b"text/calendar" in s.content,
        lambda s: b"multipart/alternative" in s.content,
        lambda s: len(s.content) > 500_000,
        lambda s: len(s.envelope.recipients) > 25,
        lambda s: s.envelope.smtputf8,
        lambda s: bool(s.envelope.envid and s.envelope.recipients[-1].notify),
    ],
    ids=[
        *("lone dot", "two dots", "longest line", "umlauts", "Japanese", "no body"),
        *("calendar", "HTML", "large", "list", "SMTPUTF8", "DSN"),
    ],
)
def test_the_corpus_has(samples: list[Sample], feature: Callable[[Sample], bool]) -> None:
    assert any(map(feature, samples))
