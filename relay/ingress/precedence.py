"""Which of many sessions goes first when one must make room. Pure: no clock, no sockets.

In this order: who is idle and has never had a message accepted, strangers before clients in the
networks of a tenant; who is idle; who is in a transaction that does not get on (until a message of
it was accepted all of a session's time counts as that of its transaction). Of the idle ones the one
that has been idle longest.

Sessions do not report what they do: that would cost something for each message, and room is wanted
rarely. What is known of a session is from when it was last looked at. Its ``idle_since`` only grows,
so the time it is filed under is never too late: what lies on top of a heap is looked at again and
filed anew if it has moved, and what has not moved is the longest idle of all. Each step of that is
paid for by a transaction that the session has had since. Who was in one when looked at is kept apart,
and for each choice the next ``_SAMPLE`` of those are looked at again, in turns.
"""

import heapq
from collections import OrderedDict
from itertools import islice
from typing import Protocol

# With so many in a transaction looked at, one that is slow is found at once if every twentieth is
# (19 times of 20), and in any case after size / _SAMPLE newcomers.
_SAMPLE = 64
# A transaction as old as this, in seconds, has had its chance; it goes if it brings less than so many
# octets a second. The largest message of Gmail takes ten hours at that rate.
_CHANCE = 30.0
_SLOW = 1024
# Entries of sessions that have gone stay in the heaps until there are more of them than of others.
_SLACK = 64

_STRANGERS, _UNPROVEN, _PROVEN = range(3)


class Guest(Protocol):
    """What is asked of a session when room is wanted."""

    @property
    def client(self) -> str:
        """Its address."""

    @property
    def is_idle(self) -> bool:
        """No transaction is open: nothing is lost by closing."""

    @property
    def idle_since(self) -> float:
        """When its last transaction ended, at first when it began. Only grows."""

    @property
    def proven(self) -> bool:
        """A message of it was accepted. Once true it stays true."""

    @property
    def begun(self) -> float:
        """When the open transaction began; now, when it is not the sender that is waited for."""

    @property
    def received(self) -> int:
        """Octets since then."""

    def displace(self) -> bool:
        """Say farewell and end; False when that cannot be: its message is being accepted."""


class Precedence:
    """Some sessions, and which of them would go first."""

    __slots__ = ("_busy", "_heaps", "_members", "_number")

    def __init__(self) -> None:
        self._members: dict[Guest, tuple[bool, float]] = {}  # is it a stranger; when did it come
        self._heaps: tuple[list[tuple[float, int, Guest]], ...] = ([], [], [])
        # In a transaction when last looked at, by when that was. A plain dict is slow to find its
        # first key once others before it have been taken out.
        self._busy: OrderedDict[Guest, None] = OrderedDict()
        self._number = 0  # so that no two entries are equal: sessions cannot be compared

    def __len__(self) -> int:
        return len(self._members)

    def add(self, guest: Guest, *, stranger: bool) -> None:
        """A session begins. ``stranger``: no tenant's networks hold its client."""
        self._members[guest] = stranger, guest.idle_since
        self._file(guest)

    def remove(self, guest: Guest) -> None:
        """A session is over, or on its way out."""
        self._members.pop(guest, None)
        self._busy.pop(guest, None)
        if sum(map(len, self._heaps)) > 2 * len(self._members) + _SLACK:
            for heap in self._heaps:
                heap[:] = [entry for entry in heap if entry[2] in self._members]
                heapq.heapify(heap)

    def choose(self, now: float) -> Guest | None:
        """Return who should go; None when all are in transactions that get on."""
        self._look_again()
        for rank in (_STRANGERS, _UNPROVEN, _PROVEN):
            if (found := self._find_idle(rank)) is not None:
                return found
        return self._find_slow(now)

    def _file(self, guest: Guest) -> None:
        self._number += 1
        entry = (guest.idle_since, self._number, guest)
        heapq.heappush(self._heaps[self._find_rank(guest)], entry)

    def _find_rank(self, guest: Guest) -> int:
        if guest.proven:
            return _PROVEN
        return _STRANGERS if self._members[guest][0] else _UNPROVEN

    def _find_idle(self, rank: int) -> Guest | None:
        """Return the session of this rank that has been idle longest."""
        heap = self._heaps[rank]
        while heap:
            filed, _, guest = heap[0]
            known = guest in self._members
            if (
                known
                and guest.is_idle
                and guest.idle_since <= filed
                and self._find_rank(guest) == rank
            ):
                return guest
            heapq.heappop(heap)
            if known and guest.is_idle:
                self._file(guest)
            elif known:
                self._busy[guest] = None
        return None

    def _look_again(self) -> None:
        """File those anew who were busy and are idle now: of some, who were not looked at longest."""
        for guest in list(islice(self._busy, _SAMPLE)):
            if guest.is_idle:
                del self._busy[guest]
                self._file(guest)
            else:
                self._busy.move_to_end(guest)

    def _find_slow(self, now: float) -> Guest | None:
        """Return the slowest transaction of those just looked at, if it is too slow."""
        slow, slowest = None, float(_SLOW)
        for guest in islice(reversed(self._busy), _SAMPLE):
            begun = guest.begun
            if begun >= now:
                continue
            # Or one transaction after another would be opened and given up, and none ever be old.
            age = now - (begun if guest.proven else self._members[guest][1])
            if age > _CHANCE and guest.received / age < slowest:
                slow, slowest = guest, guest.received / age
        return slow
