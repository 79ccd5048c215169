"""Mail that flows while the store's master changes, and what became of all of it."""

import time
from collections.abc import Callable

from tests.kit.gateway import Gateway, Ledger
from tests.kit.inbox import Inbox
from tests.kit.load import Load

DOMAINS = [f"d{number}.load.test" for number in range(12)]
_DELIVERY = 'processes = 2\nclaim = "2s"\nretry = ["1s"]\nidle = "1s"'


def make_gateway(url: str, inbox: Inbox, *, replicas: int) -> Gateway:
    """Return a gateway on a store of several servers; a second without an answer is too long."""
    store = f'url = "{url}"\ntimeout = "1s"\nreplicas = {replicas}'
    return Gateway({"*.load.test": inbox.port}, store=store, delivery=_DELIVERY)


def wait_for_traffic(load: Load, inbox: Inbox, *, seconds: float = 60) -> None:
    """Wait until mail goes in and out."""
    deadline = time.monotonic() + seconds
    accepted, arrived = len(load.accepted) + 20, len(inbox.arrived) + 20
    while len(load.accepted) < accepted or len(inbox.arrived) < arrived:
        assert time.monotonic() < deadline, "no traffic any more"
        time.sleep(0.02)


def change_under_load(
    gateway: Gateway, inbox: Inbox, change: Callable[[], None], *, times: int = 1
) -> tuple[Load, Ledger, float]:
    """Change masters while mail flows, each time when it flows again; then let it come to rest.

    Returns the load, the ledger at the end, and the longest time from a change until mail flowed again.
    """
    longest = 0.0
    with Load(gateway.port, DOMAINS) as load:
        for _ in range(times):
            wait_for_traffic(load, inbox)
            begun = time.monotonic()
            change()
            wait_for_traffic(load, inbox)
            longest = max(longest, time.monotonic() - begun)
    return load, gateway.wait_ledger(1, seconds=150), longest


def find_lost(load: Load, inbox: Inbox) -> set[tuple[str, str]]:
    """Return what was promised and did not arrive: mark and domain of each."""
    promised = {(mark, d) for mark, (_, domains) in load.accepted.items() for d in domains}
    return promised - set(inbox.arrived)
