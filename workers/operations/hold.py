"""Holding: deliveries wait until they are retried, bounced, or their time is over."""

import trio

from relay.config import Config
from relay.model import Claim
from relay.store import story
from relay.store.queue import Store
from relay.store.suspension import Suspensions
from relay.store.view import Waiting
from workers.operations.decision import Decision
from workers.operations.seizure import Seizure, Watch
from workers.operations.target import count_targets, find_targets
from workers.views.selection import Selection


async def hold(
    store: Store, config: Config, chosen: Selection, decided: Decision, watch: Watch, *, dry: bool
) -> dict[str, object]:
    """Hold what was chosen; ``dry``: only say what would be held."""
    decided.tell(store.link)
    found = await find_targets(store, config, chosen)
    ahead = await Suspensions(store.link).read_clock() - trio.current_time()

    async def put_off(claim: Claim) -> None:
        delivery = claim.delivery
        ends = delivery.accepted + config.delivery.expire
        wait = max(1.0, ends - trio.current_time() - ahead)
        event = decided.make_event(
            "held", id=delivery.message_id, delivery=delivery.id, wait=round(wait, 1)
        )
        await story.append(store.link, config, claim, event)
        # Our own choice: no attempt. It expires where it waits, when its time is over.
        await store.defer(claim, b"", wait=wait, attempted=False)

    def is_held(waiting: Waiting) -> bool:
        return waiting.until >= waiting.accepted + config.delivery.expire - 1

    seizure = Seizure(store, config, put_off, watch)
    if not dry:
        await seizure.run_on_record(found.targets, chosen, decided, "held", leave=is_held)
    return {
        "deliveries": await count_targets(store, found.targets) if dry else seizure.deliveries,
        "recipients": None if dry else seizure.recipients,
        "held_before": seizure.left,
        "claimed": found.claimed,
        "ended": found.ended,
        "unknown": found.unknown,
        "interrupted": seizure.interrupted,
        "dry_run": dry,
        "undo": f"outgate retry {chosen.spell()}",
    }
