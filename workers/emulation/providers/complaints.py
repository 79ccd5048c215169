"""Who will complain about what, and when: drawn at delivery, due later."""

import heapq
import itertools
import random
from dataclasses import dataclass, field

from workers.emulation.providers.profile import Complaints

_MOST = 100_000  # complaints that wait for their time, or for somebody to take them


@dataclass(frozen=True, slots=True)
class Complaint:
    """One person's opinion of one message."""

    address: str  # the client's
    sender: bytes
    recipient: bytes
    message_id: str
    at: float  # when it was made, by the provider's clock
    head: bytes = b""  # the message's header, if the provider was given it


@dataclass(slots=True)
class Grumblers:
    """The people of one provider who complain."""

    rules: Complaints
    random: random.Random
    _waiting: list[tuple[float, int, Complaint]] = field(default_factory=list)  # a heap
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def is_quiet(self) -> bool:
        """True when nobody ever complains."""
        return not self.rules.share and not self.rules.senders

    def hear(self, complaint: Complaint) -> None:
        """Somebody got a message at ``complaint.at``; decide what comes of it."""
        domain = complaint.sender.rpartition(b"@")[2].decode("ascii", "replace").lower()
        share = self.rules.senders.get(domain, self.rules.share)
        if not share or self.random.random() >= share or len(self._waiting) >= _MOST:
            return
        delay = self.random.expovariate(1 / self.rules.delay) if self.rules.delay else 0.0
        due = Complaint(
            complaint.address,
            complaint.sender,
            complaint.recipient,
            complaint.message_id,
            complaint.at + delay,
            complaint.head,
        )
        # Numbered: two of the same time must not be compared by what is in them.
        heapq.heappush(self._waiting, (due.at, next(self._numbers), due))

    def take_due(self, now: float) -> list[Complaint]:
        """Take those whose time has come, the oldest first."""
        due: list[Complaint] = []
        while self._waiting and self._waiting[0][0] <= now:
            due.append(heapq.heappop(self._waiting)[2])
        return due
