"""The standing of a source at a site as people see it: score, pace, quarantine, warm-up.

``describe`` makes what ``--json`` prints, and the text in it; the rest are words for tables and reasons.
"""

from typing import Any

import msgspec

from relay.config import Config
from relay.store.standing import Quarantine, Standing
from workers.views.words import format_span, format_time, shorten

KNOWN = 20  # evidence; with less, a score says more about the beginning than about the source
_POOR = 0.5  # what a source begins with: below, more speaks against it than for it
# What there is to say of a standing; the first is what an operator should look at first.
WORDS = ("quarantined", "probing", "silent", "slowed", "narrowed", "poor", "good", "new")


def describe(one: Standing, config: Config, now: float) -> dict[str, Any]:
    """Return a standing for programs; ``state`` is one of WORDS, ``text`` says it for people."""
    word = find_word(one, now)
    return {
        "site": one.site,
        "score": round(one.score, 3),
        "evidence": round(one.evidence, 1),
        "pace": one.pace,
        "connections": one.connections,
        "rests_until": one.rests_until if one.rests_until > now else None,
        "quarantine": _spell_quarantine(one.quarantine),
        "warmup": msgspec.to_builtins(one.warmup),
        "state": word,
        "text": _tell(one, word, config, now),
    }


def find_word(one: Standing, now: float) -> str:
    """Return one of WORDS: what matters most about a standing at ``now``, seconds since 1970."""
    if one.quarantine is not None:
        return "quarantined" if one.quarantine.until > now else "probing"
    if one.rests_until > now:
        return "silent"
    if one.pace is not None:
        return "slowed"
    if one.connections is not None:
        return "narrowed"
    if one.evidence < 0.5:
        return "new"
    return "poor" if one.score < _POOR and one.evidence >= KNOWN else "good"


def is_telling(one: Standing, now: float) -> bool:
    """Tell whether there is more to say of a standing than that nothing was heard lately."""
    is_warming = one.warmup is not None and one.warmup.allowance is not None
    return is_warming or find_word(one, now) != "new"


def _spell_quarantine(quarantine: Quarantine | None) -> dict[str, Any] | None:
    """Leave out until when a probe is out: for the reasons why something waits (reason.py) only."""
    if quarantine is None:
        return None
    return {
        "until": quarantine.until,
        "count": quarantine.count,
        "why": quarantine.why,
        "probed": quarantine.probed,
    }


# -- words ----------------------------------------------------------------------------------------


def _tell(one: Standing, word: str, config: Config, now: float) -> str:
    if one.quarantine is not None:
        if word == "quarantined":
            return tell_quarantine(one.quarantine, now)
        return f"probing, {tell_probes(one.quarantine, config)}"
    if word == "silent":
        return add_why(f"silent for {format_span(one.rests_until - now)}", one.why)
    return add_why(word, one.why) if word == "slowed" else word


def tell_quarantine(quarantine: Quarantine, now: float, *, at: str = "") -> str:
    """Return "quarantined at SITE until ... (in 2 h), the 2nd time: why"."""
    until = f"{format_time(quarantine.until)} (in {format_span(quarantine.until - now)})"
    again = f", the {_count_up(quarantine.count)} time" if quarantine.count > 1 else ""
    where = f" at {at}" if at else ""
    return add_why(f"quarantined{where} until {until}{again}", quarantine.why)


def tell_probes(quarantine: Quarantine, config: Config) -> str:
    """Return "3 of 5 got through"."""
    return f"{quarantine.probed} of {config.reputation.probes} got through"


def add_why(text: str, why: str) -> str:
    """Return a text with what somebody said to it, if anything, cut to be read."""
    return f"{text}: {shorten(why)}" if why else text


def tell_warmup(day: dict[str, Any], now: float) -> str:
    """Return "warm-up day 4 of 20: 120 of 170; in 3 h: 250", of what ``describe`` made; or "warm"."""
    if day["allowance"] is None:
        return "warm"
    used = f"{day['used']:,} of {day['allowance']:,}"
    then = "warm" if day["next_allowance"] is None else f"{day['next_allowance']:,}"
    wait = format_span(day["next_day"] - now)
    return f"warm-up day {day['day']} of {day['days']}: {used}; in {wait}: {then}"


def format_score(score: float, evidence: float) -> str:
    """Return "0.87", or "unknown"."""
    return f"{score:.2f}" if evidence >= KNOWN else "unknown"


def format_pace(pace: float | None) -> str:
    """Return deliveries/s as "12.5/s", "3/m" or "6/h"; "-": not paced."""
    if pace is None:
        return "-"
    for unit, length in (("s", 1), ("m", 60)):
        if pace * length >= 0.1:
            return f"{_round(pace * length)}/{unit}"
    return f"{_round(pace * 3600)}/h"


def _round(number: float) -> str:
    """Return about two digits of what is small, three of what is not."""
    if number < 1:
        return f"{number:.2g}"
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}".removesuffix(".0")


def _count_up(number: int) -> str:
    """Return "2nd", "3rd", "11th"."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"
