"""What replies say: by wording, by provider, by permanence; and what must hold for any octets."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.model import Blame
from workers.replies.classifier import MAX_TEXT, Classifier, has_rules, load_classifier, read_reply
from workers.replies.label import Action, Label, Reading
from workers.replies.rule import read_book
from workers.replies.transcript import read_replies

_LINES = Path(__file__).with_name("wordings.txt").read_text("utf-8").splitlines()
WORDINGS = [line.split("|", 1) for line in _LINES if not line.startswith("#")]


def read(line: str, provider: str = "", command: str = "") -> Reading:
    (said,) = read_replies([line])
    return read_reply(said.code, said.status, said.text, provider=provider, command=command)


@pytest.mark.parametrize(("said", "line"), WORDINGS)
def test_wording_has_its_label_and_is_whose_it_is(said: str, line: str) -> None:
    reading = read(line)

    label, _, blame = said.partition(" ")
    assert (reading.label, reading.blame.value) == (label, blame or reading.blame.value)


SCOPES = [
    # Google says whose the rate is: notes beside the rules say where.
    ("421 4.7.28 Gmail has detected an unusual rate of mail originating from your IP address", Blame.SOURCE, Action.SLOW_SOURCE),
    ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP Netblock [192.0.2.0]", Blame.SOURCE, Action.SLOW_NETBLOCK),
    ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your DKIM domain [a.example 36]", Blame.TENANT, Action.SLOW_TENANT),
    ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your SPF domain [a.example 36]", Blame.TENANT, Action.SLOW_TENANT),
    ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail containing one of your URL domains", Blame.TENANT, Action.SLOW_TENANT),
    ("450 4.2.1 The user you are trying to contact is receiving mail too quickly", Blame.RECIPIENT, Action.SLOW_RECIPIENT),
    ("550 5.7.508 Access denied, [2001:db8:1::25] has exceeded permitted limits within /64 range", Blame.SOURCE, Action.SLOW_NETBLOCK),
    ("550 5.7.1 Unfortunately, messages from [192.0.2.5] weren't sent. Part of their network is on our block list (S3150)", Blame.SOURCE, Action.QUARANTINE_SOURCE),
    ("451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation (S775)", Blame.SOURCE, Action.SLOW_SOURCE),
    ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", Blame.SOURCE, Action.SLOW_SOURCE),
    ("421 Max message per connection reached, closing transmission channel", Blame.SESSION, Action.RECONNECT),
    ("421 4.7.0 mx.example.com Error: too many connections from 192.0.2.1", Blame.SOURCE, Action.FEWER_CONNECTIONS),
    ("421 Trop de connexions, veuillez verifier votre configuration. OFR_102", Blame.SOURCE, Action.FEWER_CONNECTIONS),
    ("450 4.2.0 Greylisted, see you in 300 seconds", Blame.SESSION, Action.RETRY_SAME_SOURCE),
    ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", Blame.SOURCE, Action.QUARANTINE_SOURCE),
    ("550 5.7.25 The IP address sending this message does not have a PTR record", Blame.SOURCE, Action.FIX_SETUP),
    ("530 5.7.0 Must issue a STARTTLS command first", Blame.SESSION, Action.FIX_SETUP),
    ("452 4.2.2 The recipient's mailbox is over quota", Blame.RECIPIENT, Action.SLOW_RECIPIENT),
    ("552 5.2.2 The recipient's mailbox is over quota", Blame.RECIPIENT, Action.BOUNCE),
    ("421 4.7.32 Your email has been rate limited because the From: header isn't aligned", Blame.TENANT, Action.SLOW_TENANT),
    ("550 5.7.26 Unauthenticated email from a.example is not accepted due to domain's DMARC policy", Blame.TENANT, Action.BOUNCE),
    ("452 4.5.3 Error: too many recipients", Blame.SESSION, Action.RETRY),
    ("552 too many recipients", Blame.SESSION, Action.RETRY),
    ("550 5.1.1 no such user", Blame.RECIPIENT, Action.BOUNCE),
    ("450 5.1.1 no such user", Blame.RECIPIENT, Action.RETRY),
]  # fmt: skip


@pytest.mark.parametrize(("line", "blame", "action"), SCOPES)
def test_what_is_done_follows_from_whose_it_is(line: str, blame: Blame, action: Action) -> None:
    reading = read(line)

    assert (reading.blame, reading.action) == (blame, action)


def test_a_provider_rules_are_its_own_where_it_is_known() -> None:
    assert read("421 4.7.0 [TSS04] deferred").rule == "yahoo-temporarily-deferred"
    assert read("421 4.7.0 [TSS04] deferred", "yahoo").rule == "yahoo-temporarily-deferred"
    assert read("421 4.7.0 [TSS04] deferred", "google").rule != "yahoo-temporarily-deferred"
    assert read("421 4.7.0 [TSS04] deferred", "mx.example.org").rule == "yahoo-temporarily-deferred"


def test_sites_belong_to_families() -> None:
    line = "550 5.7.124 nothing that anybody knows"
    assert read(line, "exchange-online").rule == "microsoft-recipient-authentication"
    assert read(line, "google").rule != "microsoft-recipient-authentication"
    assert has_rules("outlook")
    assert not has_rules("mx.example.org")


def test_provider_before_all_others_and_status_before_guesses() -> None:
    assert (
        read(
            "550 5.1.1 <a@b.example> - 192.0.2.1 has sent to too many recipients this hour. IB607"
        ).label
        == Label.RATE_LIMITED
    )
    assert read("550 5.1.1 you are not wanted, full stop").label == Label.MAILBOX_UNKNOWN
    assert read("552 5.2.2 no").label == Label.MAILBOX_FULL
    assert read("550 sorry (#5.1.1)").label == Label.MAILBOX_UNKNOWN


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "HELO", "STARTTLS"])
def test_a_session_that_is_refused_ends_no_message(command: str) -> None:
    reading = read("550 5.1.1 no such user", command=command)

    assert reading.permanent
    assert reading.action is Action.RETRY


def test_a_reply_that_says_nothing_is_unknown() -> None:
    reading = read_reply(550, "", "no")

    assert (reading.label, reading.rule) == (Label.UNKNOWN, "nothing-fits")
    assert reading.permanent


def test_somebody_s_address_says_nothing() -> None:
    assert read("550 <spamhaus@blacklist.example>").label == Label.UNKNOWN


def test_without_a_code_the_enhanced_code_has_the_word_and_text_alone_is_never_for_good() -> None:
    assert read_reply(0, "5.1.1", "no such user").permanent
    assert not read_reply(0, "4.1.1", "no such user").permanent
    assert not read_reply(0, "", "no such user").permanent
    assert read_reply(550, "4.1.1", "no such user").permanent


def test_only_the_beginning_of_a_text_is_read() -> None:
    assert read_reply(550, "", "x " * MAX_TEXT + "no such user").label == Label.UNKNOWN


@settings(deadline=None, max_examples=300)
@given(
    st.integers(-10, 1000),
    st.text(max_size=12),
    st.text(alphabet=st.characters(), max_size=2000),
    st.sampled_from(["", "google", "yahoo", "nobody"]),
    st.sampled_from(["", "RCPT", "CONNECT", "?"]),
)
def test_nothing_makes_it_fail(
    code: int, status: str, text: str, provider: str, command: str
) -> None:
    reading = read_reply(code, status, text, provider=provider, command=command)

    assert reading.permanent == (code // 100 == 5 if code > 0 else status.startswith("5."))
    assert reading.rule
    if reading.action is Action.BOUNCE:
        assert reading.permanent


def test_a_lone_surrogate_is_text_too() -> None:
    assert read_reply(550, "5.1.1", "no such user \ud800").label == Label.MAILBOX_UNKNOWN


_WORDS = sorted({word for _, line in WORDINGS for word in line.split()})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(_WORDS), min_size=100, max_size=200))
def test_no_text_takes_long(words: list[str]) -> None:
    """The worst that somebody can do: all our words, in an order that was never seen."""
    began = time.thread_time()
    read_reply(550, "5.7.1", " ".join(words))
    assert time.thread_time() - began < 0.05


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(_WORDS), max_size=30))
def test_the_automaton_passes_over_nothing_that_a_pattern_would_find(words: list[str]) -> None:
    classifier = load_classifier()
    asked = classifier._ask(550, "", " ".join(words), "", "")
    possible = set(classifier._find_possible(asked))
    for place, (_, wording) in enumerate(classifier._tries):
        if wording is not None and wording.is_in(asked.text):
            assert place in possible


_SMALL = """
[families]
one = ["uno"]
[[rule]]
name = "a"
label = "content_spam"
text = ["(unclosed"]
source = "x"
"""


def test_a_pattern_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(unclosed"):
        Classifier(read_book(_SMALL))
