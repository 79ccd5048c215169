"""Replies and errors to outcomes: the table, and what must hold for any reply."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import errors
from relay.model import Blame, Disposition
from workers.classify import classify_error, classify_reply

DELIVERED, DEFERRED, BOUNCED = Disposition
RECIPIENT, MESSAGE, TENANT, SOURCE, HOST, SESSION = Blame

REPLIES = [
    (".", 250, "2.0.0", "queued", DELIVERED, None),
    ("BDAT", 250, "", "ok", DELIVERED, None),
    # recipients
    ("RCPT", 550, "5.1.1", "no such user", BOUNCED, RECIPIENT),
    ("RCPT", 550, "", "no such user", BOUNCED, RECIPIENT),
    ("RCPT", 552, "5.2.2", "mailbox full", BOUNCED, RECIPIENT),
    ("RCPT", 452, "4.2.2", "mailbox full", DEFERRED, RECIPIENT),
    ("RCPT", 450, "4.7.1", "greylisted, come back", DEFERRED, SESSION),
    ("RCPT", 550, "5.7.1", "not allowed to write to this group", BOUNCED, RECIPIENT),
    ("RCPT", 452, "4.5.3", "too many recipients", DEFERRED, SESSION),
    # messages
    (".", 554, "5.7.1", "looks like spam", BOUNCED, MESSAGE),
    (".", 550, "", "no", BOUNCED, MESSAGE),
    (".", 554, "5.6.0", "broken MIME", BOUNCED, MESSAGE),
    ("MAIL", 552, "5.3.4", "too big", BOUNCED, MESSAGE),
    ("MAIL", 552, "", "too big", BOUNCED, MESSAGE),
    ("RCPT", 550, "5.2.3", "too big for this mailbox", BOUNCED, MESSAGE),
    ("DATA", 554, "", "no", BOUNCED, MESSAGE),
    # tenants
    ("MAIL", 550, "5.1.8", "sender's domain does not exist", BOUNCED, TENANT),
    ("MAIL", 553, "", "sender refused", BOUNCED, TENANT),
    (".", 550, "5.7.26", "unauthenticated mail from example.org", BOUNCED, TENANT),
    ("RCPT", 550, "5.7.23", "SPF says no", BOUNCED, TENANT),
    # sources
    ("RCPT", 554, "5.7.1", "Client host [192.0.2.1] blocked using zen", BOUNCED, SOURCE),
    ("MAIL", 550, "", "your IP is on our Blacklist", BOUNCED, SOURCE),
    (".", 421, "4.7.0", "your IP sends too much", DEFERRED, SESSION),
    (".", 450, "4.7.25", "no reverse name", DEFERRED, SOURCE),
    # hosts
    ("CONNECT", 554, "5.7.1", "go away", DEFERRED, HOST),
    ("CONNECT", 550, "", "your IP is on our blacklist", DEFERRED, SOURCE),
    ("EHLO", 550, "", "what a name", DEFERRED, HOST),
    ("HELO", 501, "", "what a name", DEFERRED, HOST),
    ("STARTTLS", 502, "5.5.1", "not today", DEFERRED, HOST),
    ("STARTTLS", 454, "4.7.0", "no TLS now", DEFERRED, HOST),
    ("MAIL", 452, "4.3.1", "disk full", DEFERRED, HOST),
    (".", 451, "", "local error", DEFERRED, HOST),
    ("MAIL", 451, "4.7.1", "later", DEFERRED, HOST),
    ("RCPT", 550, "5.4.6", "mail loop", BOUNCED, HOST),
    # sessions
    ("RCPT", 421, "4.3.2", "shutting down", DEFERRED, HOST),
    ("CONNECT", 421, "", "too many connections", DEFERRED, SOURCE),
    ("RCPT", 503, "5.5.1", "need MAIL first", DEFERRED, SESSION),
    (".", 451, "4.4.2", "the peer closed the connection", DEFERRED, SESSION),
    # nonsense
    ("RCPT", 250, "2.1.5", "ok", DEFERRED, SESSION),
    ("RCPT", 354, "", "go ahead", DEFERRED, SESSION),
    (".", 354, "", "go ahead", DEFERRED, SESSION),
    (".", 0, "", "", DEFERRED, SESSION),
    (".", 999, "", "", DEFERRED, SESSION),
]


@pytest.mark.parametrize(("command", "code", "status", "text", "disposition", "blame"), REPLIES)
def test_reply_means(
    command: str, code: int, status: str, text: str, disposition: Disposition, blame: Blame | None
) -> None:
    outcome = classify_reply(command, code, status, text)

    assert (outcome.disposition, outcome.blame) == (disposition, blame)
    assert (outcome.command, outcome.code, outcome.status, outcome.text) == (
        command,
        code,
        status,
        text,
    )


def test_refusal_known_to_be_temporary_is_deferred() -> None:
    outcome = classify_reply("RCPT", 552, "", "too many recipients", temporary=True)

    assert outcome.disposition is DEFERRED


COMMANDS = ["CONNECT", "EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "BDAT", ".", "", "X"]


@settings(deadline=None)
@given(st.sampled_from(COMMANDS), st.integers(-1, 1000), st.text(max_size=12), st.text())
def test_only_a_refusal_of_mail_bounces_and_only_the_last_answer_delivers(
    command: str, code: int, status: str, text: str
) -> None:
    outcome = classify_reply(command, code, status, text)

    if outcome.disposition is BOUNCED:
        assert 500 <= code <= 599
        assert command not in COMMANDS[:4]
    if outcome.disposition is DELIVERED:
        assert 200 <= code <= 299
        assert command in (".", "BDAT")
    assert (outcome.blame is None) == (outcome.disposition is DELIVERED)


@pytest.mark.parametrize(
    ("error", "blame", "status"),
    [
        (errors.SourceUnusable, SOURCE, "4.3.5"),
        (errors.HostUnreachable, HOST, "4.4.1"),
        (errors.PeerClosed, SESSION, "4.4.2"),
        (errors.PeerSilent, SESSION, "4.4.2"),
        (errors.TlsFailed, HOST, "4.7.5"),
        (errors.NetworkError, SESSION, "4.4.0"),
    ],
)
def test_error_is_never_a_bounce(
    error: type[errors.NetworkError], blame: Blame, status: str
) -> None:
    outcome = classify_error(error("what happened"), "DATA")

    assert (outcome.disposition, outcome.blame) == (DEFERRED, blame)
    assert (outcome.command, outcome.code, outcome.status) == ("DATA", 0, status)
    assert outcome.text == "what happened"


@pytest.mark.parametrize("error", errors.NetworkError.__subclasses__())
def test_every_kind_of_error_is_known(error: type[errors.NetworkError]) -> None:
    assert classify_error(error("x")).status != "4.4.0"


def test_text_is_bounded() -> None:
    assert len(classify_reply(".", 550, "", "x" * 5000).text) == 1024
