"""What is found out about a message: what happens when nobody waits for it any more."""

import math
import threading

import trio

from relay.config.pattern import Pattern
from relay.policy.evidence import Evidence
from tests.kit.rules import Letter

_THREADS = trio.CapacityLimiter(1)


class _Slow(Pattern):
    """A pattern whose search ends when it is told to."""

    def __init__(self) -> None:
        super().__init__("x{1000}")
        self.begun = threading.Event()
        self.end = threading.Event()

    def is_in(self, text: str) -> bool:
        self.begun.set()
        return self.end.wait(30)


async def test_who_gives_up_does_not_wait_for_the_thread_which_keeps_its_place() -> None:
    threads = trio.CapacityLimiter(1)
    evidence = Evidence(Letter().facts, {}, threads, deadline=math.inf)
    slow = _Slow()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(evidence.search_values, slow, [b"x" * 1000])
            await trio.to_thread.run_sync(slow.begun.wait)
            nursery.cancel_scope.cancel()

        assert threads.borrowed_tokens == 1
        slow.end.set()
        async with threads:
            pass


async def test_each_part_of_the_envelope_is_looked_at_once() -> None:
    evidence = Evidence(
        Letter(recipients=[b"a@B.a.example", b"b@b.a.example"]).facts,
        {},
        _THREADS,
        deadline=math.inf,
    )

    assert evidence.domains == {"b.a.example", "*.a.example", "*.example", "*"}
    assert evidence.domains is evidence.domains
    assert evidence.senders == {"a@acme.example", "*@acme.example"}
