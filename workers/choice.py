"""Which source makes the next attempt, when the last one's answer has something to say about it.

* The receiver put off *this* message (greylisting, its own trouble): the same source. A greylist
  waits for the same triple; a new address begins its wait anew.
* The receiver has something against the source, or has had enough of it for now: another one.
* Anything else: whoever's turn it is. A full mailbox is full from everywhere, a tenant's bad name goes
  with the tenant, and a fault of our own is not mended by hiding it.
"""

import random
import re
from collections.abc import Mapping, Sequence

from relay.model import Blame, Outcome
from workers.replies.label import Action

_ABOUT_MESSAGE = ("MAIL", "RCPT", "DATA", "BDAT", ".")
# RFC 3463 §3.3, §3.4: about the mailbox, or about the whole mail system there.
_ABOUT_THEM = re.compile(r"4\.[23]\.")
_OTHERS = frozenset(
    {
        Action.RETRY_OTHER_SOURCE,
        Action.QUARANTINE_SOURCE,
        Action.SLOW_SOURCE,
        Action.FEWER_CONNECTIONS,
        Action.SLOW_NETBLOCK,
    }
)
_GREY = re.compile(r"gr[ea]y", re.IGNORECASE)


def choose_again(outcomes: Sequence[Outcome], source: str, members: Mapping[str, int]) -> str:
    """Return the source that must make the next attempt; "" for whoever's turn it is.

    ``outcomes``: of the recipients that are still open; ``source``: the one that tried;
    ``members``: the pool's sources and weights.
    """
    if any(map(_is_against_source, outcomes)):
        others = {name: weight for name, weight in members.items() if name != source and weight > 0}
        if not others:
            return ""
        return random.choices(list(others), list(others.values()))[0]  # noqa: S311 - a fair share
    if source in members and any(map(_is_put_off, outcomes)):
        return source
    return ""


def _is_against_source(outcome: Outcome) -> bool:
    """Tell whether another source may fare better. What is no reply has a blame only."""
    if outcome.action:
        return outcome.action in _OTHERS
    return outcome.blame is Blame.SOURCE


def _is_put_off(outcome: Outcome) -> bool:
    """Tell whether a reply may mean: the same again, later."""
    if outcome.action == Action.RETRY_SAME_SOURCE:
        return True
    if outcome.action and outcome.action != Action.RETRY:
        return False  # it is known to be about something else
    if not 400 <= outcome.code < 500 or outcome.code == 421:
        return False
    if outcome.command not in _ABOUT_MESSAGE:
        return False
    return bool(_GREY.search(outcome.text)) or not _ABOUT_THEM.match(outcome.status)
