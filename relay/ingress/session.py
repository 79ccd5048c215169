"""One connection to the ingress: the SMTP core, a stream, and the queue behind them.

Where a message is, line by line: until ``accept`` returns, the sender has it (and parts of a large
one are in the store, without an owner, for an hour). When it returns, it is on disk in the store,
and only then does ``250`` go out. If the connection breaks between the two, the sender will send
it again: a duplicate that SMTP cannot avoid (RFC 1047), never a loss.
"""

import math
import time
from collections.abc import Awaitable, Callable

import trio

from relay.address import find_domain
from relay.config.schema import Tenant
from relay.counters import COUNTERS
from relay.errors import NetworkError, StoreError, StoreUnavailable
from relay.ingress.acceptance import Peer, exceeds, explain_failure
from relay.ingress.admission import Refusal
from relay.ingress.desk import Desk
from relay.ingress.draft import Draft
from relay.ingress.trace import MAX_HOPS, make_received
from relay.model import Recipient, make_message_id
from relay.net.patience import Patience
from relay.net.stream import Stream
from relay.smtp.command import Mail, Rcpt
from relay.smtp.server import (
    Aborted,
    Closed,
    Content,
    Data,
    EndOfMessage,
    ServerSession,
    StartTls,
)
from relay.store.keys import find_shard
from relay.store.queue import INLINE_OCTETS

_CLOSING = 2.0  # seconds for the last reply to leave


class Session:
    """Serves one connection until it ends.

    What a crowded process looks at when it has to choose who makes room: ``client``, ``is_idle``,
    ``idle_since``, ``proven``, ``begun`` and ``received``.
    """

    def __init__(self, stream: Stream, client: str, desk: Desk) -> None:
        self.client = client
        self.proven = False  # a message of it was accepted
        self.idle_since = trio.current_time()  # the end of its last transaction
        self._stream = stream
        self._desk = desk
        self._smtp = ServerSession(desk.settings)
        self._open: Draft | None = None
        self._deciding = False  # its message has come; whether it is accepted is ours to say
        self._displaced = False
        self._scope = trio.CancelScope()
        self._patience = Patience(self._scope.cancel)
        self._message_due = math.inf  # when it ends with this message
        self._tenants: set[str] = set()  # for whom it counts (tally.py)

    @property
    def is_idle(self) -> bool:
        """True between two transactions, the last reply given: nothing is lost by closing."""
        return self._open is None

    @property
    def begun(self) -> float:
        """Since when a transaction is open, trio time; now, when it is no more the sender's turn."""
        if self._open is None or self._deciding:
            return trio.current_time()
        return self._open.begun

    @property
    def received(self) -> int:
        """Octets of content since then."""
        return self._open.received if self._open is not None else 0

    def stop(self) -> None:
        """Close now if idle; otherwise the message is finished first."""
        if self.is_idle:
            self._scope.cancel()

    def displace(self) -> bool:
        """Make room for somebody else now; False when that cannot be: a message is being accepted."""
        if self._deciding:
            return False
        self._displaced = True
        self._scope.cancel()
        return True

    async def run(self) -> None:
        """Serve until the peer quits, misbehaves, falls silent, or the service stops."""
        try:
            with self._scope:
                await self._serve()
            if self._scope.cancelled_caught:
                await self._say_goodbye()
        except NetworkError:
            pass  # the peer went away; what it had not finished it will send again
        finally:
            self._close_draft()
            self._desk.acceptance.sessions.leave(self._tenants)
            self._patience.end()
            self._stream.close()

    async def _serve(self) -> None:
        smtp, stream = self._smtp, self._stream
        self._message_due = trio.current_time() + self._desk.config.ingress.message_timeout
        smtp.greet()
        while True:
            event = smtp.next_event()
            if event is not None:
                # One event is one call: the table keeps this loop short for what comes often.
                await _HANDLERS[type(event)](self, event)
                if type(event) is Closed:
                    await stream.send(smtp.data_to_send())
                    return
                continue
            if self._desk.door.stopping and self.is_idle:
                smtp.shut_down("Service going down, try again")
                await stream.send(smtp.data_to_send())
                return
            if replies := smtp.data_to_send():
                self._be_patient()
                await stream.send(replies)
            elif smtp.in_content:
                self._be_patient()
            # else half a command came: its other half does not get five minutes of its own.
            octets = await stream.receive()
            if not octets:
                return
            smtp.receive(octets)

    def _be_patient(self) -> None:
        """RFC 5321 §4.5.3.2: one limit for the reply to leave and the next octets to come.

        Each wait is bounded there, not their sum: a peer that sends an octet every three minutes would
        hold its connection for years, so there is one limit for a whole message, too.
        """
        if self._smtp.in_content:
            wait: float = self._desk.config.ingress.data_timeout
        else:
            wait = self._desk.door.find_patience(self)
        self._patience.allow(wait, at_most=self._message_due)

    async def _say_goodbye(self) -> None:
        if self._desk.door.stopping:
            text, status = "Service going down, try again", "4.3.2"
        elif self._displaced:
            text, status = "Too many connections, try again later", "4.3.2"
        else:
            text, status = "Timed out", "4.4.2"
        self._smtp.shut_down(text, status=status)
        with trio.move_on_after(_CLOSING):
            await self._stream.send(self._smtp.data_to_send())

    # -- the core's events --------------------------------------------------------------------

    async def _on_mail(self, mail: Mail) -> None:
        trouble = self._desk.door.find_trouble()
        if trouble is not None:
            COUNTERS.add("messages", ("", "postponed"))
            self._smtp.refuse(*trouble)
            return
        draft = Draft(mail, (), trio.current_time())
        candidates = self._find_candidates(mail)
        if isinstance(candidates, Refusal):
            self._begin_uninvited(draft, candidates)
            return
        draft.candidates = candidates
        if (domain := await self._find_null_mx(mail)) is not None:
            refusal = Refusal("Sender address has null MX", f"{domain} has a null MX")
            self._desk.acceptance.report_refusal(draft, self._peer, refusal)
            self._smtp.refuse(550, "5.7.27", refusal.text)  # RFC 7505 §4.2
            return
        if (trouble := self._find_excess(draft, mail.size)) is not None:
            self._desk.acceptance.report_trouble(draft, self._peer, trouble)
            self._smtp.refuse(*trouble)
            return
        self._open = draft
        self._smtp.accept()

    def _begin_uninvited(self, draft: Draft, refusal: Refusal) -> None:
        """Whoever may not send may report, where reports are taken; RCPT tells whether it is one."""
        if self._desk.mailbox.is_open:
            draft.refusal = refusal
            self._open = draft
            self._smtp.accept()
            return
        self._desk.acceptance.report_refusal(draft, self._peer, refusal)
        code, status = (451, "4.7.1") if refusal.temporary else (550, "5.7.1")
        self._smtp.refuse(code, status, refusal.text)

    def _find_candidates(self, mail: Mail) -> tuple[Tenant, ...] | Refusal:
        """Return whose message this may be, by network and MAIL FROM: one tenant.

        The null sender names nobody: all that could prove it at its end.
        """
        admission = self._desk.admission
        if not mail.sender and (near := admission.find_candidates(self.client)):
            return near
        found = admission.find_tenant(self.client, mail.sender)
        return found if isinstance(found, Refusal) else (found,)

    @staticmethod
    def _find_excess(draft: Draft, size: int, more: int = 0) -> tuple[int, str, str] | None:
        """Say early what would be too much for the tenant, when it is known."""
        if len(draft.candidates) != 1:
            return None
        return exceeds(draft.candidates[0], size, draft.count + more)

    async def _find_null_mx(self, mail: Mail) -> str | None:
        """Return the sender's domain if it says that it accepts no mail."""
        paths, domain = self._desk.return_paths, find_domain(mail.sender)
        if paths is None or domain is None or not await paths.is_null(domain):
            return None
        return domain

    async def _on_rcpt(self, rcpt: Rcpt) -> None:
        draft = self._draft
        address = rcpt.address
        if b"@" not in address:
            # RFC 5321 §4.5.1: <postmaster> without a domain is the postmaster of whoever asks.
            known = len(draft.candidates) == 1
            own = draft.candidates[0].domains[0] if known else self._desk.settings.hostname
            address += b"@" + own.encode("ascii")
        domain = find_domain(address)
        if domain is None:
            self._smtp.refuse(550, "5.1.2", "Not a domain that mail can be sent to")
            return
        if (trouble := self._find_obstacle(draft, domain)) is not None:
            self._smtp.refuse(*trouble)
            return
        recipient = Recipient(address, rcpt.notify, rcpt.orcpt)
        draft.recipients.setdefault(domain, []).append(recipient)
        self._smtp.accept()

    def _find_obstacle(self, draft: Draft, domain: str) -> tuple[int, str, str] | None:
        """Return why a recipient of this domain cannot be among the message's."""
        mailbox = self._desk.mailbox
        if mailbox.owns(domain):
            trouble = mailbox.find_obstacle(draft)
            draft.is_report = draft.is_report or trouble is None
            return trouble
        trouble = mailbox.keep_out(draft)
        if draft.refusal is not None and not draft.told:
            # Once: a thousand recipients in one transaction must not make a thousand lines.
            draft.told = True
            self._desk.acceptance.report_refusal(draft, self._peer, draft.refusal)
        return trouble or self._find_excess(draft, 0, 1)

    async def _on_data(self, _: Data) -> None:
        draft = self._draft
        home = find_shard(next(iter(draft.recipients)))
        message_id = make_message_id(home)
        draft.begin(message_id, home, self._make_received(draft, message_id))
        self._smtp.accept()

    async def _on_content(self, content: Content) -> None:
        draft = self._draft
        draft.add(content.octets)
        if draft.trouble is not None:
            return
        if not self._desk.door.reserve(len(content.octets)):
            draft.fail((452, "4.3.1", "Out of memory for messages, try again later"))
            self._release(draft)  # others have use for it before the end of this one has come
            return
        draft.reserved += len(content.octets)
        if draft.is_report:
            if (trouble := self._desk.mailbox.exceeds(draft.received)) is not None:
                draft.fail(trouble)
                self._release(draft)
        elif len(draft.body) > INLINE_OCTETS:
            await self._store_part(draft)

    async def _store_part(self, draft: Draft) -> None:
        """Let go of what has arrived of a large message: it waits in the store for its end."""
        self._patience.allow_until(math.inf)
        await draft.look(self._desk.acceptance.judge)
        if draft.trouble is None:
            try:
                await self._desk.store.store_part(
                    draft.home, draft.message_id, draft.parts, draft.body
                )
            except (StoreUnavailable, StoreError) as error:
                draft.fail(explain_failure(error))
        draft.parts += 1
        draft.body = b""
        # The head stays, and is there twice while a signature is verified.
        self._release(draft, all_but=2 * len(draft.head))
        self._be_patient()

    def _release(self, draft: Draft, *, all_but: int = 0) -> None:
        """Count memory of a message no more."""
        kept = min(all_but, draft.reserved)
        self._desk.door.release(draft.reserved - kept)
        draft.reserved = kept

    async def _on_end(self, _: EndOfMessage) -> None:
        draft = self._draft
        # From here on the deadline is the store's, the DNS', a scanner's: answering "timed out" would
        # not be true.
        self._patience.allow_until(math.inf)
        self._deciding = True
        began = time.perf_counter()
        try:
            trouble = await self._decide(draft)
            if trouble is not None:
                self._smtp.refuse(*trouble)
            else:
                if not draft.is_report:
                    self._count(time.perf_counter() - began)
                    # Anybody may send reports: who has is as much a stranger as before.
                    self.proven = True
                self._smtp.accept(draft.message_id)
        finally:
            # Only now: a session that stops while the store writes would take it for idle, and
            # tell the sender to send again what is being accepted.
            self._deciding = False
            self._close_draft()
        self._message_due = trio.current_time() + self._desk.config.ingress.message_timeout

    def _count(self, seconds: float) -> None:
        """A message was accepted; with the first, its session is one that counts."""
        COUNTERS.observe("accept_seconds", seconds)
        if not self.proven:
            version = self._stream.protocol.partition(" ")[0]
            level = "opportunistic" if version else "none"  # clients show us no certificates
            COUNTERS.add("tls_sessions", ("in", level, version))

    async def _decide(self, draft: Draft) -> tuple[int, str, str] | None:
        if draft.is_report:
            if draft.trouble is None:
                return await self._desk.mailbox.take(draft, self._peer)
            self._desk.acceptance.report_trouble(draft, self._peer, draft.trouble)
            return draft.trouble
        if draft.parts and draft.body:
            await self._store_part(draft)
            self._patience.allow_until(math.inf)
        elif not draft.parts and draft.trouble is None:
            await draft.look(self._desk.acceptance.judge)
        if draft.trouble is None and draft.hops > MAX_HOPS:
            draft.fail((554, "5.4.6", "Too many hops: this message is in a loop"))
        if draft.trouble is not None:
            self._desk.acceptance.report_trouble(draft, self._peer, draft.trouble)
            return draft.trouble
        return await self._desk.acceptance.take(draft, self._peer, self._tenants)

    def _close_draft(self) -> None:
        """No transaction is open any more."""
        draft, self._open = self._open, None
        if draft is not None:
            self._release(draft)
            self.idle_since = trio.current_time()

    async def _on_aborted(self, _: Aborted) -> None:
        self._close_draft()

    async def _on_start_tls(self, _: StartTls) -> None:
        assert self._desk.tls is not None
        if not self._desk.door.may_shake_hands(self.client):
            self._smtp.refuse(421, "4.7.0", "Too many TLS handshakes, try again later")
            return
        self._smtp.accept()
        self._be_patient()
        await self._stream.send(self._smtp.data_to_send())
        await self._stream.start_tls(self._desk.tls.context, server_side=True)
        self._smtp.tls_started()
        self._close_draft()

    async def _on_closed(self, _: Closed) -> None:
        self._close_draft()

    # -- making -------------------------------------------------------------------------------

    @property
    def _draft(self) -> Draft:
        assert self._open is not None
        return self._open

    @property
    def _peer(self) -> Peer:
        return Peer(self.client, self._smtp.hello, self._stream.protocol)

    def _make_received(self, draft: Draft, message_id: str) -> bytes:
        people = [r for group in draft.recipients.values() for r in group]
        tls = self._stream.protocol
        # RFC 3848 has no SMTPS: STARTTLS is an extension, whatever was said after it.
        protocol = "ESMTP" if self._smtp.extended or tls else "SMTP"
        if draft.mail.smtputf8:
            protocol = "UTF8SMTP"
        return make_received(
            hello=self._smtp.hello,
            client=self.client,
            hostname=self._desk.settings.hostname,
            message_id=message_id,
            protocol=protocol + "S" if tls else protocol,
            tls=tls,
            recipient=people[0].address if len(people) == 1 else None,
        )


_HANDLERS: dict[type, Callable[..., Awaitable[None]]] = {
    Mail: Session._on_mail,
    Rcpt: Session._on_rcpt,
    Data: Session._on_data,
    Content: Session._on_content,
    EndOfMessage: Session._on_end,
    Aborted: Session._on_aborted,
    StartTls: Session._on_start_tls,
    Closed: Session._on_closed,
}
