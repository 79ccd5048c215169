"""Retrying: what waits for its next attempt, or is held, is tried now."""

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


async def retry(
    store: Store, config: Config, chosen: Selection, decided: Decision, watch: Watch, *, dry: bool
) -> dict[str, Any]:
    """Let what was chosen go now; ``dry``: only say what would be tried."""
    decided.tell(store.link)
    found = await find_targets(store, config, chosen)
    sizes = (await store.read_sizes(target.queue for target in found.targets)).values()
    rests = await _find_rests(store, chosen, found.targets)
    moved = _count(found, sizes)
    if not dry:
        # First the way, then the mail: it would find the way closed, and wait for that.
        await _clear(store, rests, found.targets)
        moved = await _let_go(store, config, found, decided, watch)
    if not dry and (moved or rests):
        await decided.record(
            store.link, "retried", **chosen.describe(), deliveries=moved, rests=len(rests)
        )
    return {
        "deliveries": moved,
        "ready": 0 if chosen.ids else sum(size.ready for size in sizes),
        "rests": [{"site": site, "source": source} for site, source in rests],
        "suspended": await _find_suspended(store, found.targets),
        "claimed": found.claimed,
        "ended": found.ended,
        "unknown": found.unknown,
        "dry_run": dry,
    }


def _count(found: Found, sizes: Iterable[Size]) -> int:
    meant = {message for target in found.targets for message in target.messages}
    return len(meant) if meant else sum(size.due for size in sizes)


async def _let_go(
    store: Store, config: Config, found: Found, decided: Decision, watch: Watch
) -> int:
    if not any(target.messages for target in found.targets):
        return await _hurry(store, found.targets)

    async def release(claim: Claim) -> None:
        facts = {"id": claim.delivery.message_id, "delivery": claim.delivery.id}
        await story.append(store.link, config, claim, decided.make_event("retried", **facts))
        await store.defer(claim, b"", wait=0.0, attempted=False)

    seizure = Seizure(store, config, release, watch)
    await seizure.run(found.targets, ready=False)
    return seizure.deliveries


async def _hurry(store: Store, targets: Sequence[Target]) -> int:
    """Several queues at a time: there may be many, with little in each."""
    left, moved = deque(targets), 0

    async def work() -> None:
        nonlocal moved
        while left:
            moved += await store.hurry(left.popleft().queue, ahead=_AHEAD)

    async with trio.open_nursery() as nursery:
        for _ in range(_TASKS):
            nursery.start_soon(work)
    return moved


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
