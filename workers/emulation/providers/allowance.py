"""How many messages a provider takes of one address in a day, and what its days do to that.

Nobody publishes the rule; that there is one is plain to who sends from a new address: little is
taken at first, more when nothing goes wrong, less when something does.
"""

from dataclasses import dataclass, field

from workers.emulation.providers.profile import Allowance

DAY = 86400.0


@dataclass(slots=True)
class Quota:
    """One address at one provider. Days are counted from the provider's start."""

    rules: Allowance
    limit: int
    day: int = 0
    taken: int = 0  # today
    faults: int = 0  # today: refused for what the address did
    blocked: bool = field(default=False)  # today, or still
    last_used: int = 0  # the last day with mail

    @property
    def left(self) -> int:
        """What may still come today."""
        return max(0, self.limit - self.taken)

    def turn(self, day: int) -> None:
        """Begin the day that it is, if it is another one: judge the one that has ended."""
        if day == self.day:
            return
        self._judge()
        # Only a day with mail is judged. Those between had none: nothing to say but how many.
        if (day - self.last_used) * DAY > self.rules.idle:
            self.limit = min(self.limit, self.rules.first)
        self.day, self.taken, self.faults, self.blocked = day, 0, 0, False

    def _judge(self) -> None:
        rules = self.rules
        attempts = self.taken + self.faults
        if self.blocked or (attempts and self.faults / attempts > rules.spoilt):
            self.limit = max(rules.first, int(self.limit * rules.shrink))
        elif self.taken >= rules.used * self.limit:
            self.limit = min(rules.maximum, max(self.limit + 1, int(self.limit * rules.growth)))

    def take(self) -> bool:
        """Count a message of today; False when there are no more."""
        if not self.left:
            return False
        self.taken += 1
        self.last_used = self.day
        return True

    def give_back(self, day: int) -> None:
        """Take back the count of a message that was not taken in the end."""
        if day == self.day and self.taken:
            self.taken -= 1
