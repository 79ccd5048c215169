"""Words for people: times, spans and counts, the same on a terminal and on a page."""

import time

_LONGEST = 160  # characters of what a host said, in a line that says more


def shorten(text: str) -> str:
    """Return what somebody has said, without its end when it is longer than anybody reads."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def format_span(seconds: float) -> str:
    """Return "0.3 s", "3 s", "4 min", "2.5 h", "1.2 d"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f}".removesuffix(".0") + f" {unit}"
    return f"{max(0.0, seconds):.0f} s" if seconds >= 1 else f"{max(0.1, seconds):.1f} s"


def format_time(moment: float) -> str:
    """Return a time, seconds since 1970, on this host's clock face."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def format_count(number: int, word: str) -> str:
    """Return "1 queue", "2,000 queues", "3 deliveries", "4 days"."""
    if number == 1:
        return f"1 {word}"
    if word.endswith("y") and not word.endswith("ay"):
        return f"{number:,} {word[:-1]}ies"
    return f"{number:,} {word}{'es' if word.endswith('s') else 's'}"
