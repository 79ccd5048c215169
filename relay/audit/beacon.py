"""The beacon: tells the store how far a chain is, so that its end cannot be cut off unseen.

At most once a second and only what is on the disk, with one command that nobody waits for. While the
store is away nothing is told; it is made up for later. The first time it looks before it tells: when
the store knows of more than was in the files, somebody has cut them since. What it knew is kept, for
the chain will use the same numbers again.
"""

import logging

import trio

from relay.audit.line import Head
from relay.errors import StoreError, StoreUnavailable
from relay.store.audit import AuditHeads
from relay.store.link import Link

_log = logging.getLogger("outgate.audit")

_PAUSE = 1.0  # seconds between two commands
_MOST_SEALS = 100  # that wait for the store; after so many days without it the files must do


class Beacon:
    """Of one chain."""

    def __init__(self, chain: str, link: Link | None) -> None:
        self._chain = chain
        self._link = link
        self._start = self._head = self._told = Head(0, b"")
        self._seals: list[tuple[str, Head]] = []
        self._compared = False

    def begin(self, head: Head) -> None:
        """The chain went so far when we took it."""
        self._start = head

    def note(self, head: Head) -> None:
        """So much is on the disk. May be called in a thread."""
        self._head = head

    def note_seal(self, day: str, head: Head) -> None:
        """A day was sealed by this line."""
        self._seals = [*self._seals[-_MOST_SEALS:], (day, head)]

    async def run(self) -> None:
        """Tell the store whenever there is news. Until cancelled."""
        if self._link is None:
            return
        while True:
            await trio.sleep(_PAUSE)
            await self.tell(self._link)

    async def tell(self, link: Link) -> None:
        """Tell the store what is new; when it is away, the next time."""
        head, heads = self._head, AuditHeads(link)
        seals = [seal for seal in self._seals if seal[1].n <= head.n]
        if head == self._told and not seals:
            return
        try:
            if not self._compared:
                await self._compare(heads)
            for day, sealed in seals:
                await heads.note_seal(self._chain, day, sealed)
            await heads.note(self._chain, head)
        except (StoreUnavailable, StoreError):
            return
        self._told = head
        self._seals = [seal for seal in self._seals if seal not in seals]

    async def _compare(self, heads: AuditHeads) -> None:
        known = await heads.read(self._chain)
        start = self._start
        if known is not None and (known.n > start.n or (known.n == start.n and known != start)):
            await heads.keep_lost(self._chain, known)
            _log.error(
                "the audit trail %s ends at line %d, and the store knows of line %d: "
                "its end was cut off or changed (`outgate audit verify`)",
                self._chain,
                start.n,
                known.n,
            )
        self._compared = True

    def send_last(self) -> None:
        """Tell what is new without waiting for an answer: the link sends it while it closes."""
        # Who has not compared must not overwrite what the store knows.
        if self._link is None or not self._compared or self._head == self._told:
            return
        try:
            AuditHeads(self._link).send(self._chain, self._head)
        except (StoreUnavailable, StoreError):
            return
