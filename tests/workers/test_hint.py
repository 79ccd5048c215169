"""Delays that replies name: found where they are meant, and nowhere else."""

import csv
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import Blame, Disposition, Outcome
from workers.hint import find_hint, read_delay

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "replies.dev.tsv"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.2.0 Greylisted, please retry in 5 minutes", 300),
        ("Greylisted, try again in 300 seconds", 300),
        ("4.7.1 greylisting in action, please come back in 00:04:57", 297),
        ("please wait 00:05:00", 300),
        ("4.7.1 slow down ... come back in 10 min", 600),
        ("you may try again in 1 hour", 3600),
        ("enabled greylisting, try again in 1 minutes", 60),
        (
            "<b@y.test>: Recipient address rejected: Greylisted for 181 seconds (see the manual)",
            181,
        ),
        ("Please try delivery again in 240 seconds.", 240),
        ("in progress ... please try again after 2 minutes", 120),
        ("retry in 1h30m", 5400),
        ("retry in 4 minutes and 30 seconds", 270),
        ("retry in 1 hour, 2 minutes", 3720),
        ("try again in an hour", 3600),
        ("Try again in one minute", 60),
        ("WAIT AT LEAST 300S", 300),
        ("try again later (in 90 sec)", 90),
        ("Retry-After: 120", 120),
        ("retry-after=45s", 45),
        ("graylisted: 7 min", 420),
        ("too busy; resend in 1.5 hours", 5400),
        ("come back in 2 days", 172_800),
        ("try again in 0 seconds", 0),
    ],
)
def test_delay_is_read(text: str, seconds: float) -> None:
    assert read_delay(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "try again later",
        "try again in a few minutes",
        "too many messages: 500 in 60 minutes, try later",
        "try again later. You have sent 500 messages in 60 minutes",
        "wait; 20 connections per 1 minute are allowed",
        "retry limit of 5 per hour",
        "temporarily deferred - 4.16.50",
        "you were greylisted 5 minutes ago",
        "idle for 300 seconds",
        "retry after 12:30:00 UTC",
        "retry after 08:15:00 pm",
        "retry after 25:99:00",
        "retry after 2024-05-01 12:30:00",
        "try again in 12345678 seconds",
        "try again in 3m/h steps",
        "delayed by 192.0.2.25",
        "awaiting deep scan 10 min",
    ],
)
def test_number_that_is_no_delay_is_left_alone(text: str) -> None:
    assert read_delay(text) is None


@pytest.mark.parametrize(
    ("code", "seconds"), [(450, 300), (421, 300), (550, None), (0, None), (250, None), (354, None)]
)
def test_only_a_temporary_reply_is_heard(code: int, seconds: float | None) -> None:
    text = "try again in 300 seconds"
    outcome = Outcome(Disposition.DEFERRED, Blame.HOST, "RCPT", code, "", text)

    assert find_hint(outcome) == seconds


PIECES = """try again in wait retry after greylisted for 5 300 1.5 minutes hour s 00:05:00 a one and
, . : - = 4.7.1 retry-after ago UTC"""
words = st.sampled_from(PIECES.split())


@given(st.text(max_size=1500) | st.lists(words, max_size=300).map(" ".join))
def test_no_text_breaks_it(text: str) -> None:
    delay = read_delay(text)

    assert delay is None or 0 <= delay <= 4 * 1_000_000 * 86_400


@given(
    st.sampled_from(
        ["try again in", "come back after", "please wait", "greylisted for", "retry in"]
    ),
    st.integers(0, 999_999),
    st.sampled_from([("s", 1), (" seconds", 1), (" min", 60), ("m", 60), (" hours", 3600)]),
    st.sampled_from(["", ".", ", please", " (policy)"]),
)
def test_any_amount_is_read(cue: str, amount: int, unit: tuple[str, int], end: str) -> None:
    word, seconds = unit

    assert read_delay(f"4.7.1 {cue} {amount}{word}{end}") == amount * seconds


@pytest.mark.parametrize(
    "piece",
    ["try ", "try a ", "wait", "try 1 m, ", "again in ", "1", "1m ", "try 1", "retry-after 1"],
)
def test_long_text_costs_no_more_than_its_length(piece: str) -> None:
    started = time.perf_counter()
    read_delay(piece * 100_000)

    assert time.perf_counter() - started < 0.1  # about a thousandth of that


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not beside the checkout")
def test_among_real_replies_only_greylists_name_a_delay() -> None:
    with CORPUS.open(encoding="utf-8", newline="") as file:
        texts = [
            row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    found = {text: delay for text in texts if (delay := read_delay(text)) is not None}

    assert len(texts) > 300
    assert found
    assert all("greylist" in text.lower() for text in found)
    assert set(found.values()) == {300.0}
