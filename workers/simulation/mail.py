"""Messages of the simulated world, and where they wait: numbers and names, no content."""

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Mail:
    """One message to one recipient."""

    site: str
    tenant: str
    sender: bytes
    recipient: bytes
    born: float  # seconds since 1970
    attempts: int = 0  # that have ended
    pin: str = ""  # the source that must make the next attempt; "": any


@dataclass(slots=True)
class Backlog:
    """What may go to one site now: in lanes, by pin and tenant, which take turns."""

    count: int = 0
    _lanes: dict[str, dict[str, deque[Mail]]] = field(default_factory=dict)

    def put(self, mail: Mail, *, first: bool = False) -> bool:
        """Let a message wait; ``first``: before the others. True when its lane was empty."""
        lane = self._lanes.setdefault(mail.pin, {}).setdefault(mail.tenant, deque())
        if first:
            lane.appendleft(mail)
        else:
            lane.append(mail)
        self.count += 1
        return len(lane) == 1

    def count_for(self, pin: str, without: Container[str] = ()) -> int:
        """Return how many a pin ("": none) has, but for some tenants'."""
        lanes = self._lanes.get(pin)
        if not lanes:
            return 0
        return sum(len(lane) for tenant, lane in lanes.items() if tenant not in without)

    def take(self, pin: str, without: Container[str] = ()) -> Mail | None:
        """Take the next one; whose lane it was comes last then."""
        lanes = self._lanes.get(pin, {})
        for tenant, lane in lanes.items():
            if lane and tenant not in without:
                mail = lane.popleft()
                lanes[tenant] = lanes.pop(tenant)
                self.count -= 1
                return mail
        return None
