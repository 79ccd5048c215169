"""A brake on guessing tokens: a client address that shows too many wrong ones waits for a minute.

Meanwhile no token from there is looked at, right or wrong: an answer would be what is guessed for.
The same wrong token again counts once: that is no guess, but a program or a page that has not heard of
a new one.
What counts as a client is an address, or the /64 of an IPv6 address, as at the ingress. Behind a
reverse proxy all clients are one; whoever guesses there holds up the others for that long.
"""

import math
from collections import OrderedDict
from hashlib import sha256

import trio

from relay.ingress.crowd import find_house

_MOST = 10  # wrong tokens within a span
_SPAN = 60.0  # seconds
# Addresses that are remembered. Who has more of them at hand than this has as many tries anyway.
_REMEMBERED = 10_000


class Brake:
    """Counts wrong tokens by client."""

    def __init__(self) -> None:
        # Client -> its latest wrong tokens (digests) and when each came first, at most _MOST of them.
        # In the order of the last that came.
        self._wrong: OrderedDict[str, dict[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._wrong)

    def find_wait(self, client: str) -> int:
        """Return for how many seconds a client has to wait, rounded up; 0: it may try."""
        times = list(self._wrong.get(find_house(client), {}).values())
        if len(times) < _MOST or times[-1] - times[0] > _SPAN:
            return 0
        return max(0, math.ceil(times[-1] + _SPAN - trio.current_time()))

    def note(self, client: str, token: str) -> None:
        """A wrong token came from there."""
        house = find_house(client)
        wrong = self._wrong.pop(house, {})
        if len(self._wrong) >= _REMEMBERED:
            self._wrong.popitem(last=False)
        self._wrong[house] = wrong
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        now = trio.current_time()
        if now - wrong.get(digest, -math.inf) <= _SPAN:
            return
        wrong.pop(digest, None)  # so that it stands at the end
        wrong[digest] = now
        if len(wrong) > _MOST:
            del wrong[next(iter(wrong))]
