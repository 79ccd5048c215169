"""A provider's patience with one address: penalties that grow when they are ignored, then blocks.

Both are forgiven: after a time without a throttle the next penalty is the first again, after a
time without a block the next block is. Neither ends because somebody asks, only by the clock.
"""

import math
from dataclasses import dataclass

from workers.emulation.providers.books import Books
from workers.emulation.providers.profile import Block, Escalation

_DAY = 86400.0


@dataclass(slots=True)
class Patience:
    """What is held against one address. Times are the provider's clock."""

    escalation: Escalation | None
    rules: Block
    books: Books
    penalised_until: float = -math.inf
    blocked_until: float = -math.inf
    _step: float = 0.0  # the length of the latest penalty
    _begun: float = -math.inf  # ... and its beginning
    _throttled: float = -math.inf  # the latest attempt that was refused for speed
    _ignored: int = 0  # attempts within penalties
    _blocked_at: float = -math.inf
    _row: int = 0  # blocks without forgiveness between them
    _delivered: float = 0.0  # copies and complaints of about a day: they fade
    _complained: float = 0.0
    _faded: float = -math.inf

    def throttle(self, now: float) -> None:
        """Begin a penalty, if there are any: the address was too fast."""
        rules = self.escalation
        if rules is None:
            return
        if now - self._throttled > rules.forgiveness or not self._step:
            self._step, self._ignored = rules.penalty, 0
        self._throttled = now
        self._punish(now)

    def ignore(self, now: float) -> None:
        """Take note of an attempt within a penalty."""
        rules = self.escalation
        assert rules is not None
        self._throttled = now
        if now - self._begun < rules.grace:
            return
        self._ignored += 1
        self._step = min(self._step * rules.factor, rules.maximum)
        self._punish(now)
        if self.rules.after and self._ignored >= self.rules.after:
            self.block(now)

    def _punish(self, now: float) -> None:
        self.books.penalties += 1
        self._begun = now
        self.penalised_until = max(self.penalised_until, now + self._step)

    def block(self, now: float) -> None:
        """Refuse the address from now on, for as long as it is its turn."""
        rules = self.rules
        if now - self.blocked_until > rules.forgiveness:
            self._row = 0
        # A float has its limits, and a hundred blocks in a row are as long as ten.
        lasts = rules.lasts * rules.factor ** min(self._row, 64)
        self._row += 1
        self._blocked_at = now
        self.blocked_until = now + min(lasts, rules.maximum)
        self.books.blocks += 1
        # It pays for what it did with this one; what comes after is counted afresh.
        self._ignored = 0
        self._delivered = self._complained = 0.0

    def knock(self, now: float) -> None:
        """Take note of an attempt under a block."""
        if self.rules.each_attempt and now < self.blocked_until:
            most = self._blocked_at + self.rules.maximum
            self.blocked_until = min(self.blocked_until + self.rules.each_attempt, most)

    def deliver(self, copies: int, now: float) -> None:
        """Count copies that somebody may complain about."""
        self._fade(now)
        self._delivered += copies

    def complain(self, now: float) -> None:
        """Count a complaint; enough of them are a block."""
        self._fade(now)
        self._complained += 1
        rules = self.rules
        if not rules.complaint_share or now < self.blocked_until:
            return
        # More than were delivered of late: the copies have faded, or were from before a block.
        share = self._complained / max(self._delivered, self._complained)
        if self._complained >= rules.at_least and share > rules.complaint_share:
            self.block(now)

    def _fade(self, now: float) -> None:
        if self._faded != -math.inf:
            rest = 0.5 ** ((now - self._faded) / _DAY)
            self._delivered *= rest
            self._complained *= rest
        self._faded = now
