"""Bouncing: deliveries end now; their senders are told, as of any failure."""

import msgspec

from relay.config import Config
from relay.model import Claim, Disposition, Outcome
from relay.store import story
from relay.store.queue import Store
from workers.ending import Ending
from workers.operations.decision import Decision
from workers.operations.seizure import Seizure, Watch
from workers.operations.target import count_targets, find_targets
from workers.views.selection import Selection

TEXT = "the operator of this mail gateway has ended the delivery of this message"
_EVENT = "bounced-by-operator"
# RFC 3463 §3.8, X.7.0: a policy ended it, ours; neither the address nor the message is at fault.
_STATUS = "5.7.0"


async def bounce(
    store: Store,
    config: Config,
    chosen: Selection,
    decided: Decision,
    watch: Watch,
    *,
    text: str = TEXT,
    silent: bool = False,
    dry: bool = False,
) -> dict[str, object]:
    """End what was chosen. ``text``: what senders read; ``silent``: they do not; ``dry``: only count."""
    decided.tell(store.link)
    found = await find_targets(store, config, chosen)
    ending = Ending(config, store, decided.events)
    outcome = Outcome(Disposition.BOUNCED, status=_STATUS, text=text)

    async def end(claim: Claim) -> None:
        facts = {"id": claim.delivery.message_id, "delivery": claim.delivery.id}
        event = decided.make_event(_EVENT, **facts, silent=silent)
        await story.append(store.link, config, claim, event)
        outcomes = [outcome] * len(claim.delivery.envelope.recipients)
        await ending.end(_silence(claim) if silent else claim, outcomes)

    seizure = Seizure(store, config, end, watch)
    if not dry:
        await seizure.run_on_record(
            found.targets, chosen, decided, _EVENT, silent=silent, text=text
        )
    return {
        "deliveries": await count_targets(store, found.targets) if dry else seizure.deliveries,
        "recipients": None if dry else seizure.recipients,
        "silent": silent,
        "claimed": found.claimed,
        "ended": found.ended,
        "unknown": found.unknown,
        "interrupted": seizure.interrupted,
        "dry_run": dry,
    }


def _silence(claim: Claim) -> Claim:
    """Ask for no notice in the senders' place (RFC 3461 §4.1: NEVER)."""
    envelope = claim.delivery.envelope
    people = tuple(msgspec.structs.replace(one, notify=b"NEVER") for one in envelope.recipients)
    envelope = msgspec.structs.replace(envelope, recipients=people)
    delivery = msgspec.structs.replace(claim.delivery, envelope=envelope)
    return msgspec.structs.replace(claim, delivery=delivery)
