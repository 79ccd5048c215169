"""Ending a claim: from the outcomes of an attempt to settle, defer or bounce, and the notices.

Where a message is, line by line: in the store, claimed by us, until one of the three has run. A
notice about a failure is accepted *before* its delivery is bounced: if we die between the two, the
delivery is tried again and the same notice (its id comes from the delivery) is not made twice. What
only informs the sender, or us, holds up nothing: it may be lost.
"""

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from relay.config import Config
from relay.counters import COUNTERS
from relay.errors import StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.model import Blame, Claim, Disposition, Outcome, Recipient
from relay.store.queue import Store
from relay.store.suppression import Suppression
from workers.attempt import Attempt, describe, describe_answers, read_last, recall, show
from workers.choice import choose_again
from workers.hint import find_hint
from workers.notice import Kind
from workers.postmaster import Postmaster
from workers.reprieve import reprieve
from workers.schedule import is_expired, next_wait
from workers.suppression import Trimmed, is_unknown, make_outcome, trim

_log = logging.getLogger("outgate.worker")


_NOWHERE = Attempt()
_DOTS = (".", "BDAT")  # the commands whose answer makes somebody else responsible


@dataclass(frozen=True, slots=True)
class _Result:
    """What an attempt brought, recipient by recipient."""

    claim: Claim
    attempt: Attempt
    now: float  # one reading of the clock for decisions and record: see Ending._is_late
    pairs: list[tuple[Recipient, Outcome]]
    expired: bool
    unknown: int  # recipients that may have the message, and nobody knows
    delivered: list[tuple[Recipient, Outcome]]
    still_open: list[tuple[Recipient, Outcome]]  # who is tried again
    failed: list[tuple[Recipient, Outcome]]  # for good; whose time is up is still "deferred"


class Ending:
    """Ends claims of one worker process."""

    def __init__(self, config: Config, store: Store, events: EventLog) -> None:
        self._config = config
        self._store = store
        self._events = events
        self._postmaster = Postmaster(config, store, events)
        self._pools = {tenant.name: tenant.pool for tenant in config.tenant}
        on = config.delivery.suppress_after > 0
        self._suppression = Suppression(store.link, config) if on else None

    @property
    def withholds(self) -> bool:
        """True when claims must go through ``withhold`` before anything else is done with them."""
        return self._suppression is not None

    def make_attempt_event(self, claim: Claim, attempt: Attempt) -> bytes:
        """Return the event that opens an attempt in the store."""
        return encode_event(describe("attempt", claim, attempt, time.time()))

    async def withhold(self, claim: Claim) -> Claim | None:
        """Take recipients out of a claim that are not to be tried (``delivery.suppress_after``).

        Returns the claim to go on with: the same one, or one in its place that must be the one
        that is ended. None: nobody was left, it has been ended.
        """
        suppressed = await self._find_suppressed(claim)
        if not suppressed:
            return claim
        trimmed = trim(claim, suppressed)
        if trimmed.delivery.envelope.recipients:
            return trimmed
        await self.end(trimmed, [])
        return None

    async def _find_suppressed(self, claim: Claim) -> frozenset[bytes]:
        if self._suppression is None:
            return frozenset()
        delivery = claim.delivery
        addresses = [recipient.address for recipient in delivery.envelope.recipients]
        try:
            return await self._suppression.find(delivery.domain, addresses)
        except (StoreUnavailable, StoreError) as error:
            _log.warning("%s: not asked who is suppressed: %s", delivery.id, error)
            return frozenset()

    async def end(
        self,
        claim: Claim,
        outcomes: Sequence[Outcome],
        attempt: Attempt = _NOWHERE,
        *,
        unknown: bool = False,
        retry: Sequence[float] | None = None,
    ) -> None:
        """End a claim by what its recipients got: one outcome for each, in their order.

        ``unknown``: the session broke between the final dot and its answer. ``retry``: the
        site's own waits between attempts, s; None: those of ``delivery.retry``.
        """
        result = self._weigh(claim, outcomes, attempt, unknown=unknown)
        await self._tell_sender(result)
        if result.still_open:
            event, done = await self._defer(result, retry or self._config.delivery.retry)
        else:
            event, done = await self._finish(result)
        if done:
            # Otherwise the claim had passed to another, who reports and counts it himself.
            self._events.write(event)
            _count(result)
            await self._note_unknown(result)

    async def end_expired(self, claim: Claim, reason: str = "") -> None:
        """End a claim whose time was up before another attempt: the last one's answers are final.

        ``reason``: why it could not be tried, for recipients that were not.
        """
        host, outcomes = recall(claim, reason)
        await self.end(claim, outcomes, Attempt(host=host))

    async def end_unsayable(self, claim: Claim, why: str, attempt: Attempt) -> None:
        """End a claim whose envelope holds what must not be said to a host; no other changes that."""
        outcome = Outcome(
            Disposition.BOUNCED, Blame.MESSAGE, status="5.6.0", text=f"cannot be sent: {why}"
        )
        await self.end(claim, [outcome] * len(claim.delivery.envelope.recipients), attempt)

    async def put_off(self, claim: Claim, wait: float) -> None:
        """Give a claim back for the trouble that is ours, for some seconds.

        What the store will not take back, a damaged record, ``reclaim`` tries when its lease ends: one
        message must not stop a worker. Raises StoreUnavailable.
        """
        try:
            await self.give_back(claim, wait=wait)
        except StoreError as error:
            _log.error("%s: cannot be put off: %s", claim.delivery.id, error)

    async def give_back(
        self, claim: Claim, *, wait: float = 0.0, source: str | None = None
    ) -> None:
        """End a claim without an attempt: we stop, or it cannot go this way just now.

        ``source``: the one that must have it next, "" for any, None for as it was.
        """
        if wait:  # never past the end of the message's time, as after an attempt
            left = claim.delivery.accepted + self._config.delivery.expire - time.time()
            wait = min(wait, max(1.0, left))
        await self._store.defer(claim, b"", wait=wait, attempted=False, source=source)

    # -- weighing -----------------------------------------------------------------------------

    def _weigh(
        self, claim: Claim, outcomes: Sequence[Outcome], attempt: Attempt, *, unknown: bool
    ) -> _Result:
        doubtful = 0
        if unknown:
            outcomes, doubtful = self._weigh_unknown(outcomes)
        pool = self._config.pool.get(self._find_pool(claim), {})
        outcomes = reprieve(outcomes, attempt.source, pool, claim.attempts)
        pairs = list(zip(claim.delivery.envelope.recipients, outcomes, strict=True))
        if isinstance(claim, Trimmed):
            times = self._config.delivery.suppress_after
            pairs += [(recipient, make_outcome(recipient, times)) for recipient in claim.withheld]
        now = time.time()
        expired = is_expired(claim.delivery.accepted, now, self._config.delivery.expire)
        delivered, deferred, failed = _tell_apart(pairs)
        if expired:
            deferred, failed = [], failed + deferred
        return _Result(claim, attempt, now, pairs, expired, doubtful, delivered, deferred, failed)

    def _find_pool(self, claim: Claim) -> str:
        return self._pools.get(claim.delivery.tenant, claim.delivery.pool)

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

    def _is_held(self, result: _Result) -> bool:
        return result.unknown > 0 and self._config.delivery.unknown_outcome == "hold"

    # -- the sender ---------------------------------------------------------------------------

    async def _tell_sender(self, result: _Result) -> None:
        """Tell the sender whatever is news to it; of failures it is certain to hear."""
        news = [(Kind.FAILED, result.failed)]
        if not result.attempt.dsn:
            # RFC 3461 §5.2.2: the host will not say that it has delivered, so we say that it has
            # taken over. What is only assumed to be delivered has no 2xx.
            taken = [pair for pair in result.delivered if pair[1].code // 100 == 2]
            news.append((Kind.RELAYED, taken))
        if self._is_late(result):
            news.append((Kind.DELAYED, result.still_open))
        for kind, pairs in news:
            if pairs:
                await self._postmaster.tell(
                    kind, result.claim, pairs, remote=result.attempt.host, now=result.now
                )

    def _is_late(self, result: _Result) -> bool:
        """Tell whether this is the attempt after which the sender hears of a delay.

        It is the first that ends after the mark: the one before ended earlier, by its event. That
        needs no memory: the store knows a notice by its id only until a day after it has gone. And
        whoever wrote the event had the same time to decide by, right or wrong.
        """
        after = self._config.delivery.delay_notice
        if not after or not result.still_open or self._is_held(result):
            return False
        mark = result.claim.delivery.accepted + after
        return read_last(result.claim).time < mark <= result.now

    # -- the three transitions -----------------------------------------------------------------

    async def _finish(self, result: _Result) -> tuple[bytes, bool]:
        """Settle or bounce; return the event, and whether the claim was still ours."""
        failed = len(result.failed)
        event = self._make_event("bounced" if failed else "delivered", result)
        if failed:
            done = await self._store.bounce(
                result.claim,
                event,
                delivered=len(result.pairs) - failed,
                unknown=result.unknown,
            )
        else:
            done = await self._store.settle(result.claim, event, unknown=result.unknown)
        return event, done

    async def _defer(self, result: _Result, retry: Sequence[float]) -> tuple[bytes, bool]:
        """Put off whoever is still open; return the event, and whether the claim was ours."""
        delivery, still_open = result.claim.delivery, result.still_open
        hold = self._is_held(result)
        wait = self._find_wait(result, retry)
        envelope = msgspec.structs.replace(
            delivery.envelope, recipients=tuple(recipient for recipient, _ in still_open)
        )
        pool = self._find_pool(result.claim)
        more = {"wait": round(wait, 1)} | ({"hold": True} if hold else {})
        event = self._make_event("deferred", result, **more)
        done = await self._store.defer(
            result.claim,
            event,
            wait=wait,
            rest=msgspec.structs.replace(delivery, envelope=envelope, pool=pool),
            delivered=len(result.delivered),
            bounced=len(result.failed),
            unknown=result.unknown,
            source=choose_again(
                [outcome for _, outcome in still_open],
                result.attempt.source,
                self._config.pool.get(pool, {}),
            ),
        )
        return event, done

    def _find_wait(self, result: _Result, retry: Sequence[float]) -> float:
        """Return the seconds until the next attempt: never past the end of the message's time.

        Expiry is seen when the wait is over. Held: until an operator decides, or its time is
        over. Recipients of the same delivery whose answer is known wait with it: one delivery
        has one time. So of several hints the longest holds, too.
        """
        claim = result.claim
        left = claim.delivery.accepted + self._config.delivery.expire - result.now
        if self._is_held(result):
            return max(1.0, left)
        hints = [find_hint(outcome) for _, outcome in result.still_open]
        hint = max((hint for hint in hints if hint is not None), default=None)
        wait = next_wait(retry, claim.attempts + 1, random.random(), hint)  # noqa: S311
        return max(1.0, min(wait, left))

    # -- repeatedly unknown recipients ----------------------------------------------------------

    async def _note_unknown(self, result: _Result) -> None:
        """Count who was unknown to the host, and forget what was held against who was not."""
        if self._suppression is None:
            return
        unknown = [recipient.address for recipient, o in result.pairs if is_unknown(o)]
        known = [recipient.address for recipient, o in result.delivered if o.code // 100 == 2]
        delivery = result.claim.delivery
        if not unknown and not known:
            return
        try:
            added = await self._suppression.note(delivery.domain, unknown=unknown, known=known)
        except (StoreUnavailable, StoreError) as error:
            _log.warning("%s: not noted who is unknown: %s", delivery.id, error)
            return
        for address in sorted(added):
            event = describe("suppressed", result.claim, result.attempt, result.now)
            self._events.write(encode_event(event | {"recipient": show(address)}))

    # -- events -------------------------------------------------------------------------------

    def _make_event(self, name: str, result: _Result, **more: object) -> bytes:
        claim = result.claim
        event = describe(name, claim, result.attempt, result.now)
        event["recipients"] = describe_answers(result.pairs)
        if isinstance(claim, Trimmed):
            event["suppressed"] = True
        event.update(more)
        return encode_event(event)


def _tell_apart(
    pairs: list[tuple[Recipient, Outcome]],
) -> tuple[list[tuple[Recipient, Outcome]], ...]:
    """Return who was delivered to, who was deferred, who was bounced."""
    delivered, deferred, bounced = [], [], []
    for pair in pairs:
        disposition = pair[1].disposition
        if disposition is Disposition.DELIVERED:
            delivered.append(pair)
        elif disposition is Disposition.DEFERRED:
            deferred.append(pair)
        else:
            bounced.append(pair)
    return delivered, deferred, bounced


def _count(result: _Result) -> None:
    """What an attempt brought, if one was made: once, however often the store had to be asked."""
    attempt, delivery = result.attempt, result.claim.delivery
    if not attempt.address:
        return
    delivered, deferred = Disposition.DELIVERED, Disposition.DEFERRED
    taken, put_off = 0, False  # a loop: enumerations are slow to hash
    for _, outcome in result.pairs:
        taken += outcome.disposition is delivered
        put_off = put_off or outcome.disposition is deferred
    if result.unknown:
        word = "unknown"
    elif put_off and not result.expired:
        word = "deferred"
    else:
        word = "delivered" if taken == len(result.pairs) else "bounced"
    COUNTERS.add("attempts", (attempt.site, attempt.source, word))
    if taken:
        COUNTERS.add("message_bytes", ("out",), delivery.size)
        if not delivery.notice:
            # Two hosts' clocks; a message is not delivered before it came.
            COUNTERS.observe("delivery_seconds", max(0.0, result.now - delivery.accepted))
