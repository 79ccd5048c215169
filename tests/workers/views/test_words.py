"""Words for people: spans, counts, and what is too long for a line."""

import pytest

from workers.views.words import format_count, format_span, shorten


def test_what_is_long_is_cut() -> None:
    assert shorten("x" * 160) == "x" * 160
    assert shorten("x" * 161) == "x" * 157 + "..."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.1 s"),
        (0.34, "0.3 s"),
        (3.2, "3 s"),
        (240, "4 min"),
        (9000, "2.5 h"),
        (1e5, "1.2 d"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


@pytest.mark.parametrize(
    ("number", "word", "text"),
    [
        (1, "queue", "1 queue"),
        (2000, "queue", "2,000 queues"),
        (3, "delivery", "3 deliveries"),
        (4, "day", "4 days"),
        (2, "address", "2 addresses"),
    ],
)
def test_counts(number: int, word: str, text: str) -> None:
    assert format_count(number, word) == text
