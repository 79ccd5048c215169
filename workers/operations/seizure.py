"""Taking deliveries out of their queues, for a command that ends, holds or releases them.

Page by page: a page is claimed as a worker would, something is done with each delivery, and only then
comes the next. Claims are renewed meanwhile. Who waits for it (a Watch) may interrupt it: the page is
finished; whatever goes wrong in one, what was not begun is given back, and what is cut off `reclaim`
finds.
"""

import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from relay.config import Config
from relay.errors import StoreError, StoreUnavailable
from relay.model import Claim
from relay.store.queue import Store
from relay.store.view import Waiting
from workers.operations.decision import Decision
from workers.operations.target import Target
from workers.views.selection import Selection

_PAGE = 100
_TASKS = 10
_LOOKED_AT = 1000  # when single messages are looked for
_CUT_OFF = 30.0  # what has been begun may take so long after we are told to leave, s
_REPORT = 2.0

Act = Callable[[Claim], Awaitable[None]]


class Watch(Protocol):
    """Who waits for what an operator has asked for."""

    async def run(self, interrupt: Callable[[], None]) -> None:
        """Call ``interrupt`` when it shall end before its time; cancelled when it has ended."""

    def tell(self, deliveries: int) -> None:
        """Hear, every few seconds, how many deliveries have been dealt with."""


class Seizure:
    """What one command takes, and does with it. ``act`` ends each claim."""

    def __init__(self, store: Store, config: Config, act: Act, watch: Watch) -> None:
        self.deliveries = 0
        self.recipients = 0
        self.left = 0  # deliveries that need not be taken
        self.interrupted = False
        self._store = store
        self._lease = config.delivery.claim
        self._act = act
        self._watch = watch
        self._name = f"operator-{os.urandom(5).hex()}"
        self._pages = 0
        self._reported = 0.0
        self._recent: frozenset[str] = frozenset()

    async def run(
        self,
        targets: Sequence[Target],
        *,
        due: bool = True,
        ready: bool = True,
        leave: Callable[[Waiting], bool] = lambda _: False,
    ) -> None:
        """Take all of the targets that is due, ready or both; ``leave`` what is due and need not.

        Due first: what becomes ready while we look is met again there, and what is held from there
        is not met twice.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch.run, self._interrupt)
            self._reported = trio.current_time()
            for target in targets:
                if due:
                    await self._take_due(target, leave)
                if ready:
                    await self._take_ready(target)
            nursery.cancel_scope.cancel()

    async def run_on_record(
        self,
        targets: Sequence[Target],
        chosen: Selection,
        decided: Decision,
        event: str,
        *,
        leave: Callable[[Waiting], bool] = lambda _: False,
        **facts: object,
    ) -> None:
        """Do the same, and put on the record what was taken: also when it is cut off.

        ``event`` and ``facts``: what the record says of it, beside what was chosen and how much it was.
        """
        try:
            await self.run(targets, leave=leave)
        finally:
            if self.deliveries:
                with trio.CancelScope(shield=True):
                    await decided.record(
                        self._store.link,
                        event,
                        **chosen.describe(),
                        deliveries=self.deliveries,
                        affected=self.recipients,
                        **facts,
                    )

    def _interrupt(self) -> None:
        self.interrupted = True

    async def _take_ready(self, target: Target) -> None:
        start = "-"
        while start and not self.interrupted:
            claims, start = await self._store.seize(
                target.queue,
                token=self._make_token(),
                messages=sorted(target.messages),
                start=start,
                limit=_LOOKED_AT if target.messages else _PAGE,
            )
            await self._do(claims)

    async def _take_due(self, target: Target, leave: Callable[[Waiting], bool]) -> None:
        """From the last page to the first: what is put off goes behind its place, never before it."""
        limit = _LOOKED_AT if target.messages else _PAGE
        count = (await self._store.read_sizes([target.queue]))[target.queue].due
        for start in reversed(range(0, count, limit)):
            if self.interrupted:
                return
            meant = target.messages
            if not meant:
                page = await self._store.read_due(target.queue, start, limit)
                meant = frozenset(one.message_id for one in page if not leave(one))
                self.left += len(page) - len(meant)
            if not meant:
                continue
            claims, _ = await self._store.seize_due(
                target.queue,
                token=self._make_token(),
                messages=sorted(meant),
                start=start,
                limit=limit,
            )
            await self._do(claims)

    def _make_token(self) -> str:
        self._pages += 1
        return f"{self._name}-{self._pages}"

    # -- a page -------------------------------------------------------------------------------

    async def _do(self, claims: Sequence[Claim]) -> None:
        left = deque(claims)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._renew, claims)
                async with trio.open_nursery() as workers:
                    for _ in range(min(_TASKS, len(left))):
                        workers.start_soon(self._work, left)
                nursery.cancel_scope.cancel()
        finally:
            if left:
                await self._give_back(left)
        # What became ready meanwhile moves the pages: some of the last one come again.
        self._recent = frozenset(claim.delivery.id for claim in claims)
        self._report()

    async def _work(self, left: deque[Claim]) -> None:
        while left:
            claim = left.popleft()
            # A notice that is written must not be left without the end that it tells of.
            with trio.CancelScope(shield=True) as scope:
                scope.deadline = trio.current_time() + _CUT_OFF
                await self._act(claim)
            if claim.delivery.id not in self._recent and not scope.cancelled_caught:
                self.deliveries += 1
                self.recipients += len(claim.delivery.envelope.recipients)

    async def _renew(self, claims: Sequence[Claim]) -> None:
        while True:
            await trio.sleep(self._lease / 3)
            await self._store.renew(claims)

    async def _give_back(self, left: deque[Claim]) -> None:
        with trio.move_on_after(_CUT_OFF, shield=True):
            try:
                while left:
                    await self._store.defer(left[0], b"", wait=0.0, attempted=False)
                    left.popleft()
            except (StoreUnavailable, StoreError):
                return

    def _report(self) -> None:
        if trio.current_time() >= self._reported + _REPORT:
            self._reported = trio.current_time()
            self._watch.tell(self.deliveries)
