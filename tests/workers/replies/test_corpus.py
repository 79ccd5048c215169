"""Replies that others have published, with labels: how many of them are read as they are labelled."""

import csv
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from workers.replies.classifier import read_reply
from workers.replies.label import Reading
from workers.replies.transcript import Said, read_replies

ROUNDS = 60
CORPUS = Path(__file__).parents[3].parent / "shared" / "corpus" / "replies.dev.tsv"
_BLAMES = {"sender": "tenant", "source_ip": "source"}

pytestmark = pytest.mark.skipif(not CORPUS.is_file(), reason="no corpus beside the project")

Pairs = Sequence[tuple[str, str]]


def read_rows() -> list[dict[str, str]]:
    with CORPUS.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))


def classify(row: dict[str, str], provider: str = "") -> Reading:
    (said,) = read_replies([row["text"]])
    return read_reply(said.code, said.status, said.text, provider=provider)


def count_f1(pairs: Pairs) -> float:
    """Return the mean of all classes' F1: the harmonic mean of precision and recall."""
    right = Counter(wanted for wanted, found in pairs if wanted == found)
    wrong = Counter(word for pair in pairs if pair[0] != pair[1] for word in pair)
    classes = {wanted for wanted, _ in pairs}
    return statistics.fmean(2 * right[one] / (2 * right[one] + wrong[one]) for one in classes)


def list_confusion(pairs: Pairs) -> str:
    mixed = Counter(pair for pair in pairs if pair[0] != pair[1])
    return "\n".join(f"{count} {one} -> {other}" for (one, other), count in mixed.most_common())


@pytest.mark.parametrize("is_told", [False, True], ids=["unknown provider", "known provider"])
def test_most_are_read_as_they_are_labelled(is_told: bool) -> None:
    scored = [row for row in read_rows() if row["label"] != "unknown"]
    readings = [classify(row, row["provider"] if is_told else "") for row in scored]

    labels = [
        (row["label"], reading.label.value) for row, reading in zip(scored, readings, strict=True)
    ]
    blames = [
        (_BLAMES.get(row["blame"], row["blame"]), reading.blame.value)
        for row, reading in zip(scored, readings, strict=True)
    ]
    assert count_f1(labels) >= 0.92, list_confusion(labels)
    assert count_f1(blames) >= 0.97, list_confusion(blames)


def test_the_first_digit_says_whether_it_is_for_good() -> None:
    for row in read_rows():
        digit = (row["code"] or row["enhanced"])[0]
        assert classify(row).permanent == (digit == "5"), row["text"]


def time_replies(said: Sequence[Said], end: str) -> float:
    """Return the seconds of this thread that reading a reply takes; ``end`` makes it a new one."""
    texts = [(one.code, one.status, one.text + end) for one in said]
    began = time.thread_time()
    for code, status, text in texts:
        read_reply(code, status, text)
    return (time.thread_time() - began) / len(texts)


@pytest.mark.alone
def test_a_reply_costs_less_than_fifty_microseconds() -> None:
    """In one of some rounds: the machine that runs tests has other things to do, for seconds on end."""
    replies = [next(read_replies([row["text"]])) for row in read_rows()]
    long = [one._replace(text=f"{one.text} " * (1000 // (len(one.text) + 1))) for one in replies]

    assert any(time_replies(replies, f" {number}") < 50e-6 for number in range(ROUNDS))
    # More than is ever read of one, and nothing but words that mean something.
    assert any(time_replies(long, f" {number}") < 100e-6 for number in range(ROUNDS))
    time_replies(replies, " again")
    assert any(time_replies(replies, " again") < 25e-6 for _ in range(ROUNDS))
