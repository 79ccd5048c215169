"""What becomes of a message: the first [[rule]] whose conditions all hold decides (``policy.py``)."""

from relay.policy.decision import Decision
from relay.policy.facts import Facts
from relay.policy.policy import Policy

__all__ = ["Decision", "Facts", "Policy"]
