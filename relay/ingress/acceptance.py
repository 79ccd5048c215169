"""From the final dot to the ``250``: proof, limits, rules, changes, the archive, the store.

Where the message is: with the sender, until ``Store.accept`` returns. Everything before it may be
begun again by the sender's next try. If we die behind the archive, a message is kept there that
nobody was told was accepted, and comes again: never the other way round. Parts that were stored for
a message that is refused vanish after an hour.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from relay.address import find_domain
from relay.archive import Archive, make_entry
from relay.config.policy import Rule
from relay.config.schema import Config, Tenant
from relay.counters import COUNTERS
from relay.dkim.sign import Signer
from relay.errors import ArchiveUnavailable, MemoryFull, StoreError, StoreFull, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.ingress.admission import Refusal
from relay.ingress.change import Changed, change
from relay.ingress.draft import Draft, Trouble
from relay.ingress.priority import find_priority
from relay.ingress.proof import Judge, Proven, Unknown
from relay.ingress.tally import TenantSessions
from relay.model import Delivery, Envelope, Recipient
from relay.policy.decision import Decision
from relay.policy.facts import Facts
from relay.policy.policy import Policy
from relay.store.queue import Store, StoreLostBody
from relay.store.quota import Quotas

# What is changed elsewhere than on the loop, octets.
_LARGE = 64 * 1024
# ... and so many at a time: each takes several times the size of its message.
_THREADS = 2
_LATER: Trouble = (451, "4.3.0", "Cannot take the message now, try again later")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who hands the message in."""

    client: str
    hello: bytes
    tls: str  # version and cipher, "" in clear


@dataclass(frozen=True)
class Acceptance:
    """What all messages of a process go through."""

    config: Config
    store: Store
    events: EventLog
    judge: Judge
    quotas: Quotas
    sessions: TenantSessions
    policy: Policy
    reserve: Callable[[int], bool]  # memory for so many octets; the session gives it back
    archive: Archive | None = None
    signers: Mapping[str, Sequence[Signer]] = field(default_factory=dict)  # by tenant's name
    _threads: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(_THREADS), init=False
    )

    async def take(self, draft: Draft, peer: Peer, sessions: set[str]) -> Trouble | None:
        """Take responsibility for a message, or return the reply that says why not.

        ``sessions``: names of the tenants that the session counts for; the message's joins them.
        """
        proven = await self._prove(draft, peer)
        if not isinstance(proven, Proven):
            return proven
        case = _Case(draft, peer, proven)
        try:
            return (
                await self._limit(case, sessions)
                or await self._decide(case)
                or await self._keep(case)
                or await self._accept(case)
            )
        except (StoreUnavailable, StoreError, StoreLostBody, MemoryFull) as error:
            COUNTERS.add("messages", (case.tenant.name, "postponed"))
            return explain_failure(error)
        finally:
            self._give_back(case)

    # -- whose it is --------------------------------------------------------------------------

    async def _prove(self, draft: Draft, peer: Peer) -> Proven | Trouble:
        assert draft.evidence is not None
        found = await draft.evidence.conclude(null_sender=not draft.mail.sender)
        if isinstance(found, Proven):
            return found
        if isinstance(found, Unknown):
            self._report("postponed", draft, peer, found.reason)
            return 451, "4.7.5", "Cannot verify who sent this now, try again later"
        self.report_refusal(draft, peer, found)
        return 550, "5.7.1", found.text

    def report_refusal(self, draft: Draft, peer: Peer, refusal: Refusal) -> None:
        """Write down that somebody was not let in, and why."""
        name = "postponed" if refusal.temporary else "refused"
        self._report(name, draft, peer, refusal.reason)

    def report_trouble(self, draft: Draft, peer: Peer, trouble: Trouble) -> None:
        """Write down what a message was answered, where that says why."""
        code, _, text = trouble
        self._report("refused" if code >= 500 else "postponed", draft, peer, text)

    def _report(self, name: str, draft: Draft, peer: Peer, reason: str, **more: object) -> None:
        event = {
            "time": time.time(),
            "event": name,
            "client": peer.client,
            "hello": show(peer.hello),
            "sender": show(draft.mail.sender),
            "reason": reason,
            **more,
        }
        if draft.message_id:
            event["id"] = draft.message_id
        tenant = draft.candidates[0].name if len(draft.candidates) == 1 else ""
        if tenant:
            event["tenant"] = tenant
        COUNTERS.add("messages", (tenant, name))
        self.events.write(encode_event(event))

    # -- limits -------------------------------------------------------------------------------

    async def _limit(self, case: "_Case", sessions: set[str]) -> Trouble | None:
        tenant, draft = case.tenant, case.draft
        if (trouble := exceeds(tenant, draft.size - len(draft.trace), draft.count)) is not None:
            if trouble[0] == 452:
                # The null sender's: nobody knew whose it was, RCPT by RCPT. "Later" would be the same.
                trouble = 550, "5.5.3", trouble[2]
            self.report_trouble(draft, case.peer, trouble)
            return trouble
        if not self.sessions.enter(tenant, sessions):
            self._report("limited", draft, case.peer, f"tenant {tenant.name}: connections")
            return 451, "4.7.0", "Too many connections of this organisation, try again later"
        if tenant.messages is not None:
            wait = await self.quotas.take(tenant.name, tenant.messages.windows)
            if wait:
                self._report("limited", draft, case.peer, f"tenant {tenant.name}: messages")
                return 451, "4.7.0", f"Too many messages, try again in {wait:.0f} seconds"
            case.counted = True
        return None

    def _give_back(self, case: "_Case") -> None:
        """Count a message no more that was not accepted: its sender's next try is counted anew."""
        rates = case.tenant.messages
        if case.counted and not case.accepted and rates is not None:
            with contextlib.suppress(StoreUnavailable):  # the link is closed: we stop
                self.quotas.give_back(case.tenant.name, rates.windows)

    # -- rules --------------------------------------------------------------------------------

    async def _decide(self, case: "_Case") -> Trouble | None:
        draft, tenant = case.draft, case.tenant
        draft.priority = find_priority(tenant, draft.mail.sender, draft.head)
        if not self.policy.concerns(tenant.name):
            return None
        case.decision = decision = await self.policy.decide(self._gather(case))
        rule = decision.rule
        name = rule.name if rule is not None else ""
        if decision.action == "defer":
            self._report("postponed", draft, case.peer, decision.reason, rule=name)
            return _LATER
        if decision.action == "reject":
            self._report("refused", draft, case.peer, decision.reason, rule=name)
            return (
                550,
                "5.7.1",
                (rule and rule.text) or "Message refused by the sender's own policy",
            )
        if rule is not None:
            self._direct(case, rule)
            return await self._change(case, rule)
        return None

    def _gather(self, case: "_Case") -> Facts:
        draft, peer = case.draft, case.peer
        return Facts(
            tenant=case.tenant.name,
            sender=draft.mail.sender,
            recipients=[r.address for group in draft.recipients.values() for r in group],
            size=draft.size - len(draft.trace),
            head=draft.head,
            read=partial(self._read, draft),
            client=peer.client,
            hello=show(peer.hello),
            message_id=draft.message_id,
        )

    def _direct(self, case: "_Case", rule: Rule) -> None:
        """Where the message goes, and how."""
        draft = case.draft
        case.pool = rule.pool or case.pool
        draft.priority = rule.priority or draft.priority
        if rule.tls and draft.tls != "required":  # REQUIRETLS asks for more
            case.tls = "verified"
        for address in rule.copy_to:
            _add_copy(draft, address.encode())

    async def _change(self, case: "_Case", rule: Rule) -> Trouble | None:
        if rule.tag is None and not rule.footer:
            return None
        message = await self._read(case.draft)
        self._hold(case.draft, len(message))  # there will be two of it
        footer = next((one for one in self.config.footer if one.name == rule.footer), None)
        make = partial(change, message, rule.tag, footer, self.signers.get(case.tenant.name, ()))
        # A thread for what takes long: see _LARGE.
        large = len(message) > _LARGE
        case.changed = changed = (
            await trio.to_thread.run_sync(make, limiter=self._threads) if large else make()
        )
        if changed.message is not None:
            for part in case.draft.replace(changed.message):
                await self.store.store_part(
                    case.draft.home, case.draft.message_id, case.draft.parts, part
                )
        return None

    async def _read(self, draft: Draft) -> bytes:
        """Return the message without our trace. Raises StoreUnavailable, StoreLostBody, MemoryFull."""
        if draft.reserved < draft.size:  # or it is in memory
            self._hold(draft, draft.size - draft.reserved)
        message = await draft.read(
            lambda part: self.store.read_stored(draft.home, draft.message_id, part)
        )
        if message is None:
            raise StoreLostBody(draft.message_id)
        return message

    def _hold(self, draft: Draft, octets: int) -> None:
        """Count octets that are in memory until the message is decided. Raises MemoryFull.

        What was let go of while it came in (``Session._store_part``) comes back, of as many messages
        as end at the same time.
        """
        if not self.reserve(octets):
            raise MemoryFull("too many messages are looked into")
        draft.reserved += octets

    # -- keeping it ---------------------------------------------------------------------------

    async def _keep(self, case: "_Case") -> Trouble | None:
        """Put a copy into the archive, if it belongs there."""
        if self.archive is None:
            return None
        rule = case.decision.rule
        if self.config.archive.messages == "rules" and not (rule is not None and rule.archive):
            return None
        draft, peer = case.draft, case.peer
        message = draft.trace + await self._read(draft)
        entry = make_entry(
            _make_envelope(case, [r for group in draft.recipients.values() for r in group]),
            message_id=draft.message_id,
            tenant=case.tenant.name,
            time=time.time(),
            client=peer.client,
            hello=peer.hello,
            tls=peer.tls,
            rule=rule.name if rule is not None else "",
        )
        try:
            await self.archive.put(entry, message)
        except ArchiveUnavailable as error:
            self._report("postponed", draft, peer, str(error))
            return _LATER
        case.archived = True
        return None

    async def _accept(self, case: "_Case") -> Trouble | None:
        deliveries = _split(case)
        events = [self._make_event(case)]
        if case.held:
            events += [_make_held_event(case, delivery) for delivery in deliveries]
        await self.store.accept(deliveries, b"\n".join(events), case.draft.body)
        case.accepted = True
        COUNTERS.add("messages", (case.tenant.name, "accepted"))
        COUNTERS.add("message_bytes", ("in",), case.draft.size)
        for event in events:
            self.events.write(event)
        return None

    def _make_event(self, case: "_Case") -> bytes:
        draft, peer, proven, decision = case.draft, case.peer, case.proven, case.decision
        event: dict[str, object] = {
            "time": time.time(),
            "event": "accepted",
            "id": draft.message_id,
            "tenant": proven.tenant.name,
            "proof": proven.by,
            "sender": show(draft.mail.sender),
            "recipients": [show(r.address) for group in draft.recipients.values() for r in group],
            "size": draft.size,
            "client": peer.client,
            "hello": show(peer.hello),
            "tls": peer.tls,
        }
        if draft.name:
            event["message_id"] = draft.name
        if proven.domain:
            event |= {"signed_by": proven.domain, "seen": proven.seen}
        if decision.rule is not None:
            event["rule"] = decision.rule.name
        if decision.reason:
            event["reason"] = decision.reason
        if decision.scans:
            event["scans"] = {
                name: {"result": scan.result, "score": scan.score, "details": scan.details}
                for name, scan in decision.scans.items()
            }
        if case.changed is not None:
            event["changed"] = case.changed.what
            if case.changed.not_done:
                event["not_changed"] = case.changed.not_done
        if case.archived:
            event["archived"] = True
        return encode_event(event)


@dataclass(slots=True)
class _Case:
    """One message, and what was decided about it so far."""

    draft: Draft
    peer: Peer
    proven: Proven
    decision: Decision = field(default_factory=Decision)
    pool: str = ""
    tls: str = ""
    changed: Changed | None = None
    archived: bool = False
    counted: bool = False  # in its tenant's quota
    accepted: bool = False

    @property
    def tenant(self) -> Tenant:
        return self.proven.tenant

    @property
    def held(self) -> bool:
        return self.decision.action == "hold"


def exceeds(tenant: Tenant, size: int, recipients: int) -> Trouble | None:
    """Return the reply to a message that is too much for its tenant."""
    if tenant.max_message is not None and size > tenant.max_message:
        return 552, "5.3.4", f"Message too big: at most {tenant.max_message} octets"
    if tenant.max_recipients is not None and recipients > tenant.max_recipients:
        return 452, "4.5.3", f"Too many recipients: at most {tenant.max_recipients}"
    return None


def explain_failure(error: Exception) -> Trouble:
    """The sender hears that it should try again, and nothing about our insides."""
    if isinstance(error, StoreFull):
        return 452, "4.3.1", "Out of space, try again later"
    if isinstance(error, MemoryFull):
        return 452, "4.3.1", "Out of memory for messages, try again later"
    return 451, "4.3.0", "Cannot store the message now, try again later"


def _add_copy(draft: Draft, address: bytes) -> None:
    """One more recipient; about whom the sender gets no notices."""
    domain = find_domain(address)
    assert domain is not None  # checked with the configuration
    group = draft.recipients.setdefault(domain, [])
    if all(recipient.address != address for recipient in group):
        group.append(Recipient(address, notify=b"NEVER"))


def _split(case: _Case) -> list[Delivery]:
    """Make one delivery for each recipient domain."""
    draft, now = case.draft, time.time()
    return [
        Delivery(
            id=f"{draft.message_id}.{number}",
            tenant=case.tenant.name,
            pool=case.pool or case.tenant.pool,
            domain=domain,
            envelope=_make_envelope(case, people),
            size=draft.size,
            chunks=draft.parts or 1,
            accepted=now,
            home=draft.home,
            alone=len(draft.recipients) == 1,
            newline=draft.tail == b"\r\n",
            priority="" if draft.priority == "normal" else draft.priority,
            held=case.held,
        )
        for number, (domain, people) in enumerate(draft.recipients.items())
    ]


def _make_envelope(case: _Case, people: Sequence[Recipient]) -> Envelope:
    mail, tls = case.draft.mail, case.tls or case.draft.tls
    return Envelope(mail.sender, tuple(people), mail.body, mail.smtputf8, mail.ret, mail.envid, tls)


def _make_held_event(case: _Case, delivery: Delivery) -> bytes:
    """What `outgate explain` tells of a delivery that waits for an operator."""
    rule = case.decision.rule
    return encode_event(
        {
            "time": time.time(),
            "event": "held",
            "id": delivery.message_id,
            "delivery": delivery.id,
            "tenant": delivery.tenant,
            "who": f"rule {rule.name}" if rule is not None else "rules",
            "why": case.decision.reason,
        }
    )


def show(octets: bytes) -> str:
    """Return octets of a stranger for an event."""
    return octets.decode("utf-8", "replace")
