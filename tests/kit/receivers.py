"""An emulated provider and its clock, for tests: `provider.clock.now += 60`."""

from workers.emulation.behaviour import Refusal
from workers.emulation.providers.profile import Profile
from workers.emulation.providers.provider import Provider
from workers.emulation.providers.settings import read_settings

A, B = "127.0.0.11", "127.0.0.12"


class Clock:
    """A clock that only a test moves. It begins somewhere, as clocks do."""

    def __init__(self, now: float = 5000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_profile(**keys: object) -> Profile:
    """Make a profile from what its table in the file would hold."""
    table = {"name": "big", "domains": ["big.test"], **keys}
    return read_settings({"provider": [table]}).provider[0]


class Play:
    """One provider, met by whoever the test says."""

    def __init__(self, *, seed: int = 1, **keys: object) -> None:
        self.clock = Clock()
        self.provider = Provider(make_profile(**keys), seed=seed, clock=self.clock)
        self.number = 0

    def send(self, address: str = A, *, to: bytes = b"", sender: bytes = b"a@acme.test") -> int:
        """Send a message, to somebody else each time; return the reply's code, 250 for yes."""
        self.number += 1
        recipient = to or b"r%d@big.test" % self.number
        refusal = self.provider.send(address, sender, recipient)
        return refusal.code if refusal else 250

    def burst(self, count: int, address: str = A) -> list[int]:
        """Send so many at once."""
        return [self.send(address) for _ in range(count)]


def code_of(refusal: Refusal | None) -> int:
    """Return a reply's code, 250 for yes."""
    return refusal.code if refusal else 250
