"""Which source takes a delivery: the rotation's turn, unless the last attempt says otherwise.

Late, at the claim, and by reason (the reason is in the last attempt's event):

* the receiver put off *this* message (greylisting, a full mailbox, its own trouble): the same
  source again. A greylist waits for the same triple, a new address begins its wait anew.
* the receiver has something against the source: another one, if there is another.
* anything else (no connection, a broken session): whoever's turn it is.

A source whose address cannot be bound rests, and its share goes to the others.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import msgspec
import trio

from relay.config import Config
from relay.config.schema import Source
from relay.model import Blame, Claim
from workers.rotation import Rotation

_REST = 60.0  # seconds; then it is tried again


class _Person(msgspec.Struct):
    code: int = 0
    command: str = ""
    blame: str = ""


class _Last(msgspec.Struct):
    """What matters here of the last attempt's event."""

    source: str = ""
    recipients: list[_Person] = []


_decode = msgspec.json.Decoder(_Last).decode
_ABOUT_MESSAGE = ("MAIL", "RCPT", "DATA", "BDAT", ".")


class Choice:
    """The sources of one worker process, in the rotations of the pools they belong to."""

    def __init__(self, config: Config, sources: Iterable[Source]) -> None:
        self.sources = {source.name: source for source in sources}
        self._rotations: dict[str, Rotation] = {}
        self._members: dict[str, frozenset[str]] = {}
        for pool, weights in config.pool.items():
            ours = {n: weight for n, weight in weights.items() if weight and n in self.sources}
            if ours:
                self._rotations[pool] = Rotation(ours)
                self._members[pool] = frozenset(ours)
        self._resting: dict[str, float] = {}  # name -> trio time when it is tried again

    def __repr__(self) -> str:
        return f"<Choice {' '.join(self.sources)}: {len(self._resting)} resting>"

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools that this process can send for."""
        return tuple(self._rotations)

    def can_send(self, pool: str) -> bool:
        """True when some source of the pool does not rest."""
        return not self._resting or bool(self._members[pool] - self._find_resting())

    def choose(self, claim: Claim, pool: str) -> Source | None:
        """Return the source for a delivery; None when none is to be had just now."""
        if pool not in self._rotations:
            return None
        resting = self._find_resting() if self._resting else frozenset()
        if claim.previous:
            name = self._choose_again(claim.previous, pool, resting)
        else:
            name = self._rotations[pool].next(resting)
        return None if name is None else self.sources[name]

    def _choose_again(self, previous: bytes, pool: str, resting: AbstractSet[str]) -> str | None:
        rotation = self._rotations[pool]
        try:
            last = _decode(previous)
        except msgspec.DecodeError:
            return rotation.next(resting)
        if any(person.blame == Blame.SOURCE.value for person in last.recipients):
            return rotation.next({*resting, last.source}) or rotation.next(resting)
        put_off = any(
            400 <= person.code < 500 and person.code != 421 and person.command in _ABOUT_MESSAGE
            for person in last.recipients
        )
        if put_off and last.source in self._members[pool] - resting:
            return last.source
        return rotation.next(resting)

    def rest(self, source: Source) -> float | None:
        """Let a source rest; return for how many seconds, None when it does so already."""
        already = source.name in self._find_resting()
        self._resting[source.name] = trio.current_time() + _REST
        return None if already else _REST

    def _find_resting(self) -> AbstractSet[str]:
        now = trio.current_time()
        self._resting = {name: until for name, until in self._resting.items() if until > now}
        return self._resting.keys()
