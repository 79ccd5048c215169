"""The receivers of the demo, and the domains they take mail for."""

import ssl
from collections import Counter
from collections.abc import Callable

import trio

from workers.emulation.behaviour import (
    Behaviour,
    make_flaky,
    make_greylisting,
    make_moody,
    make_picky,
    make_plain,
    make_slow,
)
from workers.emulation.receiver import Receiver

SENDER_DOMAIN = "acme.test"
# Local parts that begin with this are unknown at picky.test.
STRANGER = b"nobody"

# RFC 6761 §6.2: names under .test are nobody's.
_POPULATION: tuple[tuple[tuple[str, ...], Callable[[], Behaviour]], ...] = (
    (("good.test", "fine.test"), Behaviour),
    (("slow.test",), lambda: make_slow(0.4)),
    (("grey.test",), make_greylisting),
    (("picky.test",), lambda: make_picky(STRANGER)),
    (("moody.test",), lambda: make_moody(every=3)),
    (("plain.test",), make_plain),
    (("flaky.test",), lambda: make_flaky(every=7)),
    ((SENDER_DOMAIN,), lambda: Behaviour("is the sender's own: gets the bounces")),
)


class Internet:
    """All receivers. Ports are open once it is made; ``serve`` runs them until cancelled."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.receivers = tuple(Receiver(names, make(), context) for names, make in _POPULATION)

    async def serve(self) -> None:
        """Run every receiver."""
        async with trio.open_nursery() as nursery:
            for receiver in self.receivers:
                nursery.start_soon(receiver.serve)

    def close(self) -> None:
        """Close ports that were never served."""
        for receiver in self.receivers:
            receiver.close()

    def count_sources(self) -> Counter[bytes]:
        """Return the messages that arrived anywhere, by the EHLO name of who brought them."""
        total: Counter[bytes] = Counter()
        for receiver in self.receivers:
            total.update(receiver.inbox.sources)
        return total

    def find_addresses(self, hello: bytes) -> set[str]:
        """Return the addresses that somebody of this EHLO name came from."""
        return set().union(*(r.inbox.addresses.get(hello, ()) for r in self.receivers))
