"""A reprieve: what was refused for the source's sake alone is tried from another one.

A 5xx is for good (RFC 5321 §4.2.1): the same command must not be repeated as it was. From another
address it is not as it was: the refusal names our address, not the message, its sender or its
recipient. So a source that has just been blocked does not bounce the mail that met the block. Each
source of the pool may have one try; then the answer stands.
"""

from collections.abc import Mapping, Sequence

import msgspec

from relay.model import Disposition, Outcome

_OF_SOURCE = frozenset({"quarantine-source", "retry-other-source", "slow-source", "slow-netblock"})


def reprieve(
    outcomes: Sequence[Outcome], source: str, members: Mapping[str, int], attempts: int
) -> Sequence[Outcome]:
    """Return the outcomes, deferred instead of bounced where another source has not had its try.

    ``source``: the one that tried; ``members``: the pool's sources and weights; ``attempts``: those
    before this one.
    """
    others = sum(1 for name, weight in members.items() if weight > 0 and name != source)
    if attempts >= others or not any(map(_is_about_source, outcomes)):
        return outcomes
    return [
        msgspec.structs.replace(outcome, disposition=Disposition.DEFERRED)
        if _is_about_source(outcome)
        else outcome
        for outcome in outcomes
    ]


def _is_about_source(outcome: Outcome) -> bool:
    return outcome.disposition is Disposition.BOUNCED and outcome.action in _OF_SOURCE
