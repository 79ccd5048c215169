"""A session as the door sees it, without a connection: for the policy alone."""

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Guest:
    """What is asked of a session; ``gone`` once it was told to go."""

    client: str = "192.0.2.1"
    idle_since: float = 0.0
    proven: bool = False
    is_idle: bool = True
    begun: float = 0.0
    received: int = 0
    gone: bool = False
    deciding: bool = False

    def displace(self) -> bool:
        self.gone = not self.deciding
        return self.gone

    def open(self, now: float) -> None:
        """Begin a transaction."""
        self.is_idle, self.begun, self.received = False, now, 0

    def end(self, now: float, *, accepted: bool) -> None:
        """End it."""
        self.is_idle, self.idle_since = True, now
        self.proven = self.proven or accepted
