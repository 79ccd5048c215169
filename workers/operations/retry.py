"""Retrying: what waits for its next attempt, or is held, is tried now.

Whole queues are let go by the store piece by piece, several at a time; who waits for it (a Watch) may interrupt it
between two pieces. Whatever happens, what was let go by then is on the record.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import trio

from relay.config import Config
from relay.model import Claim
from relay.store import story
from relay.store.gate import Gates
from relay.store.gateview import GateView
from relay.store.keys import SHARDS, WAKE_CHANNEL, read_queue
from relay.store.queue import Store
from relay.store.suspension import Suspensions
from relay.store.view import Size
from workers.operations.decision import Decision
from workers.operations.seizure import Seizure, Watch
from workers.operations.target import Found, Target, find_targets
from workers.views.selection import Selection

_AHEAD = 10 * 365 * 86400.0  # later than anything can be due, s
_TASKS = 50
_REPORT = 2.0  # s


async def retry(
    store: Store, config: Config, chosen: Selection, decided: Decision, watch: Watch, *, dry: bool
) -> dict[str, Any]:
    """Let what was chosen go now; ``dry``: only say what would be tried."""
    decided.tell(store.link)
    found = await find_targets(store, config, chosen)
    sizes = (await store.read_sizes(target.queue for target in found.targets)).values()
    rests = await _find_rests(store, chosen, found.targets)
    meant = _count(found, sizes)
    work = _make_work(store, config, found, decided, watch)
    if not dry:
        # First the way, then the mail: it would find the way closed, and wait for that.
        await _clear(store, rests, found.targets)
        try:
            await _let_go(work, found.targets)
        finally:
            if work.deliveries or rests:
                facts = {"deliveries": work.deliveries, "rests": len(rests)}
                with trio.CancelScope(shield=True):
                    await decided.record(store.link, "retried", **chosen.describe(), **facts)
    return {
        "deliveries": meant if dry else work.deliveries,
        "meant": meant,
        "ready": 0 if chosen.ids else sum(size.ready for size in sizes),
        "rests": [{"site": site, "source": source} for site, source in rests],
        "suspended": await _find_suspended(store, found.targets),
        "claimed": found.claimed,
        "ended": found.ended,
        "unknown": found.unknown,
        "interrupted": work.interrupted,
        "dry_run": dry,
    }


def _count(found: Found, sizes: Iterable[Size]) -> int:
    meant = {message for target in found.targets for message in target.messages}
    return len(meant) if meant else sum(size.due for size in sizes)


def _make_work(
    store: Store, config: Config, found: Found, decided: Decision, watch: Watch
) -> "_Haste | Seizure":
    """Return what lets deliveries go: one by one where some are meant, else queue by queue."""
    if not any(target.messages for target in found.targets):
        return _Haste(store, watch)

    async def release(claim: Claim) -> None:
        facts = {"id": claim.delivery.message_id, "delivery": claim.delivery.id}
        await story.append(store.link, config, claim, decided.make_event("retried", **facts))
        await store.defer(claim, b"", wait=0.0, attempted=False)

    return Seizure(store, config, release, watch)


async def _let_go(work: "_Haste | Seizure", targets: Sequence[Target]) -> None:
    if isinstance(work, Seizure):
        await work.run(targets, ready=False)
    else:
        await work.run(targets)


class _Haste:
    """Lets whole queues go, several at a time: there may be many, with little in each."""

    def __init__(self, store: Store, watch: Watch) -> None:
        self.deliveries = 0
        self.interrupted = False
        self._broken_off = False  # within a queue
        self._store = store
        self._watch = watch

    async def run(self, targets: Sequence[Target]) -> None:
        """Let go what is due in all of them. Interrupted, it finishes the pieces that it has begun."""
        left = deque(targets)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch.run, self._interrupt)
            nursery.start_soon(self._report)
            async with trio.open_nursery() as workers:
                for _ in range(min(_TASKS, len(left))):
                    workers.start_soon(self._work, left)
            nursery.cancel_scope.cancel()
        # Who is told to stop when nothing is left has done it all.
        self.interrupted = bool(left) or self._broken_off

    def _interrupt(self) -> None:
        self.interrupted = True

    async def _work(self, left: deque[Target]) -> None:
        while left and not self.interrupted:
            queue = left.popleft().queue
            moved = await self._store.hurry(queue, ahead=_AHEAD, go_on=self._go_on)
            # In a line of its own: += takes what was there before it waits.
            self.deliveries += moved

    def _go_on(self) -> bool:
        self._broken_off = self._broken_off or self.interrupted
        return not self.interrupted

    async def _report(self) -> None:
        while True:
            await trio.sleep(_REPORT)
            self._watch.tell(self.deliveries)


async def _find_suspended(store: Store, targets: Sequence[Target]) -> list[str]:
    """Return the suspensions that some of it runs into."""
    pairs = [(read_queue(target.queue), target.site) for target in targets]
    return [
        one.name or "everything"
        for one in await Suspensions(store.link).read()
        if any(
            one.covers(tenant=queue.tenant, site=site, source=queue.source)
            or (one.domain == queue.domain and one.tenant in ("", queue.tenant))
            for queue, site in pairs
        )
    ]


async def _find_rests(
    store: Store, chosen: Selection, targets: list[Target]
) -> list[tuple[str, str]]:
    """Return (site, source) pairs that rest: there, "now" would mean "when it has rested"."""
    sites = {target.site for target in targets if target.site}
    if chosen.source and not chosen.site:
        sites |= set((await store.read_sites(await _list_all(store))).values()) - {""}
    if chosen.site:
        sites.add(chosen.site)
    now = await Suspensions(store.link).read_clock()
    rests = await GateView(store.link, now).read_rests(sorted(sites))
    return [
        (site, source)
        for site, sources in rests.items()
        for source in sources
        if chosen.source in ("", source)
    ]


async def _list_all(store: Store) -> list[str]:
    return [queue for shard in range(SHARDS) for queue in await store.list_queues(shard)]


async def _clear(store: Store, rests: Sequence[tuple[str, str]], targets: Sequence[Target]) -> None:
    gates = Gates(store.link, lease=0)
    for site, source in rests:
        gates.recover(site, source)
    # What a worker knows by itself: which of a site's host groups it did not reach.
    for site in {target.site for target in targets if target.site}:
        await store.link.call("PUBLISH", WAKE_CHANNEL, f"again {site}")
