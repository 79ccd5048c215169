"""``outgate hold``: deliveries wait until they are retried, bounced, or their time is over."""

import argparse
import json

import trio

from relay.config import Config, load
from relay.model import Claim
from relay.store import story
from relay.store.suspension import Suspensions
from relay.store.view import Waiting
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.decision import Decision
from workers.cli.page import format_count
from workers.cli.report import find_status, tell_rest
from workers.cli.seizure import Seizure
from workers.cli.selection import Selection
from workers.cli.target import count_targets, find_targets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which, and why."""
    selection.add_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be held")
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Hold; exit 1 when nothing matched."""
    config = load(arguments.config)
    chosen = selection.read(arguments)
    done = trio.run(_hold, config, chosen, arguments.dry_run, Decision(config, arguments))
    if arguments.json:
        print(json.dumps(done))
    elif done["deliveries"] or done["held_before"]:
        _show(done)
    tell_rest(chosen, done)
    return find_status(done, done["deliveries"], done["held_before"])


async def _hold(
    config: Config, chosen: Selection, dry: bool, decided: Decision
) -> dict[str, object]:
    async with open_store(config) as store:
        found = await find_targets(store, config, chosen)
        ahead = await Suspensions(store.link).read_clock() - trio.current_time()

        async def hold(claim: Claim) -> None:
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

        seizure = Seizure(store, config, hold)
        count, recipients = await count_targets(store, found.targets), 0
        if not dry:
            try:
                await seizure.run(found.targets, leave=is_held)
            finally:
                count, recipients = seizure.deliveries, seizure.recipients
                if count:
                    with trio.CancelScope(shield=True):
                        await decided.record(
                            store.link,
                            "held",
                            **chosen.describe(),
                            deliveries=count,
                            affected=recipients,
                        )
        return {
            "deliveries": count,
            "recipients": None if dry else recipients,
            "held_before": seizure.left,
            "claimed": found.claimed,
            "ended": found.ended,
            "unknown": found.unknown,
            "interrupted": seizure.interrupted,
            "dry_run": dry,
            "undo": f"outgate retry {chosen.spell()}",
        }


def _show(done: dict[str, object]) -> None:
    count, recipients = done["deliveries"], done["recipients"]
    assert isinstance(count, int)
    if done["dry_run"]:
        print(f"{format_count(count, 'delivery')} would be held")
        return
    assert isinstance(recipients, int)
    print(f"held: {format_count(count, 'delivery')} to {format_count(recipients, 'recipient')}")
    if done["held_before"]:
        print(f"  {done['held_before']:,} had been held already")
    print("  until retried, or until their time is over (delivery.expire); then they bounce")
    print(f"  undo: {done['undo']}")
