"""A delivery in hand: its claim, and what has to be put right when that has ended."""

from dataclasses import dataclass

from relay.model import Claim
from workers.berth import Berth
from workers.feeder import Feeder


@dataclass(slots=True)
class Held:
    """A delivery in hand, and where it came from."""

    claim: Claim
    feeder: Feeder
    lane: str
    berth: Berth | None
    proven: bool
    since: float  # trio time
