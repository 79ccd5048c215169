"""Tells senders what became of their messages: writes the notices, and has the store accept them.

Failures on one side, delays and successes on the other are told in notices of their own, also when
they come of one attempt (RFC 3464 would let us mix them). They are two promises: nothing is given up
before the sender's notice is safe, however long that takes; what is told as a courtesy must hold up
nothing, and may be lost. A subject line that says "Failure" is read differently, too.

A notice's id follows from what it is about. Whoever comes after us, because we died in between, has
the same answers, makes the same notice, and the store knows it by its id.
"""

import logging
import time
from collections.abc import Sequence
from hashlib import blake2s

import trio

from relay.address import find_domain
from relay.config import Config
from relay.errors import StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.model import Claim, Delivery, derive_message_id
from relay.store.keys import find_shard
from relay.store.queue import Store
from workers.notice import Kind, Result, is_wanted, make_notice

# For so long a delivery waits until a notice that is a courtesy is accepted, s.
_COURTESY = 5.0

_log = logging.getLogger("outgate.worker")


class Postmaster:
    """Writes the notices of one worker process."""

    def __init__(self, config: Config, store: Store, events: EventLog) -> None:
        self._hostname = config.ingress.hostname
        self._expire = config.delivery.expire
        self._store = store
        self._events = events

    async def tell(
        self, kind: Kind, claim: Claim, results: Sequence[Result], *, remote: str, now: float
    ) -> None:
        """Tell the sender about these recipients, if there is one and it wants to know.

        ``remote``: the host that gave the answers. FAILED: returns when the notice is accepted,
        and waits for the store until then. The others: returns after a few seconds, and raises
        nothing.
        """
        if not any(is_wanted(kind, recipient) for recipient, _ in results):
            return
        if kind is Kind.FAILED:
            await self._write(kind, claim, results, remote, now)
            return
        delivery = claim.delivery.id
        try:
            with trio.move_on_after(_COURTESY) as scope:
                await self._write(kind, claim, results, remote, now)
            if scope.cancelled_caught:
                _log.warning("%s: no time to tell the sender: %s", delivery, kind.value)
        except Exception:
            _log.exception("%s: cannot tell the sender: %s", delivery, kind.value)

    async def _write(
        self, kind: Kind, claim: Claim, results: Sequence[Result], remote: str, now: float
    ) -> None:
        delivery = claim.delivery
        domain = _find_sender_domain(delivery)
        if not domain:
            return
        home = find_shard(domain)
        message_id = _derive_id(kind, delivery, results, home)
        made = make_notice(
            kind,
            delivery,
            results,
            original=await self._read_original(claim),
            hostname=self._hostname,
            message_id=message_id,
            now=now,
            remote=remote,
            until=delivery.accepted + self._expire,
        )
        if made is None:
            return
        envelope, content = made
        notice = Delivery(
            id=f"{message_id}.0",
            tenant=delivery.tenant,
            pool=delivery.pool,
            domain=domain,
            envelope=envelope,
            size=len(content),
            chunks=1,
            accepted=time.time(),
            home=home,
            alone=True,
            notice=True,
        )
        event = _describe(kind, delivery, notice)
        if await self._store.accept_notice(notice, event, content):
            self._events.write(event)

    async def _read_original(self, claim: Claim) -> bytes:
        """Return the message, or its first part: its headers are in it."""
        try:
            return claim.body or await self._store.read_part(claim.delivery, 0) or b""
        except (StoreUnavailable, StoreError):
            return b""


def _describe(kind: Kind, delivery: Delivery, notice: Delivery) -> bytes:
    return encode_event(
        {
            "time": time.time(),
            "event": "accepted",
            "id": notice.message_id,
            "tenant": notice.tenant,
            "sender": "",
            "recipients": [delivery.envelope.sender.decode("utf-8", "replace")],
            "size": notice.size,
            "about": delivery.message_id,
            "notice": kind.value,
        }
    )


def _find_sender_domain(delivery: Delivery) -> str:
    """Return where a notice goes; "" when nobody is to be told."""
    if not delivery.envelope.sender or delivery.notice:
        return ""
    return find_domain(delivery.envelope.sender) or ""


def _derive_id(kind: Kind, delivery: Delivery, results: Sequence[Result], home: int) -> str:
    """Return the notice's id: the same for the same news of the same delivery.

    A delay is told once, whoever it concerns the next time.
    """
    digest = blake2s(delivery.id.encode("ascii"), person=kind.value.encode("ascii"))
    if kind is not Kind.DELAYED:
        for recipient, _ in results:
            digest.update(b"\0" + recipient.address)
    return derive_message_id(delivery.message_id, digest.digest(), home)
