"""What rules have made of a message."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relay.config.policy import Rule
from relay.scan.inquiry import Scan

Action = Literal["accept", "reject", "hold", "defer"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The first rule that held, or that could not be answered; and what is done.

    ``action`` is not always the rule's own: ``on_error`` has another, and a scanner that is away
    defers. What the rule says to do beside it (``pool``, ``footer``, ...) is done with "accept" and "hold".
    """

    rule: Rule | None = None  # None: no rule held, the message is accepted as it is
    action: Action = "accept"
    # For the event, not for the peer: which conditions held, what could not be found out, and why.
    # Nothing of the message's contents.
    reason: str = ""
    scans: Mapping[str, Scan] = field(default_factory=dict)  # what scanners said, by their names
