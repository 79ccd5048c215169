"""One connection to the ingress: the SMTP core, a stream, and the queue behind them.

Where a message is, line by line: until ``accept`` returns, the sender has it (and parts of a large
one are in the store, without an owner, for an hour). When it returns, it is on disk in the store,
and only then does ``250`` go out. If the connection breaks between the two, the sender will send
it again: a duplicate that SMTP cannot avoid (RFC 1047), never a loss.
"""

import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from relay.address import find_domain
from relay.config.schema import Config, Priority, Tenant
from relay.errors import NetworkError, StoreError, StoreFull, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.ingress.admission import Admission, Refusal
from relay.ingress.demand import Demand, find_demand
from relay.ingress.head import cut_head
from relay.ingress.priority import find_priority
from relay.ingress.returnpath import ReturnPaths
from relay.ingress.secret import remove_header
from relay.ingress.trace import MAX_HOPS, count_hops, make_received
from relay.model import Delivery, Envelope, Recipient, make_message_id
from relay.net.certificates import Certificates
from relay.net.stream import Stream
from relay.smtp.command import Mail, Rcpt
from relay.smtp.server import (
    Aborted,
    Closed,
    Content,
    Data,
    EndOfMessage,
    ServerSession,
    ServerSettings,
    StartTls,
)
from relay.store.keys import find_shard
from relay.store.queue import INLINE_OCTETS, Store, StoreLostBody

_SLACK = 1.0  # seconds by which a deadline may be off
_CLOSING = 2.0  # seconds for the last reply to leave
# Seconds from one message to the next, or from the start to the first. RFC 5321 §4.5.3.2 bounds
# each wait, not their sum: a peer that sends an octet every three minutes would hold its
# connection for years. The largest message that we take passes in an hour at 15 KiB/s. It is also
# the lifetime of parts in the store that belong to no message yet (relay/store/queue.py).
_MESSAGE_TIME = 3600.0


class Door(Protocol):
    """What a session asks its service before it takes a message."""

    stopping: bool

    def find_trouble(self) -> tuple[int, str, str] | None:
        """Return the reply that turns every message away just now, None when all is well."""


@dataclass(frozen=True)
class Desk:
    """What all sessions of a process share."""

    config: Config
    settings: ServerSettings
    admission: Admission
    store: Store
    events: EventLog
    tls: Certificates | None
    door: Door
    secrets: Mapping[str, re.Pattern[bytes]] = field(default_factory=dict)  # by tenant's name
    return_paths: ReturnPaths | None = None


@dataclass(slots=True)
class _Transaction:
    """A message on its way in."""

    mail: Mail
    tenant: Tenant
    recipients: dict[str, list[Recipient]] = field(default_factory=dict)  # by domain
    message_id: str = ""
    home: int = 0
    size: int = 0
    parts: int = 0  # stored already
    body: bytes = b""  # not stored yet
    hops: int = 0
    priority: Priority = "normal"
    tls: Demand = ""
    tail: bytes = b"\r\n"  # the last two octets so far
    trouble: tuple[int, str, str] | None = None  # the reply that awaits its end


class Session:
    """Serves one connection until it ends."""

    def __init__(self, stream: Stream, client: str, desk: Desk) -> None:
        self._stream = stream
        self._client = client
        self._desk = desk
        self._smtp = ServerSession(desk.settings)
        self._open: _Transaction | None = None
        self._scope = trio.CancelScope()
        self._message_due = math.inf  # when patience with this session ends

    @property
    def is_idle(self) -> bool:
        """True between two transactions, the last reply given: nothing is lost by closing."""
        return self._open is None

    def stop(self) -> None:
        """Close now if idle; otherwise the message is finished first."""
        if self.is_idle:
            self._scope.cancel()

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
            self._stream.close()

    async def _serve(self) -> None:
        smtp, stream = self._smtp, self._stream
        self._message_due = trio.current_time() + _MESSAGE_TIME
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
                self._set_deadline()
                await stream.send(replies)
            elif smtp.in_content:
                self._set_deadline()
            # else half a command came: its other half does not get five minutes of its own.
            octets = await stream.receive()
            if not octets:
                return
            smtp.receive(octets)

    def _set_deadline(self) -> None:
        """RFC 5321 §4.5.3.2: one deadline for the reply to leave and the next octets to come."""
        ingress = self._desk.config.ingress
        wait = ingress.data_timeout if self._smtp.in_content else ingress.command_timeout
        due = min(trio.current_time() + wait, self._message_due)
        # Moving a deadline costs as much as reading a command; a second more or less is no matter.
        if not -_SLACK < self._scope.deadline - due < _SLACK:
            self._scope.deadline = due

    async def _say_goodbye(self) -> None:
        stopping = self._desk.door.stopping
        self._smtp.shut_down(
            "Service going down, try again" if stopping else "Timed out",
            status="4.3.2" if stopping else "4.4.2",
        )
        with trio.move_on_after(_CLOSING):
            await self._stream.send(self._smtp.data_to_send())

    # -- the core's events --------------------------------------------------------------------

    async def _on_mail(self, mail: Mail) -> None:
        trouble = self._desk.door.find_trouble()
        if trouble is not None:
            self._smtp.refuse(*trouble)
            return
        tenant = self._desk.admission.find_tenant(self._client, mail.sender)
        if isinstance(tenant, Refusal):
            self._report_refusal(mail, tenant)
            self._smtp.refuse(550, "5.7.1", tenant.text)
            return
        if (domain := await self._find_null_mx(mail)) is not None:
            refusal = Refusal("Sender address has null MX", f"{domain} has a null MX")
            self._report_refusal(mail, refusal)
            self._smtp.refuse(550, "5.7.27", refusal.text)  # RFC 7505 §4.2
            return
        self._open = _Transaction(mail, tenant)
        self._smtp.accept()

    async def _find_null_mx(self, mail: Mail) -> str | None:
        """Return the sender's domain if it says that it accepts no mail."""
        paths, domain = self._desk.return_paths, find_domain(mail.sender)
        if paths is None or domain is None or not await paths.is_null(domain):
            return None
        return domain

    async def _on_rcpt(self, rcpt: Rcpt) -> None:
        tx = self._transaction
        address = rcpt.address
        if b"@" not in address:
            # RFC 5321 §4.5.1: <postmaster> without a domain is the postmaster of whoever asks.
            address += b"@" + tx.tenant.domains[0].encode("ascii")
        domain = find_domain(address)
        if domain is None:
            self._smtp.refuse(550, "5.1.2", "Not a domain that mail can be sent to")
            return
        recipient = Recipient(address, rcpt.notify, rcpt.orcpt)
        tx.recipients.setdefault(domain, []).append(recipient)
        self._smtp.accept()

    async def _on_data(self, _: Data) -> None:
        tx = self._transaction
        tx.home = find_shard(next(iter(tx.recipients)))
        tx.message_id = make_message_id(tx.home)
        tx.body = self._make_received(tx)
        tx.size = len(tx.body)
        self._smtp.accept()

    async def _on_content(self, content: Content) -> None:
        tx = self._transaction
        tx.size += len(content.octets)
        tx.body += content.octets
        tx.tail = (tx.tail + content.octets[-2:])[-2:]
        if tx.trouble is not None:
            tx.body = b""
        elif len(tx.body) > INLINE_OCTETS:
            await self._store_part(tx)

    async def _store_part(self, tx: _Transaction) -> None:
        """Let go of what has arrived of a large message: it waits in the store for its end."""
        self._scope.deadline = math.inf
        if not tx.parts:
            self._read_head(tx)
        try:
            await self._desk.store.store_part(tx.home, tx.message_id, tx.parts, tx.body)
        except (StoreUnavailable, StoreError) as error:
            tx.trouble = self._explain_failure(error)
        tx.parts += 1
        tx.body = b""
        self._set_deadline()

    def _read_head(self, tx: _Transaction) -> None:
        """Look at the beginning of a message.

        It shows a loop's hops, how urgent the message is, what it asks of TLS, and a header that
        must not go out.
        """
        head = cut_head(tx.body)
        tx.hops = count_hops(head)
        tx.tls = find_demand(tx.body, head, requiretls=tx.mail.requiretls)
        tx.priority = find_priority(tx.tenant, tx.mail.sender, tx.body)
        pattern = self._desk.secrets.get(tx.tenant.name)
        if pattern is not None:
            before = len(tx.body)
            tx.body = remove_header(tx.body, pattern)
            tx.size -= before - len(tx.body)

    async def _on_end(self, _: EndOfMessage) -> None:
        tx = self._transaction
        try:
            if tx.parts and tx.body:
                await self._store_part(tx)
            elif not tx.parts:
                self._read_head(tx)
            if tx.trouble is None and tx.hops > MAX_HOPS:
                tx.trouble = (554, "5.4.6", "Too many hops: this message is in a loop")
            if tx.trouble is not None:
                self._smtp.refuse(*tx.trouble)
            else:
                await self._accept(tx)
        finally:
            # Only now: a session that stops while the store writes would take it for idle, and
            # tell the sender to send again what is being accepted.
            self._open = None
        self._message_due = trio.current_time() + _MESSAGE_TIME

    async def _accept(self, tx: _Transaction) -> None:
        # From here on the deadline is the store's: answering "timed out" would not be true.
        self._scope.deadline = math.inf
        deliveries = _split(tx)
        event = self._make_event(tx)
        try:
            await self._desk.store.accept(deliveries, event, tx.body)
        except (StoreUnavailable, StoreError, StoreLostBody) as error:
            self._smtp.refuse(*self._explain_failure(error))
        else:
            self._desk.events.write(event)
            self._smtp.accept(tx.message_id)

    async def _on_aborted(self, _: Aborted) -> None:
        self._open = None

    async def _on_start_tls(self, _: StartTls) -> None:
        assert self._desk.tls is not None
        self._set_deadline()
        await self._stream.send(self._smtp.data_to_send())
        await self._stream.start_tls(self._desk.tls.context, server_side=True)
        self._smtp.tls_started()
        self._open = None

    async def _on_closed(self, _: Closed) -> None:
        self._open = None

    # -- making -------------------------------------------------------------------------------

    @property
    def _transaction(self) -> _Transaction:
        assert self._open is not None
        return self._open

    def _make_received(self, tx: _Transaction) -> bytes:
        people = [r for group in tx.recipients.values() for r in group]
        tls = self._stream.protocol
        # RFC 3848 has no SMTPS: STARTTLS is an extension, whatever was said after it.
        protocol = "ESMTP" if self._smtp.extended or tls else "SMTP"
        if tx.mail.smtputf8:
            protocol = "UTF8SMTP"
        return make_received(
            hello=self._smtp.hello,
            client=self._client,
            hostname=self._desk.settings.hostname,
            message_id=tx.message_id,
            protocol=protocol + "S" if tls else protocol,
            tls=tls,
            recipient=people[0].address if len(people) == 1 else None,
        )

    def _make_event(self, tx: _Transaction) -> bytes:
        return encode_event(
            {
                "time": time.time(),
                "event": "accepted",
                "id": tx.message_id,
                "tenant": tx.tenant.name,
                "sender": _show(tx.mail.sender),
                "recipients": [_show(r.address) for group in tx.recipients.values() for r in group],
                "size": tx.size,
                "client": self._client,
                "hello": _show(self._smtp.hello),
                "tls": self._stream.protocol,
            }
        )

    def _report_refusal(self, mail: Mail, refusal: Refusal) -> None:
        self._desk.events.write(
            encode_event(
                {
                    "time": time.time(),
                    "event": "refused",
                    "client": self._client,
                    "hello": _show(self._smtp.hello),
                    "sender": _show(mail.sender),
                    "reason": refusal.reason,
                }
            )
        )

    @staticmethod
    def _explain_failure(error: Exception) -> tuple[int, str, str]:
        """The sender hears that it should try again, and nothing about our insides."""
        if isinstance(error, StoreFull):
            return 452, "4.3.1", "Out of space, try again later"
        return 451, "4.3.0", "Cannot store the message now, try again later"


def _split(tx: _Transaction) -> list[Delivery]:
    """Make one delivery for each recipient domain."""
    mail = tx.mail
    now = time.time()
    return [
        Delivery(
            id=f"{tx.message_id}.{number}",
            tenant=tx.tenant.name,
            pool=tx.tenant.pool,
            domain=domain,
            envelope=Envelope(
                mail.sender,
                tuple(people),
                mail.body,
                mail.smtputf8,
                mail.ret,
                mail.envid,
                tx.tls,
            ),
            size=tx.size,
            chunks=tx.parts or 1,
            accepted=now,
            home=tx.home,
            alone=len(tx.recipients) == 1,
            newline=tx.tail == b"\r\n",
            priority="" if tx.priority == "normal" else tx.priority,
        )
        for number, (domain, people) in enumerate(tx.recipients.items())
    ]


def _show(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


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
