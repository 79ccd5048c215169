"""The queue in Redis: what ingress and workers may do to a message, one method a transition.

    accept            nothing -> ready (and, for other shards, -> outbox -> ready); held: -> due
    claim             ready -> claimed, from one lane, as much as a gate has granted
    record_attempt    claimed, and from now on of unknown outcome if we die
    settle            claimed -> gone: delivered
    bounce            claimed -> gone: failed for good, the sender has been told
    defer             claimed -> due -> ready again
    reclaim           claimed by somebody who died -> ready
    seize ...         ready or due -> claimed, past all gates (seizure.py)
    promote ...       due -> ready, and queues change lanes (lanes.py)

Each is one script, hence atomic and, with the server's append-only file, on disk when it returns.
What a lost reply means for each stands at the method. See DESIGN.md beside this file.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import trio

from relay.config import Config
from relay.errors import StoreError, StoreFull, StoreUnavailable
from relay.events import decode_event
from relay.model import Claim, Delivery, read_home
from relay.store.keys import find_shard, make_key, read_lane
from relay.store.link import Link, Part, Pending
from relay.store.seizure import Seizures
from relay.store.slip import find_queue, make_slip, read_slip, write_record

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Delivery).decode

# A message up to this size is stored in one piece, when it has arrived; a larger one in parts while
# it arrives, and it is read in parts while it is sent.
INLINE_OCTETS = 256 * 1024
# A body longer than this goes into the store by a command of its own, not through the script.
_APART_OCTETS = 32 * 1024
# Parts that no `accept` ever claimed (the sender went away) vanish after this long, ms.
_ORPHAN_PART = 3_600_000
# A body outlives its queue by this much, so that a late bounce can still quote it, s.
_BODY_MARGIN = 2 * 86_400
# For how long an `accept` whose reply was lost is repeated, s. The sender waits ten minutes for
# the answer to its final dot (RFC 5321 §4.5.3.2.6).
_ACCEPT_PATIENCE = 120.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_FORWARD_PATIENCE = 30.0  # s after which the rest of an accepted message is left to a worker


class StoreLostBody(Exception):
    """Parts of a message are not in the store any more: it must not be accepted."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim brought, each with the number of its source; ``left``: about what is left."""

    claims: list[tuple[int, Claim]]
    left: int


class Store(Seizures):
    """The transitions, over one link, and what a View can tell. Seconds and octets throughout."""

    def __init__(self, link: Link, config: Config) -> None:
        super().__init__(link, config)
        self._expire = int(config.delivery.expire * 1000)
        self._remember = max(600_000, int(config.store.remember * 1000))
        self._body_lifetime = int((config.delivery.expire + _BODY_MARGIN) * 1000)
        # While a message is queued its story must not expire, whatever happens to it.
        self._story_lifetime = self._body_lifetime + self._remember
        self._unknown_outcome = config.delivery.unknown_outcome

    # -- accepting ----------------------------------------------------------------------------

    async def store_part(self, home: int, message_id: str, part: int, octets: bytes) -> None:
        """Store part ``part`` (from 0) of a large message, before it is accepted.

        May be repeated. Raises StoreUnavailable, StoreFull.
        """
        key = make_key(home, "body", message_id, part)
        await self.link.call("SET", key, octets, "PX", _ORPHAN_PART)

    async def accept(self, deliveries: Sequence[Delivery], event: bytes, body: bytes) -> bool:
        """Take responsibility for a message; when this returns, it is on disk.

        ``body`` is the whole message, or b"" when its parts are stored. Returns False when the
        message had been accepted before (which only a repeated call can see).

        If we die here: before the script ran, the sender has no 250 and sends again; after it,
        the message is queued and the sender, who saw no 250, may send a second one (the window
        that RFC 1047 describes). A lost reply is not such a case: the same call is repeated, and
        the script knows the message by its id.

        Raises StoreUnavailable, StoreFull, StoreLostBody.
        """
        first = deliveries[0]
        recipients = sum(len(d.envelope.recipients) for d in deliveries)
        # A long body goes in a command of its own, in the same round trip: Lua would copy it twice.
        # Not a notice's: it must be let in when the store is full, and only the script can.
        apart = len(body) > _APART_OCTETS and not first.notice
        arguments: list[Part] = [
            first.message_id,
            "notices" if first.notice else "ledger",
            recipients,
            event,
            self._find_lifetime(first),
            b"" if apart else body,
            first.chunks,
            self._body_lifetime,
            self._find_hold(first),
            len(deliveries),
        ]
        distant: list[Delivery] = []
        for delivery in deliveries:
            here = find_shard(delivery.domain) == first.home
            if not here:
                distant.append(delivery)
            arguments += (
                delivery.id,
                find_queue(delivery),
                delivery.pool,
                make_slip(delivery, here=True) if here else b"",
                b"" if here else _encode(delivery),
            )
        key = make_key(first.home, "body", first.message_id, 0) if apart else ""
        done = await self._insist_on_accept(first.home, arguments, key, body)
        if done < 0:
            raise StoreLostBody(first.message_id)
        if distant:
            await self._forward_at_leisure(distant)
        return bool(done)

    async def accept_notice(self, notice: Delivery, event: bytes, content: bytes) -> bool:
        """Accept mail that we wrote ourselves; waits for the store as long as it takes.

        The id of a notice follows from what it is about, so that it is accepted once.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self.accept([notice], event, content)
            except (StoreUnavailable, StoreFull):
                await trio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _insist_on_accept(
        self, home: int, arguments: Sequence[Part], body_key: str, body: bytes
    ) -> int:
        """Run `accept` until it is known to have run; ``body_key``: store the body there first."""
        key = make_key(home, "ledger")
        give_up = trio.current_time() + _ACCEPT_PATIENCE
        pause = _FIRST_PAUSE
        doubtful = False
        while True:
            try:
                stored: Pending | None = None
                if body_key:
                    # NX: repeated after `accept` ran, it must not shorten the body's life.
                    stored = self.link.send("SET", body_key, body, "PX", _ORPHAN_PART, "NX")
                done = int(await self.link.start("accept", key, *arguments, behind=stored).wait())
                if done < 0 and stored is not None:
                    await stored.wait()  # it knows better why the body is not there
                return done
            except StoreUnavailable as error:
                doubtful = doubtful or error.executed
                if not doubtful or trio.current_time() > give_up:
                    raise
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _forward_at_leisure(self, deliveries: Sequence[Delivery]) -> None:
        """Forward now what can be; the message is safe, and a worker forwards the rest."""
        # The sender waits for its 250, for ten minutes, and there may be a thousand domains.
        with trio.move_on_after(_FORWARD_PATIENCE):
            for delivery in deliveries:
                # Whatever it is, it must not become a 4xx: the message has been accepted.
                with contextlib.suppress(StoreUnavailable, StoreError):
                    await self.forward(delivery)

    async def forward(self, delivery: Delivery) -> None:
        """Move a delivery from its message's home to the shard of its domain. May be repeated.

        If we die between the two calls, the outbox still has it and `enqueue` knows it.
        """
        shard = find_shard(delivery.domain)
        await self.link.run(
            "enqueue",
            make_key(shard, "ledger"),
            delivery.id,
            find_queue(delivery),
            delivery.pool,
            make_slip(delivery, here=False),
            self._body_lifetime,
            self._find_hold(delivery),
        )
        await self.link.call("HDEL", make_key(delivery.home, "outbox"), delivery.id)

    def _find_hold(self, delivery: Delivery) -> int:
        """For how long it waits for an operator, ms: held, it ends when its time is over."""
        return self._expire if delivery.held else 0

    async def read_outbox(self, shard: int, *, limit: int = 100) -> list[Delivery]:
        """Return deliveries that wait in a shard to be forwarded."""
        _, pairs = await self.link.call("HSCAN", make_key(shard, "outbox"), 0, "COUNT", limit)
        return [_decode(record) for record in pairs[1::2]]

    # -- delivering ---------------------------------------------------------------------------

    async def claim(
        self, shard: int, lane: str, grants: Sequence[int], *, token: str, octets: int, inline: int
    ) -> Claimed:
        """Claim deliveries of a lane, with bodies of up to ``octets`` together.

        ``grants``: for each source how many it may have. ``token`` must never be used twice.
        Messages larger than ``inline`` come without body. A lost reply leaves the deliveries
        claimed by nobody: `reclaim` finds them.
        """
        left, *found = await self.link.run(
            "claim", make_key(shard, "ledger"), lane, token, self._lease, octets, inline, *grants
        )
        pool = read_lane(lane).pool  # another than the slip's, when that has been adopted
        claims = []
        for source, queue, slip, previous, body in found:
            delivery, attempts = read_slip(queue, slip)
            if delivery.pool != pool:
                delivery = msgspec.structs.replace(delivery, pool=pool)
            claims.append((source, Claim(delivery, shard, token, attempts, body or None, previous)))
        return Claimed(claims, left)

    async def read_part(self, delivery: Delivery, part: int) -> bytes | None:
        """Return a part of a message's bytes, None when it is gone."""
        return await self.read_stored(delivery.home, delivery.message_id, part)

    async def read_stored(self, home: int, message_id: str, part: int) -> bytes | None:
        """The same for a message that is not accepted yet: what ``store_part`` stored."""
        octets: bytes | None = await self.link.call("GET", make_key(home, "body", message_id, part))
        return octets

    def record_attempt(self, claim: Claim, event: bytes) -> Pending:
        """Note that the final dot is about to go out; wait for the reply before it does.

        Started early, its round trip hides behind the peer's. A reply of 0: the claim has passed
        to another, nothing may be sent.
        """
        return self.link.start(
            "attempt", make_key(claim.shard, "ledger"), claim.delivery.id, claim.token, event
        )

    async def settle(self, claim: Claim, event: bytes, *, unknown: int = 0) -> bool:
        """End a claim: every open recipient has the message.

        Repeated until the store answers: a message that was delivered and not settled would be
        sent twice. False: the claim had passed to another.
        ``unknown``: recipients whose outcome we will never know, here and below; seen by us, not
        by ``reclaim``.
        """
        return await self._end(
            "settle", claim, event, self._find_memory(claim), unknown, event=event
        )

    async def bounce(self, claim: Claim, event: bytes, *, delivered: int, unknown: int = 0) -> bool:
        """End a claim: ``delivered`` recipients have the message, the others never will.

        The notice to the sender must be accepted before. Repeated as ``settle``.
        """
        arguments = (delivered, event, self._find_memory(claim), unknown)
        return await self._end("bounce", claim, *arguments, event=event)

    async def defer(
        self,
        claim: Claim,
        event: bytes,
        *,
        wait: float,
        rest: Delivery | None = None,
        delivered: int = 0,
        bounced: int = 0,
        unknown: int = 0,
        attempted: bool = True,
        source: str | None = None,
    ) -> bool:
        """End a claim: try again in ``wait`` seconds.

        ``rest``: the delivery with the recipients that are still open, when some are done;
        ``delivered`` and ``bounced`` count those. ``attempted=False``: the wait was our own
        choice, not an answer from outside. ``source``: the one that must make the next attempt,
        "" for any, None for as it was. Repeated as ``settle``.
        """
        return await self._end(
            "defer",
            claim,
            max(0, int(wait * 1000)),
            write_record(rest) if rest else b"",
            len((rest or claim.delivery).envelope.recipients),
            delivered,
            bounced,
            int(attempted),
            event,
            self._find_lifetime(claim.delivery),
            (rest or claim.delivery).pool,
            unknown,
            "=" if source is None else source,
            event=event,
        )

    def _find_lifetime(self, delivery: Delivery) -> int | str:
        """How long the story goes on while the message is queued, ms; "": until it has ended.

        That of a message to several domains has a part in each shard, and not all are told.
        """
        return "" if delivery.alone else self._story_lifetime

    def _find_memory(self, claim: Claim) -> int:
        """How long the story goes on when a delivery has ended: others may share it, ms."""
        return self._remember if claim.delivery.alone else self._story_lifetime

    async def _end(self, script: str, claim: Claim, *arguments: Part, event: bytes) -> bool:
        key = make_key(claim.shard, "ledger")
        delivery = claim.delivery
        pause = _FIRST_PAUSE
        done = 0  # 1 done, 0 not ours, -1 had ended before
        doubtful = False
        while True:
            try:
                done = done or await self.link.run(
                    script, key, delivery.id, claim.token, *arguments
                )
                # Only when it has really ended: otherwise the next owner still needs the body.
                if done and script != "defer" and not delivery.alone:
                    await self._release(delivery.home, delivery.message_id, delivery.id)
                if done <= 0 and doubtful and event:
                    return await self._is_told(claim, event)
            except (StoreUnavailable, StoreFull) as error:
                doubtful = doubtful or (isinstance(error, StoreUnavailable) and error.executed)
                await trio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return done > 0

    async def _is_told(self, claim: Claim, event: bytes) -> bool:
        """Tell whether an end was ours, whose reply was lost: its event is written with it.

        Nobody else would report it, and it would be missing from the log and the audit trail.
        """
        key = make_key(claim.shard, "story", claim.delivery.message_id)
        return event in (await self.link.call("GET", key) or b"").splitlines()

    async def _release(self, home: int, message_id: str, delivery_id: str) -> None:
        """Free the body if this was the message's last delivery. May be repeated.

        If we die before it, the body stays until its lifetime ends: space, not mail.
        """
        await self.link.run("release", make_key(home, "ledger"), message_id, delivery_id)

    async def renew(self, claims: Sequence[Claim]) -> None:
        """Give a sign of life for claims, all at once."""
        by_shard: dict[int, list[Part]] = {}
        for claim in claims:
            by_shard.setdefault(claim.shard, []).extend((claim.delivery.id, claim.token))
        for shard, pairs in by_shard.items():
            for start in range(0, len(pairs), 1000):
                piece = pairs[start : start + 1000]
                await self.link.run("renew", make_key(shard, "ledger"), self._lease, *piece)

    async def reclaim(self, shard: int, *, limit: int = 100) -> list[bytes]:
        """Take back what dead workers held in a shard; return the events.

        To be called twice in a lease: after a longer silence it takes nothing at first.
        """
        events: list[bytes] = await self.link.run(
            "reclaim",
            make_key(shard, "ledger"),
            limit,
            self._unknown_outcome,
            self._expire,
            self._story_lifetime,
            self._lease,
        )
        if self._unknown_outcome == "assume-delivered":
            await self._release_ended(events)
        return events

    async def _release_ended(self, events: Sequence[bytes]) -> None:
        """What `reclaim` assumed to be delivered may have been the last of its message."""
        for event in map(decode_event, events):
            if event["next"] == "assume-delivered":
                message_id = str(event["id"])
                await self._release(read_home(message_id), message_id, str(event["delivery"]))
