"""One session with a receiving host: connect, TLS, and message after message until it ends.

The SMTP is ``relay.smtp.client``'s; here are the socket, the clock and the store around it.

Where a message is, line by line: claimed by us in the store, from the first octet to the last.
Before the content goes out the store knows that the attempt is open; if we die after that,
``reclaim`` treats its outcome as unknown (RFC 1047: nobody can know), before that as not sent.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import trio

from relay.errors import (
    NetworkError,
    PeerClosed,
    PeerSilent,
    StoreError,
    StoreUnavailable,
    TlsFailed,
)
from relay.model import Claim, Outcome
from relay.net.patience import Patience
from relay.net.stream import Stream
from relay.net.tls import make_client_context
from relay.smtp.client import (
    ClientSession,
    Closed,
    Finished,
    LocalProtocolError,
    Ready,
    RecipientResult,
    Refused,
    RemoteProtocolError,
    SendContent,
    State,
    TlsGo,
)
from relay.store.link import Pending
from relay.store.queue import Store
from workers.classify import classify_reply
from workers.hosts import Host
from workers.tls.guard import Guard, TlsUntrusted
from workers.tls.pkix import Authorities
from workers.tls.proof import NOTHING, Proof, prove

# RFC 5321 §4.5.3.2: how long the answer to each command may take, s. The initial 220 and what is
# not named: five minutes.
_PATIENCE = {"DATA": 120.0, ".": 600.0, "BDAT": 600.0}
_COMMAND_PATIENCE = 300.0
_BLOCK_PATIENCE = 180.0  # §4.5.3.2.5: for a piece of content to be taken
_HANDSHAKE_PATIENCE = 60.0
_QUIT_PATIENCE = 2.0

NOT_OFFERED = "the host does not offer STARTTLS"


class HostFailed(Exception):
    """No session with this host: why, as an outcome for whoever was to be served.

    ``host`` and ``proof``: which one it was, and what there was of TLS, once the opener has said so.
    """

    host: Host | None = None
    proof: Proof = NOTHING

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one transaction brought: an outcome for each recipient, in order.

    ``unknown``: the connection ended between the final dot and its answer. ``stale``: a kept
    session had died before this message was begun, or the host would not hear MAIL.
    """

    outcomes: tuple[Outcome, ...]
    unknown: bool = False
    stale: bool = False


class ClaimLost(Exception):
    """The claim has passed to another worker: drop it, say nothing."""


class Peer:
    """An open session with one host, from one source. Belongs to one task."""

    def __init__(self, stream: Stream, host: Host, ehlo: str, *, site: str = "") -> None:
        """``site``: the name of the host's site, whose way of putting things is known."""
        self._stream = stream
        self._site = site
        self._smtp = ClientSession(ehlo.encode("ascii"))
        self.proof = NOTHING
        self._patience = Patience(self._lose_patience)
        self._is_late = False  # the host is, and the connection is closed for it
        self._dot_left = False  # the content of this message, to its end, is on its way
        self._once = False  # ... has an open attempt, and is not to be tried twice
        self.is_unwanted = False  # drop: nothing more is begun
        self.host = host
        self.sent = 0  # transactions so far

    @property
    def dsn(self) -> bool:
        """True when the host takes the parameters of RFC 3461 on."""
        return self._smtp.capabilities.dsn

    @property
    def requiretls(self) -> bool:
        """True when the host takes mail that must not go on without TLS (RFC 8689)."""
        return self._smtp.capabilities.requiretls

    @property
    def is_open(self) -> bool:
        """True while another message may be begun."""
        return self._smtp.can_begin and not self.is_unwanted

    @property
    def _is_unknown(self) -> bool:
        """True while nobody knows whether the message was taken.

        A write that failed, or did not come to its end, has kept the final dot here.
        """
        return self._smtp.content_sent and self._dot_left

    # -- opening ------------------------------------------------------------------------------

    async def open(self, guard: Guard, authorities: Authorities) -> None:
        """Get to where a message may be begun. Raises HostFailed, NetworkError."""
        try:
            await self._greet()
            if guard.level != "none":
                if self._smtp.capabilities.starttls:
                    await self._start_tls(guard, authorities)
                elif guard.demands_tls:
                    raise TlsUntrusted("starttls-not-supported", NOT_OFFERED)
            self._patience.allow_until(math.inf)  # it is our turn
        except NetworkError:
            if not self._is_late:
                raise
            if self._smtp.state is State.TLS:
                raise TlsFailed("the TLS handshake does not come to an end") from None
            text = f"no answer to {self._smtp.awaiting or 'TLS'}: timed out"
            raise PeerSilent(text) from None

    def _lose_patience(self) -> None:
        """The host has had its time: whoever waits for it finds the connection closed."""
        self._is_late = True
        self._stream.close()

    async def _greet(self) -> None:
        """Wait for greeting and EHLO."""
        try:
            event = await self._next_event()
        except RemoteProtocolError as error:
            outcome = classify_reply("CONNECT", 0, "", f"the host talks nonsense: {error}")
            raise HostFailed(outcome) from error
        if isinstance(event, Refused):
            reply = event.reply
            raise HostFailed(
                classify_reply(
                    event.command, reply.code, reply.status, reply.text, provider=self._site
                )
            )
        if not isinstance(event, Ready):
            raise PeerClosed("the host closed the connection before it was ready")

    async def _start_tls(self, guard: Guard, authorities: Authorities) -> None:
        """Upgrade, and hold the certificates against the guard.

        Raises TlsFailed when the host will not or cannot, TlsUntrusted when it is not who it should
        be: nothing of a message has been said to it then.
        """
        self._smtp.start_tls()
        try:
            event = await self._next_event()
            if not isinstance(event, TlsGo):
                raise TlsFailed("the host offers STARTTLS and refuses it")
            self._patience.allow(_HANDSHAKE_PATIENCE)
            names = guard.names or (self.host.name,)
            # The certificates are looked at afterwards, by us: with DANE it is not authorities who
            # vouch for them, and without a demand we want to know all the same.
            context = make_client_context(verify=False)
            await self._stream.start_tls(context, server_hostname=names[0])
        except (PeerClosed, RemoteProtocolError) as error:
            raise TlsFailed(f"TLS handshake failed: {error}") from error
        self.proof = prove(self._stream, guard, names, authorities)
        if self.proof.failing and guard.level == "verify":
            raise TlsUntrusted(self.proof.failing, self.proof.text)
        self._smtp.tls_started()
        await self._greet()

    async def _next_event(self) -> object:
        """Return the core's next event; reads and writes as needed. Raises NetworkError."""
        smtp, stream = self._smtp, self._stream
        heard = True
        while True:
            event = smtp.next_event()
            out = smtp.data_to_send()
            if event is not None and not out:
                return event
            if out or heard:
                self._patience.allow(_PATIENCE.get(smtp.awaiting, _COMMAND_PATIENCE))
            if out:
                await stream.send(out)
            if event is not None:
                return event
            octets = await stream.receive()
            # Only a whole line buys more time (of a reply's lines there is a limit): otherwise an
            # octet every few minutes would keep a session for days.
            heard = b"\n" in octets
            if octets:
                smtp.receive(octets)
            else:
                smtp.receive_eof()

    # -- a message ----------------------------------------------------------------------------

    async def deliver(
        self, claim: Claim, store: Store, attempt: bytes, *, early: bool = True
    ) -> Verdict:
        """Send a message; ``attempt`` is the event that opens the attempt in the store.

        ``early``: it may be opened there before the final dot is due, which saves time; not for
        those who would lose or hold the message for it if we died in between.

        Never raises for what the peer does. Raises ClaimLost; StoreUnavailable when the message
        could not be read, or ``drop`` cut it off (its end was not sent then).
        """
        self._dot_left = self._once = False
        self.sent += 1
        try:
            results = await self._transact(claim, store, attempt, early=early)
            # Still True when the peer closed in good order instead of answering the dot.
            return _judge(results, unknown=self._is_unknown, site=self._site)
        except RemoteProtocolError as error:
            reason = f"the host talks nonsense: {error}"
        except (PeerClosed, PeerSilent) as error:
            reason = "the host took too long to answer" if self._is_late else str(error)
        except (ClaimLost, StoreUnavailable, StoreError):
            self._smtp.abandon("")
            raise
        finally:
            unknown = self._is_unknown
            self._dot_left = self._once = False
            self._patience.allow_until(math.inf)  # it is our turn
            if self.is_unwanted:  # what ``drop`` has left to us
                self._stream.close()
        results = self._smtp.abandon(reason)
        if self.is_unwanted and not unknown:
            # Neither the host's doing nor the message's: no attempt.
            raise StoreUnavailable(
                "the store has not confirmed the lease of the connection in time", executed=False
            )
        return _judge(results, unknown=unknown, site=self._site)

    async def _transact(
        self, claim: Claim, store: Store, attempt: bytes, *, early: bool
    ) -> tuple[RecipientResult, ...]:
        delivery = claim.delivery
        self._smtp.begin(delivery.envelope, delivery.size, final_newline=delivery.newline)
        # On its way while the peer looks at the envelope: its round trip costs no time.
        recorded = store.record_attempt(claim, attempt) if early else None
        part = 0
        while True:
            event = await self._next_event()
            if isinstance(event, SendContent):
                part = await self._send_content(claim, store, attempt, recorded, part)
            elif isinstance(event, Finished):
                return event.results
            elif isinstance(event, Closed):
                raise PeerClosed("the host closed the connection")

    async def _send_content(
        self, claim: Claim, store: Store, attempt: bytes, recorded: Pending | None, part: int
    ) -> int:
        """Send parts of the message from ``part`` on, as many as the peer takes now."""
        chunks = claim.delivery.chunks
        while part < chunks and self._smtp.takes_content:
            octets = claim.body
            if octets is None:
                self._patience.allow_until(math.inf)  # the store has patience of its own
                octets = await store.read_part(claim.delivery, part)
            if octets is None:
                raise StoreError(f"part {part} of the message is not in the store any more")
            part += 1
            if part == chunks:  # the final dot goes with it
                self._once = recorded is None
                recorded = recorded or store.record_attempt(claim, attempt)
                self._patience.allow_until(math.inf)
                if not await recorded.wait():
                    raise ClaimLost(claim.delivery.id)
            self._patience.allow(_BLOCK_PATIENCE)
            await self._stream.send(self._smtp.content(octets, part == chunks))
        self._dot_left = part == chunks
        return part

    # -- the end ------------------------------------------------------------------------------

    async def quit(self) -> None:
        """Say QUIT and close; waits a moment for the answer, as politeness asks."""
        try:
            with trio.move_on_after(_QUIT_PATIENCE):
                self._smtp.quit()
                await self._next_event()
        except (NetworkError, RemoteProtocolError, LocalProtocolError):
            pass  # it was over anyway
        finally:
            self.close()

    def drop(self) -> None:
        """Close as soon as that costs no message: our lease of the connection may be another's.

        Mostly now; after its answer where a message may be taken already, or is to be counted as
        taken (berth.py has the table). From another task: whoever waits here finds it closed.
        """
        self.is_unwanted = True
        if self._is_unknown or self._once:
            return
        if self._smtp.can_begin:
            self._stream.close()
        else:  # what is on its way belongs to a message that is given up
            self._stream.abort()

    def close(self) -> None:
        """Close at once."""
        self._patience.end()
        self._stream.close()


def _judge(results: Iterable[RecipientResult], *, unknown: bool = False, site: str = "") -> Verdict:
    results = tuple(results)
    return Verdict(
        tuple(
            _judge_local(result)
            if result.local
            else classify_reply(
                result.command,
                result.reply.code,
                result.reply.status,
                result.reply.text,
                temporary=result.temporary,
                provider=site,
            )
            for result in results
        ),
        unknown=unknown,
        stale=all(
            result.command == "MAIL"
            and ((result.local and result.temporary) or result.reply.code == 421)
            for result in results
        ),
    )


def _judge_local(result: RecipientResult) -> Outcome:
    """What we found out ourselves was not said by the host.

    No code that a notice could quote, and nothing that could be held against anybody.
    """
    reply = result.reply
    judged = classify_reply(
        result.command, reply.code, reply.status, reply.text, temporary=result.temporary
    )
    return msgspec.structs.replace(judged, code=0, label="", action="", rest=0.0)
