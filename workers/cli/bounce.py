"""``outgate bounce``: end deliveries now; their senders are told, as of any failure."""

import argparse
import json

import msgspec
import trio

from relay.config import Config, load
from relay.errors import ConfigError
from relay.model import Claim, Disposition, Outcome
from relay.store import story
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.decision import Decision
from workers.cli.page import format_count
from workers.cli.report import find_status, tell_rest
from workers.cli.seizure import Seizure
from workers.cli.selection import Selection
from workers.cli.target import count_targets, find_targets
from workers.ending import Ending

_TEXT = "the operator of this mail gateway has ended the delivery of this message"
# RFC 3463 §3.8, X.7.0: a policy ended it, ours; neither the address nor the message is at fault.
_STATUS = "5.7.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which, what senders are told, and why."""
    selection.add_arguments(parser)
    parser.add_argument(
        "--text", metavar="TEXT", default=_TEXT, help=f'what senders read (default: "{_TEXT}")'
    )
    parser.add_argument("--silent", action="store_true", help="senders are not told at all")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be ended")
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """End them; exit 1 when nothing matched."""
    config = load(arguments.config)
    chosen = selection.read(arguments)
    if not arguments.text.strip():
        raise ConfigError(["--text: say something, or --silent"])
    done = trio.run(_bounce, config, chosen, arguments, Decision(config, arguments))
    if arguments.json:
        print(json.dumps(done))
    elif done["deliveries"]:
        _show(done)
    tell_rest(chosen, done)
    return find_status(done, done["deliveries"])


async def _bounce(
    config: Config, chosen: Selection, arguments: argparse.Namespace, decided: Decision
) -> dict[str, object]:
    async with open_store(config) as store:
        found = await find_targets(store, config, chosen)
        ending = Ending(config, store, decided.events)
        outcome = Outcome(Disposition.BOUNCED, status=_STATUS, text=arguments.text)

        async def end(claim: Claim) -> None:
            facts = {"id": claim.delivery.message_id, "delivery": claim.delivery.id}
            event = decided.make_event("bounced-by-operator", **facts, silent=arguments.silent)
            await story.append(store.link, config, claim, event)
            outcomes = [outcome] * len(claim.delivery.envelope.recipients)
            await ending.end(_silence(claim) if arguments.silent else claim, outcomes)

        seizure = Seizure(store, config, end)
        count, recipients = await count_targets(store, found.targets), 0
        if not arguments.dry_run:
            try:
                await seizure.run(found.targets)
            finally:
                count, recipients = seizure.deliveries, seizure.recipients
                if count:
                    with trio.CancelScope(shield=True):
                        await decided.record(
                            store.link,
                            "bounced-by-operator",
                            **chosen.describe(),
                            deliveries=count,
                            affected=recipients,
                            silent=arguments.silent,
                            text=arguments.text,
                        )
        return {
            "deliveries": count,
            "recipients": None if arguments.dry_run else recipients,
            "silent": arguments.silent,
            "claimed": found.claimed,
            "ended": found.ended,
            "unknown": found.unknown,
            "interrupted": seizure.interrupted,
            "dry_run": arguments.dry_run,
        }


def _silence(claim: Claim) -> Claim:
    """Ask for no notice in the senders' place (RFC 3461 §4.1: NEVER)."""
    envelope = claim.delivery.envelope
    people = tuple(msgspec.structs.replace(one, notify=b"NEVER") for one in envelope.recipients)
    envelope = msgspec.structs.replace(envelope, recipients=people)
    delivery = msgspec.structs.replace(claim.delivery, envelope=envelope)
    return msgspec.structs.replace(claim, delivery=delivery)


def _show(done: dict[str, object]) -> None:
    count, recipients = done["deliveries"], done["recipients"]
    assert isinstance(count, int)
    if done["dry_run"]:
        print(f"{format_count(count, 'delivery')} would be ended")
        return
    assert isinstance(recipients, int)
    print(f"ended: {format_count(count, 'delivery')} to {format_count(recipients, 'recipient')}")
    senders = "the sender is told" if count == 1 else "their senders are told"
    told = "nobody is told" if done["silent"] else senders
    print(f"  {told}; this cannot be undone")
