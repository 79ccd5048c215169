"""When a host says how long we should stay away: the delay that a temporary reply names.

There is no field for it; people write it into the text, most often because of a greylist: "try
again in 300 seconds", "retry in 5 minutes", "please come back in 00:04:57". A number with a unit is
not enough ("500 messages in 60 minutes", "idle for 300 s"), so a word about coming back has to stand
shortly before it, with no other number and no end of a clause between the two. Better to miss a
hint than to see one: without it the schedule holds.
"""

import re

from relay.model import Outcome

_MAX_TEXT = 1000  # of a reply; hints stand at its beginning
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# Every repetition has an upper bound: a reply cannot make the search slow.
_AMOUNT = r"(?:[0-9]{1,6}(?:\.[0-9]{1,3})?|(?:one|an?)(?=\s))"
_UNIT = (
    r"(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z]|/|\s{0,2}(?:ago|each)\b)"
)
_PART = rf"{_AMOUNT}\s{{0,3}}{_UNIT}"
_HINT = re.compile(
    r"\b(?:try|retry|retries|re-?send|resubmit|come\ back|back|again|wait|later|deferred|delayed"
    r"|gr[ea]y-?list(?:ed|ing)?)\b"
    # "... in", "... after", ": ", " for at least", "=", " (in"
    r"[^0-9.,;!?]{0,30}?(?<![a-z0-9])(?:"
    # A time of day looks the same; it has its zone behind it, or more than a day.
    r"(?P<clock>[0-9]{1,2}:[0-5][0-9]:[0-5][0-9])(?![0-9:.]|\s{0,2}(?:utc|gmt|[ap]m\b|[+-][0-9]))"
    rf"|(?P<parts>{_PART}(?:(?:,|\s{{1,2}}and)?\s{{0,2}}{_PART}){{0,3}})"
    r")"
    # As the header field of HTTP, in seconds without saying so.
    r"|\bretry-after\s?[:=]?\s?(?P<bare>[0-9]{1,6})(?![0-9:.]|\s?[a-z])",
    re.IGNORECASE,
)
_SPLIT = re.compile(rf"(?P<amount>{_AMOUNT})\s{{0,3}}(?P<unit>[smhd])[a-z]*", re.IGNORECASE)


def find_hint(outcome: Outcome) -> float | None:
    """Return the seconds that a host asks us to stay away, None when it does not say.

    Only a temporary reply of the host's own is heard. Not bounded: ``schedule.next_wait`` does that.
    """
    if outcome.code // 100 != 4:
        return None
    return read_delay(outcome.text)


def read_delay(text: str) -> float | None:
    """Return the delay in seconds that a text names, None when it names none. Never raises."""
    found = _HINT.search(text[:_MAX_TEXT])
    if found is None:
        return None
    if clock := found["clock"]:
        hours, minutes, seconds = map(int, clock.split(":"))
        return float(hours * 3600 + minutes * 60 + seconds)
    if bare := found["bare"]:
        return float(bare)
    return sum(
        _read_amount(part["amount"]) * _UNITS[part["unit"].lower()]
        for part in _SPLIT.finditer(found["parts"])
    )


def _read_amount(word: str) -> float:
    return 1.0 if word.isalpha() else float(word)
