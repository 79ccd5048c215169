"""Mail that flows while the store's master changes, and what became of all of it."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import redis

from tests.kit.audit import assert_sound
from tests.kit.gateway import Gateway, Ledger
from tests.kit.inbox import Inbox
from tests.kit.load import Load
from tests.kit.promises import check_promises

_DOMAINS = [f"d{number}.load.test" for number in range(12)]
_DELIVERY = 'processes = 2\nclaim = "2s"\nretry = ["1s"]\nidle = "1s"'

Connect = Callable[[], AbstractContextManager[redis.Redis]]


@dataclass(frozen=True, slots=True)
class Passage:
    """How mail came through a change. ``longest``: seconds from there until it flowed again."""

    load: Load
    arrived: Counter[tuple[str, str]]
    ledger: Ledger
    longest: float

    def find_lost(self) -> set[tuple[str, str]]:
        """Return what was promised and did not arrive: mark and domain of each."""
        accepted = self.load.accepted
        promised = {(mark, d) for mark, (_, domains) in accepted.items() for d in domains}
        return promised - set(self.arrived)


def change_under_load(
    url: str, change: Callable[[], None], connect: Connect, *, replicas: int
) -> Passage:
    """Change masters under a gateway on a store of several servers; then let it come to rest.

    Its books are closed then, and the store is sound. ``connect``: to what is the master then.
    """
    # A second without an answer is too long.
    store = f'url = "{url}"\ntimeout = "1s"\nreplicas = {replicas}'
    with Inbox(pause=lambda: time.sleep(0.01)) as inbox:
        with Gateway({"*.load.test": inbox.port}, store=store, delivery=_DELIVERY) as gateway:
            with Load(gateway.port, _DOMAINS) as load:
                _wait_for_traffic(load, inbox)
                begun = time.monotonic()
                change()
                _wait_for_traffic(load, inbox)
                longest = time.monotonic() - begun
            ledger = gateway.wait_ledger(1, seconds=150)
            said = gateway.read_output()
    assert ledger.is_closed, (ledger, said)
    with connect() as client:
        assert_sound(client, leftover=True)
    return Passage(load, Counter(inbox.arrived), ledger, longest)


def lose_nothing(url: str, change: Callable[[], None], connect: Connect) -> str:
    """Change masters with a replica for all that is acknowledged: everything arrives. Return how."""
    passage = change_under_load(url, change, connect, replicas=1)
    with connect() as client:
        kept = check_promises(client, [passage.load], passage.arrived, passage.ledger)
    assert kept.promised > 40
    return f"{kept}; mail flowed again after {passage.longest:.1f} s"


def _wait_for_traffic(load: Load, inbox: Inbox, *, seconds: float = 60) -> None:
    """Wait until mail goes in and out."""
    deadline = time.monotonic() + seconds
    accepted, arrived = len(load.accepted) + 20, len(inbox.arrived) + 20
    while len(load.accepted) < accepted or len(inbox.arrived) < arrived:
        assert time.monotonic() < deadline, "no traffic any more"
        time.sleep(0.02)
