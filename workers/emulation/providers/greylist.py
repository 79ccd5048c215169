"""What a provider has seen before: client address, sender and recipient together.

A server that is what it says comes back; what only spreads spam often did not.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from workers.emulation.providers.profile import Greylist

_MOST = 200_000  # triplets and addresses that are remembered; the oldest are forgotten first

Triplet = tuple[str, bytes, bytes]


@dataclass(slots=True)
class _Seen:
    first: float
    until: float  # forgotten then
    came_back: bool = False


@dataclass(slots=True)
class Memory:
    """What one provider remembers."""

    rules: Greylist
    _seen: OrderedDict[Triplet, _Seen] = field(default_factory=OrderedDict)
    _returns: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def takes(self, triplet: Triplet, now: float) -> bool:
        """Say whether it was seen long enough ago, and remember it."""
        address, rules = triplet[0], self.rules
        if rules.trust_after and self._returns.get(address, 0) >= rules.trust_after:
            return True
        seen = self._seen.get(triplet)
        if seen is None or now >= seen.until:
            seen = _Seen(now, now + rules.wait)
        self._seen[triplet] = seen
        self._seen.move_to_end(triplet)
        _trim(self._seen)
        if now - seen.first < rules.delay:
            return False
        if not seen.came_back:
            seen.came_back = True
            self._returns[address] = self._returns.get(address, 0) + 1
            _trim(self._returns)
        seen.until = now + rules.memory
        return True


def _trim(memory: OrderedDict[Triplet, _Seen] | OrderedDict[str, int]) -> None:
    while len(memory) > _MOST:
        memory.popitem(last=False)
