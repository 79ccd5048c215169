"""Ending a claim: from the outcomes of an attempt to settle, defer or bounce, and the notice.

Where a message is, line by line: in the store, claimed by us, until one of the three has run. A
notice to the sender is accepted *before* its delivery is bounced: if we die between the two, the
delivery is tried again and the same notice (its id comes from the delivery) is not made twice.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s

import msgspec

from relay.address import find_domain
from relay.config import Config
from relay.errors import StoreError, StoreUnavailable
from relay.events import EventLog, decode_event, encode_event
from relay.model import Blame, Claim, Delivery, Disposition, Outcome, Recipient, derive_message_id
from relay.store.keys import find_shard
from relay.store.queue import Store
from workers.bounce import make_bounce
from workers.schedule import is_expired, next_wait


@dataclass(frozen=True, slots=True)
class Attempt:
    """Where an attempt was made, for the record; all empty when none could be."""

    source: str = ""
    host: str = ""
    address: str = ""
    tls: str = ""


class _LastOutcome(msgspec.Struct, frozen=True):
    """What a recipient got, as it stands in an event."""

    address: str
    command: str = ""
    code: int = 0
    status: str = ""
    text: str = ""


class _Last(msgspec.Struct, frozen=True):
    """What is wanted of the event of the last attempt."""

    host: str = ""
    recipients: tuple[_LastOutcome, ...] = ()


_NOTHING_SAID = _LastOutcome("", status="4.4.7", text="it could not be tried in time")
_NOWHERE = Attempt()
_DOTS = (".", "BDAT")  # the commands whose answer makes somebody else responsible


class Ending:
    """Ends claims of one worker process."""

    def __init__(self, config: Config, store: Store, events: EventLog) -> None:
        self._config = config
        self._store = store
        self._events = events
        self._pools = {tenant.name: tenant.pool for tenant in config.tenant}

    def make_attempt_event(self, claim: Claim, attempt: Attempt) -> bytes:
        """Return the event that opens an attempt in the store."""
        return encode_event(self._describe("attempt", claim, attempt))

    async def end(
        self,
        claim: Claim,
        outcomes: Sequence[Outcome],
        attempt: Attempt = _NOWHERE,
        *,
        host_failed: bool = False,
        unknown: bool = False,
    ) -> None:
        """End a claim by what its recipients got: one outcome for each, in their order.

        ``host_failed``: no session was to be had, the message played no part in it. ``unknown``:
        the session broke between the final dot and its answer.
        """
        doubtful = 0
        if unknown:
            outcomes, doubtful = self._weigh_unknown(outcomes)
        pairs = list(zip(claim.delivery.envelope.recipients, outcomes, strict=True))
        still_open = [pair for pair in pairs if pair[1].disposition is Disposition.DEFERRED]
        failed = [pair for pair in pairs if pair[1].disposition is Disposition.BOUNCED]
        if still_open and self._is_expired(claim):
            failed, still_open = failed + still_open, []
        if failed:
            await self._tell_sender(claim, failed, attempt)
        if still_open:
            await self._defer(
                claim, pairs, still_open, attempt, host_failed=host_failed, unknown=doubtful
            )
            return
        event = self._make_event("bounced" if failed else "delivered", claim, pairs, attempt)
        if failed:
            delivered = len(pairs) - len(failed)
            done = await self._store.bounce(claim, event, delivered=delivered, unknown=doubtful)
        else:
            done = await self._store.settle(claim, event, unknown=doubtful)
        self._report(event, done=done)

    async def end_expired(self, claim: Claim) -> None:
        """End a claim whose time was up before another attempt: the last one's answers are final."""
        host, outcomes = _recall(claim)
        await self.end(claim, outcomes, Attempt(host=host), host_failed=True)

    def _weigh_unknown(self, outcomes: Sequence[Outcome]) -> tuple[Sequence[Outcome], int]:
        """Do as the configuration says with recipients that may have the message; count them."""
        # Who was put off at RCPT keeps that answer: the final dot was not about him.
        doubtful = [o.disposition is Disposition.DEFERRED and o.command in _DOTS for o in outcomes]
        if self._config.delivery.unknown_outcome == "assume-delivered":
            outcomes = [
                msgspec.structs.replace(o, disposition=Disposition.DELIVERED) if doubt else o
                for o, doubt in zip(outcomes, doubtful, strict=True)
            ]
        return outcomes, sum(doubtful)

    async def _defer(
        self,
        claim: Claim,
        pairs: list[tuple[Recipient, Outcome]],
        still_open: list[tuple[Recipient, Outcome]],
        attempt: Attempt,
        *,
        host_failed: bool,
        unknown: int,
    ) -> None:
        delivery = claim.delivery
        wait = next_wait(self._config.delivery.retry, claim.attempts + 1, random.random())  # noqa: S311
        # Never past the end of its time: expiry is seen when the wait is over.
        left = delivery.accepted + self._config.delivery.expire - time.time()
        hold = unknown > 0 and self._config.delivery.unknown_outcome == "hold"
        # Held: until an operator decides, or its time is over. Recipients of the same delivery
        # whose answer is known wait with it: one delivery has one time.
        wait = max(1.0, left if hold else min(wait, left))
        counts = [
            sum(outcome.disposition is kind for _, outcome in pairs)
            for kind in (Disposition.DELIVERED, Disposition.BOUNCED)
        ]
        envelope = msgspec.structs.replace(
            delivery.envelope, recipients=tuple(recipient for recipient, _ in still_open)
        )
        pool = self._pools.get(delivery.tenant, delivery.pool)
        more = {"wait": round(wait, 1)} | ({"hold": True} if hold else {})
        event = self._make_event("deferred", claim, pairs, attempt, **more)
        done = await self._store.defer(
            claim,
            event,
            wait=wait,
            rest=msgspec.structs.replace(delivery, envelope=envelope, pool=pool),
            delivered=counts[0],
            bounced=counts[1],
            host_failed=host_failed,
            unknown=unknown,
        )
        self._report(event, done=done)

    async def give_back(self, claim: Claim, *, wait: float = 0.0) -> None:
        """End a claim without an attempt: we stop, or have no source for it just now."""
        await self._store.defer(claim, b"", wait=wait, attempted=False)

    # -- the notice ---------------------------------------------------------------------------

    async def _tell_sender(
        self, claim: Claim, failed: list[tuple[Recipient, Outcome]], attempt: Attempt
    ) -> None:
        """Accept the notice about recipients that failed, if the sender wants one."""
        delivery = claim.delivery
        sender_domain = _find_sender_domain(delivery)
        if not sender_domain:
            return
        home = find_shard(sender_domain)
        message_id = _derive_id(delivery, failed, home)
        try:
            original = claim.body or await self._store.read_part(delivery, 0) or b""
        except (StoreUnavailable, StoreError):
            original = b""
        made = make_bounce(
            delivery,
            failed,
            original=original,
            hostname=self._config.ingress.hostname,
            message_id=message_id,
            now=time.time(),
            remote=attempt.host,
        )
        if made is None:
            return
        envelope, content = made
        notice = Delivery(
            id=f"{message_id}.0",
            message_id=message_id,
            tenant=delivery.tenant,
            pool=delivery.pool,
            domain=sender_domain,
            envelope=envelope,
            size=len(content),
            chunks=1,
            accepted=time.time(),
            home=home,
            alone=True,
            notice=True,
        )
        event = encode_event(
            {
                "time": time.time(),
                "event": "accepted",
                "id": message_id,
                "tenant": delivery.tenant,
                "sender": "",
                "recipients": [_show(delivery.envelope.sender)],
                "size": len(content),
                "about": delivery.message_id,
            }
        )
        if await self._store.accept_notice(notice, event, content):
            self._events.write(event)

    # -- events -------------------------------------------------------------------------------

    def _is_expired(self, claim: Claim) -> bool:
        return is_expired(claim.delivery.accepted, time.time(), self._config.delivery.expire)

    @staticmethod
    def _describe(name: str, claim: Claim, attempt: Attempt) -> dict[str, object]:
        delivery = claim.delivery
        return {
            "time": time.time(),
            "event": name,
            "id": delivery.message_id,
            "delivery": delivery.id,
            "tenant": delivery.tenant,
            "domain": delivery.domain,
            "attempt": claim.attempts + 1,
            "source": attempt.source,
            "host": attempt.host,
            "address": attempt.address,
            "tls": attempt.tls,
        }

    def _make_event(
        self,
        name: str,
        claim: Claim,
        pairs: Sequence[tuple[Recipient, Outcome]],
        attempt: Attempt,
        **more: object,
    ) -> bytes:
        event = self._describe(name, claim, attempt)
        event["recipients"] = [
            {
                "address": _show(recipient.address),
                "outcome": outcome.disposition.value,
                "command": outcome.command,
                "code": outcome.code,
                "status": outcome.status,
                "text": outcome.text,
                "blame": outcome.blame.value if outcome.blame else "",
            }
            for recipient, outcome in pairs
        ]
        event.update(more)
        return encode_event(event)

    def _report(self, event: bytes, *, done: bool) -> None:
        """Log what happened, unless the claim had passed to another who reports it himself.

        A repeated call answers "not ours" as well; its event is in the story all the same.
        """
        if done:
            self._events.write(event)


def _recall(claim: Claim) -> tuple[str, list[Outcome]]:
    """Return from the last attempt's event which host it met, and what each recipient got.

    Still "deferred": it is our time that is over, not the host that said so.
    """
    try:
        last = msgspec.convert(decode_event(claim.previous), _Last)
    except msgspec.MsgspecError:
        last = _Last()
    said = {one.address: one for one in last.recipients}
    outcomes = []
    for recipient in claim.delivery.envelope.recipients:
        one = said.get(_show(recipient.address), _NOTHING_SAID)
        outcomes.append(
            Outcome(Disposition.DEFERRED, Blame.HOST, one.command, one.code, one.status, one.text)
        )
    return last.host, outcomes


def _find_sender_domain(delivery: Delivery) -> str:
    """Return where a notice goes; "" when nobody is to be told."""
    if not delivery.envelope.sender or delivery.notice:
        return ""
    return find_domain(delivery.envelope.sender) or ""


def _derive_id(delivery: Delivery, failed: Sequence[tuple[Recipient, Outcome]], home: int) -> str:
    """Return the notice's id: the same for the same failures of the same delivery."""
    digest = blake2s(delivery.id.encode("ascii"))
    for recipient, _ in failed:
        digest.update(b"\0" + recipient.address)
    return derive_message_id(delivery.message_id, digest.digest(), home)


def _show(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")
