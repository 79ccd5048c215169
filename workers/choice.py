"""Which source makes the next attempt, when the last one's answer has something to say about it.

* The receiver put off *this* message (greylisting, its own trouble): the same source. A greylist
  waits for the same triple; a new address begins its wait anew.
* The receiver has something against the source: another one.
* Anything else: whoever's turn it is. A full mailbox is full from everywhere.
"""

import random
import re
from collections.abc import Mapping, Sequence

from relay.model import Blame, Outcome

_ABOUT_MESSAGE = ("MAIL", "RCPT", "DATA", "BDAT", ".")
# RFC 3463 §3.3, §3.4: about the mailbox, or about the whole mail system there.
_ABOUT_THEM = re.compile(r"4\.[23]\.")
_GREY = re.compile(r"gr[ea]y", re.IGNORECASE)


def choose_again(outcomes: Sequence[Outcome], source: str, members: Mapping[str, int]) -> str:
    """Return the source that must make the next attempt; "" for whoever's turn it is.

    ``outcomes``: of the recipients that are still open; ``source``: the one that tried;
    ``members``: the pool's sources and weights.
    """
    if any(outcome.blame is Blame.SOURCE for outcome in outcomes):
        others = {name: weight for name, weight in members.items() if name != source and weight > 0}
        if not others:
            return ""
        return random.choices(list(others), list(others.values()))[0]  # noqa: S311 - a fair share
    if source in members and any(map(_is_put_off, outcomes)):
        return source
    return ""


def _is_put_off(outcome: Outcome) -> bool:
    """Tell whether a reply may mean: the same again, later."""
    if not 400 <= outcome.code < 500 or outcome.code == 421:
        return False
    if outcome.command not in _ABOUT_MESSAGE:
        return False
    return bool(_GREY.search(outcome.text)) or not _ABOUT_THEM.match(outcome.status)
