"""A lane: what goes from one source to one host group, and the sessions that carry it.

Sessions are kept and reused: connecting, TLS and EHLO cost more than a message. A session task
takes the next claim, sends it, and ends it; without work it waits a moment and says QUIT. As many
sessions are open as there is work, up to the site's limit.
"""

import logging
import math
from collections import deque
from collections.abc import Callable

import trio

from relay.config.schema import Delivery as DeliverySettings
from relay.config.schema import Source
from relay.errors import SourceUnusable, StoreError, StoreUnavailable
from relay.model import Blame, Claim, Disposition, Outcome
from relay.smtp.client import LocalProtocolError
from relay.store.queue import Store
from workers.ending import Attempt, Ending
from workers.peer import ClaimLost, HostFailed, Peer, Verdict, open_peer
from workers.route import Path

# Waits before another try when our own side is the trouble, s: the store does not answer; a
# message in it is damaged, or a fault in this program.
_OWN_TROUBLE = 5.0
OUR_FAULT = 300.0
# A host that refuses one session more than it has is asked for more again after this long, s.
_CEILING = 60.0

_log = logging.getLogger("outgate.worker")


class Lane:
    """One source, one host group. ``put`` claims in; they end by themselves.

    ``done`` is called when a claim has ended; ``misplaced`` when the source cannot be used, with
    claims that are still ours and need another one.
    """

    def __init__(
        self,
        source: Source,
        path: Path,
        *,
        settings: DeliverySettings,
        store: Store,
        ending: Ending,
        nursery: trio.Nursery,
        done: Callable[[Claim], None],
        misplaced: Callable[[Source, list[Claim], SourceUnusable], None],
    ) -> None:
        self.source = source
        self.path = path
        self._settings = settings
        self._store = store
        self._ending = ending
        self._nursery = nursery
        self._done = done
        self._misplaced = misplaced
        self._waiting: deque[Claim] = deque()
        self._parked = trio.lowlevel.ParkingLot()  # sessions without work
        self._sessions = 0  # session tasks
        self._connected = 0  # ... of them with a session
        self._ceiling = math.inf  # sessions that the host seems to allow
        self._ceiling_ends = -math.inf  # trio time when more are tried again
        self._stopping = False

    def __repr__(self) -> str:
        return (
            f"<Lane {self.source.name} -> {self.path.site}: {len(self._waiting)} waiting, "
            f"{self._sessions} sessions, {len(self._parked)} idle>"
        )

    @property
    def is_idle(self) -> bool:
        """True when nothing waits and no session is open."""
        return not self._sessions and not self._waiting

    def put(self, claim: Claim) -> None:
        """Take a claim; it will be ended here, or misplaced."""
        self._waiting.append(claim)
        if self._parked:
            self._parked.unpark()
        elif self._sessions < self.path.connections and not self._is_at_ceiling():
            self._sessions += 1
            self._nursery.start_soon(self._run_session)

    def _is_at_ceiling(self) -> bool:
        return self._sessions >= self._ceiling and trio.current_time() < self._ceiling_ends

    def stop(self) -> list[Claim]:
        """Begin no more messages; return the claims that were not begun."""
        self._stopping = True
        left = list(self._waiting)
        self._waiting.clear()
        self._parked.unpark_all()
        return left

    # -- a session ----------------------------------------------------------------------------

    async def _run_session(self) -> None:
        try:
            while (claim := await self._next_claim()) is not None:
                if not await self._serve(claim):
                    return
        finally:
            self._sessions -= 1

    async def _next_claim(self) -> Claim | None:
        """Return the next claim; None when there is none for as long as sessions are kept."""
        if not self._waiting and not self._stopping:
            with trio.move_on_after(self._settings.idle):
                await self._parked.park()
        return self._waiting.popleft() if self._waiting else None

    async def _serve(self, claim: Claim) -> bool:
        """Open a session for this claim; use it for what follows, as long as it is good.

        Returns False when this session task is one too many.
        """
        try:
            peer = await self._open()
        except SourceUnusable as error:
            self._give_up_source(claim, error)
            return True
        except HostFailed as error:
            if self._connected:
                self._respect_ceiling(claim, error)
                return False
            await self._fail(claim, error.outcome)
            return True
        except Exception:
            await self._excuse(claim)
            return True
        self._connected += 1
        try:
            following: Claim | None = claim
            while following is not None and await self._carry(following, peer):
                if not peer.is_open or peer.sent >= self.path.messages_per_connection:
                    break
                following = await self._next_claim()
        finally:
            self._connected -= 1
            with trio.CancelScope(shield=True):  # bounded: see Peer.quit
                await peer.quit()
        return True

    def _respect_ceiling(self, claim: Claim, error: HostFailed) -> None:
        """Others get through: the host wants no further session, which is no word on the message.

        Those that are open take it; when the last of them ends, its task finds what still waits.
        """
        self._ceiling = self._connected
        self._ceiling_ends = trio.current_time() + _CEILING
        self._waiting.appendleft(claim)
        _log.info("%s takes no more than %d sessions: %s", self.path.site, self._ceiling, error)

    async def _carry(self, claim: Claim, peer: Peer) -> bool:
        """Send one message and end its claim; False when the session is over."""
        try:
            verdict, attempt = await self._deliver(claim, peer)
            if verdict.stale and peer.sent > 1:
                # The host has closed the kept session: that says nothing about this message.
                self._waiting.appendleft(claim)
                return False
            await self._ending.end(claim, verdict.outcomes, attempt, unknown=verdict.unknown)
        except ClaimLost:
            _log.warning("%s: the claim has passed to another worker", claim.delivery.id)
        except StoreUnavailable as error:
            _log.warning("%s: %s", claim.delivery.id, error)
            await self._put_off(claim, _OWN_TROUBLE)
        except LocalProtocolError as error:
            await self._refuse(claim, str(error))
            return True
        except Exception:
            await self._excuse(claim)
            peer.close()
            return False
        self._done(claim)
        return peer.is_open

    async def _excuse(self, claim: Claim) -> None:
        """A fault of ours. The message stays in the queue, and the others are not held up."""
        _log.exception("%s: delivery failed; trying again later", claim.delivery.id)
        await self._put_off(claim, OUR_FAULT)
        self._done(claim)

    async def _put_off(self, claim: Claim, wait: float) -> None:
        try:
            await self._ending.give_back(claim, wait=wait)
        except StoreError as error:
            # Its lease ends, and ``reclaim`` tries. One broken record must not stop a worker.
            _log.error("%s: cannot be put off: %s", claim.delivery.id, error)

    async def _open(self) -> Peer:
        return await open_peer(
            self.path, self.source.address, self.source.ehlo, ca_file=self._settings.ca_file
        )

    async def _deliver(self, claim: Claim, peer: Peer) -> tuple[Verdict, Attempt]:
        host = peer.host
        attempt = Attempt(self.source.name, host.name, f"{host.address}:{host.port}", peer.tls)
        event = self._ending.make_attempt_event(claim, attempt)
        early = self._settings.unknown_outcome == "retry"
        return await peer.deliver(claim, self._store, event, early=early), attempt

    # -- ends ---------------------------------------------------------------------------------

    async def _fail(self, claim: Claim, outcome: Outcome) -> None:
        """No host would have us, and nobody else gets through: that is the answer for all.

        Trying each of those that wait on its own would hold workers for as long as the site is
        down.
        """
        claims = [claim, *self._waiting]
        self._waiting.clear()
        attempt = Attempt(self.source.name, self.path.hosts[-1].name)
        async with trio.open_nursery() as nursery:
            for failed in claims:
                nursery.start_soon(self._fail_one, failed, outcome, attempt)

    async def _fail_one(self, claim: Claim, outcome: Outcome, attempt: Attempt) -> None:
        outcomes = [outcome] * len(claim.delivery.envelope.recipients)
        try:
            await self._ending.end(claim, outcomes, attempt, host_failed=True)
        except Exception:
            await self._excuse(claim)
        else:
            self._done(claim)

    async def _refuse(self, claim: Claim, text: str) -> None:
        """The envelope holds what must not be said to a host; no other host changes that."""
        outcome = Outcome(
            Disposition.BOUNCED, Blame.MESSAGE, status="5.6.0", text=f"cannot be sent: {text}"
        )
        await self._fail_one(claim, outcome, Attempt(self.source.name))

    def _give_up_source(self, claim: Claim, error: SourceUnusable) -> None:
        claims = [claim, *self._waiting]
        self._waiting.clear()
        self._misplaced(self.source, claims, error)
