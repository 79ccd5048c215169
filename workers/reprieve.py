"""A reprieve: what was refused for the source's sake alone is tried from another one.

A 5xx is for good (RFC 5321 §4.2.1): the same command must not be repeated as it was. From another
address it is not as it was: the refusal names our address, not the message, its sender or its
recipient. So a source that has just been blocked does not bounce the mail that met the block. Each
source of the pool may have one try, and a message some more, because tries that ended otherwise
(greylisted, a full mailbox) count with them; then the answer stands. A limit ends no message at all:
whatever its first digit, it says "not now".
"""

from collections.abc import Mapping, Sequence

import msgspec

from relay.model import Disposition, Outcome

_REFUSED = frozenset({"quarantine-source", "retry-other-source"})
_LIMITED = frozenset({"slow-source", "slow-netblock"})
# Attempts that a message may have, where a pool has fewer sources.
_TRIES = 5


def reprieve(
    outcomes: Sequence[Outcome], source: str, members: Mapping[str, int], attempts: int
) -> Sequence[Outcome]:
    """Return the outcomes, deferred instead of bounced where another source has not had its try.

    ``source``: the one that tried; ``members``: the pool's sources and weights; ``attempts``: those
    before this one.
    """
    if Disposition.BOUNCED not in [outcome.disposition for outcome in outcomes]:
        return outcomes
    others = sum(1 for name, weight in members.items() if weight > 0 and name != source)
    has_tries = others > 0 and attempts < max(others, _TRIES)
    return [
        msgspec.structs.replace(outcome, disposition=Disposition.DEFERRED)
        if outcome.disposition is Disposition.BOUNCED
        and (_is_limit(outcome) or (has_tries and outcome.action in _REFUSED))
        else outcome
        for outcome in outcomes
    ]


def _is_limit(outcome: Outcome) -> bool:
    return outcome.action in _LIMITED or outcome.label == "rate_limited"
