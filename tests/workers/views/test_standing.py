"""The standing of a source at a site in words: what operators read in several commands."""

from dataclasses import replace

import pytest

from relay.config import Config
from relay.store.standing import Quarantine, Standing, WarmDay
from workers.views.standing import (
    describe,
    find_word,
    format_pace,
    format_score,
    is_telling,
    tell_quarantine,
    tell_warmup,
)

NOW = 1_700_000_000.0
PLAIN = Standing(
    site="google",
    source="a",
    score=0.9,
    evidence=400.0,
    pace=None,
    connections=None,
    rests_until=0.0,
    why="",
    quarantine=None,
    warmup=None,
)
SHUT = Quarantine(until=NOW + 900, count=2, why="550 5.7.1 listed", probed=0)
DAY = WarmDay(
    day=4, days=20, allowance=1700, used=120, next_day=NOW + 7200, next_allowance=2500
)  # fmt: skip


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (None, "-"),
        (12.5, "12.5/s"),
        (1234.4, "1,234/s"),
        (4.0, "4/s"),
        (0.2, "0.2/s"),
        (0.05, "3/m"),
        (1 / 60, "1/m"),
        (0.001, "3.6/h"),
    ],
)
def test_pace(pace: float | None, said: str) -> None:
    assert format_pace(pace) == said


def test_score_without_evidence_is_unknown() -> None:
    assert format_score(0.5, 19.9) == "unknown"
    assert format_score(0.874, 20) == "0.87"


@pytest.mark.parametrize(
    ("count", "said"),
    [(2, "the 2nd time"), (3, "the 3rd time"), (4, "the 4th time"), (11, "the 11th time"),
     (21, "the 21st time"), (112, "the 112th time")],
)  # fmt: skip
def test_quarantine_says_until_when_and_how_often(count: int, said: str) -> None:
    text = tell_quarantine(replace(SHUT, count=count), NOW)

    assert text.startswith("quarantined until 20")
    assert text.endswith(f" (in 15 min), {said}: 550 5.7.1 listed")


def test_first_quarantine_is_not_counted() -> None:
    assert "time" not in tell_quarantine(replace(SHUT, count=1), NOW)


@pytest.mark.parametrize(
    ("changes", "word", "text"),
    [
        ({}, "good", "good"),
        ({"evidence": 0.0}, "new", "new"),
        ({"score": 0.4}, "poor", "poor"),
        ({"score": 0.4, "evidence": 5.0}, "good", "good"),  # as good as unknown
        ({"connections": 3, "why": "421 too many"}, "narrowed", "narrowed"),
        ({"pace": 0.5, "why": "421 slow down"}, "slowed", "slowed: 421 slow down"),
        ({"pace": 0.5}, "slowed", "slowed"),
        (
            {"pace": 0.5, "rests_until": NOW + 4, "why": "421 slow down"},
            "silent",
            "silent for 4 s: 421 slow down",
        ),
        (
            {"quarantine": replace(SHUT, until=NOW - 1, probed=3), "rests_until": NOW + 4},
            "probing",
            "probing, 3 of 5 got through",
        ),
    ],
)
def test_state_is_what_matters_most(changes: dict[str, object], word: str, text: str) -> None:
    one = replace(PLAIN, **changes)  # type: ignore[arg-type]

    said = describe(one, Config(), NOW)

    assert (said["state"], said["text"]) == (word, text)
    assert find_word(one, NOW) == word


def test_what_is_said_for_programs() -> None:
    said = describe(replace(PLAIN, quarantine=SHUT, warmup=DAY, pace=0.5), Config(), NOW)

    assert said.pop("text").startswith("quarantined until ")
    assert said == {
        "site": "google",
        "score": 0.9,
        "evidence": 400.0,
        "pace": 0.5,
        "connections": None,
        "rests_until": None,
        "quarantine": {
            "until": NOW + 900,
            "count": 2,
            "why": "550 5.7.1 listed",
            "probed": 0,
        },
        "warmup": {
            "day": 4,
            "days": 20,
            "allowance": 1700,
            "used": 120,
            "next_day": NOW + 7200,
            "next_allowance": 2500,
        },
        "state": "quarantined",
    }


def test_a_long_reply_is_cut() -> None:
    text = describe(replace(PLAIN, pace=1.0, why="x" * 300), Config(), NOW)["text"]

    assert len(text) < 180
    assert text.endswith("xxx...")


def test_warmup() -> None:
    def tell(**changes: object) -> str:
        one = replace(PLAIN, warmup=replace(DAY, **changes))  # type: ignore[arg-type]
        return tell_warmup(describe(one, Config(), NOW)["warmup"], NOW)

    assert tell() == "warm-up day 4 of 20: 120 of 1,700; in 2 h: 2,500"
    assert tell(next_allowance=None).endswith("in 2 h: warm")
    assert tell(allowance=None) == "warm"


def test_what_says_nothing() -> None:
    assert not is_telling(replace(PLAIN, evidence=0.2), NOW)
    assert not is_telling(replace(PLAIN, evidence=0.0, warmup=replace(DAY, allowance=None)), NOW)
    assert is_telling(PLAIN, NOW)
    assert is_telling(replace(PLAIN, evidence=0.0, warmup=DAY), NOW)
    assert is_telling(replace(PLAIN, evidence=0.0, pace=1.0), NOW)
