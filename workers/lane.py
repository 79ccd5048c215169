"""A lane: what goes from one source to one host group, and the sessions that carry it.

Sessions are kept and reused: connecting, TLS and EHLO cost more than a message. A session task
leases a connection at the site's gate, takes the next claim, sends it, and ends it; without work it
waits a moment and says QUIT. As many sessions are open as there is work, up to what the host group
has earned (berth.py) and the gate allows.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import trio

from relay.config.schema import Source
from relay.counters import COUNTERS
from relay.errors import SourceUnusable, StoreError, StoreUnavailable
from relay.model import Claim, Disposition, Outcome
from relay.net.patience import Patience
from relay.smtp.client import LocalProtocolError
from workers.attempt import Attempt
from workers.berth import DEPTH, Berth
from workers.desk import Desk
from workers.peer import ClaimLost, HostFailed, Peer, Verdict
from workers.rest import Rest
from workers.route import Path

# Waits before another try when our own side is the trouble, s: the store does not answer; a
# message in it is damaged, or a fault in this program.
_OWN_TROUBLE = 5.0
OUR_FAULT = 300.0
# A host that refuses one session more than it has is asked for more again after this long, s.
_CEILING = 60.0
# Where connections are counted, others may wait for the one that we have just closed, s.
_AFTER_YOU = 0.1
# Where connections are counted, an idle one may be what another source waits for, s.
_SHORT_IDLE = 1.0

# A source that was put off is silent for this long, until the store has said for how long, s.
_MOMENT = 1.0

_log = logging.getLogger("outgate.worker")


class Lane:
    """One source, one host group. ``put`` claims in; they end by themselves.

    ``spawn`` runs a task; ``done`` is called when a claim has ended, ``misplaced`` with claims that
    are still ours and cannot go this way just now.
    """

    def __init__(
        self,
        source: Source,
        path: Path,
        berth: Berth,
        *,
        desk: Desk,
        spawn: Callable[..., None],
        done: Callable[[Claim], None],
        misplaced: Callable[[Sequence[Claim], float], None],
    ) -> None:
        self.source = source
        self.path = path
        self.rest = Rest(path, berth, desk.events)
        self._berth = berth
        self._desk = desk
        self._settings = desk.config.delivery
        self._spawn = spawn
        self._done = done
        self._misplaced = misplaced
        self._waiting: deque[Claim] = deque()
        self._parked = trio.lowlevel.ParkingLot()  # sessions without work
        self._sessions = 0  # session tasks
        self._connected = 0  # ... of them with a session
        self._held = 0  # claims here, waiting or being sent
        self._ceiling = math.inf  # sessions that the host seems to allow
        self._ceiling_ends = -math.inf  # trio time when more are tried again
        self._stopping = False
        self._window = 1

    def __repr__(self) -> str:
        return (
            f"<Lane {self.source.name} -> {self.path.site}: {len(self._waiting)} waiting, "
            f"{self._sessions} sessions, {len(self._parked)} idle>"
        )

    @property
    def is_idle(self) -> bool:
        """True when nothing waits and no session is open."""
        return not self._sessions and not self._waiting

    @property
    def connected(self) -> int:
        """How many sessions are open."""
        return self._connected

    @property
    def has_room(self) -> bool:
        """True when another claim would be begun soon."""
        return self._held < self._window * DEPTH

    def put(self, claim: Claim) -> None:
        """Take a claim; it will be ended here, or misplaced."""
        if self._is_closed():
            self._misplaced([claim], 0.0)  # claimed before we heard
            return
        self._held += 1
        self._waiting.append(claim)
        if self._parked:
            self._parked.unpark()
        else:
            self._add_session()

    def _add_session(self) -> None:
        most = min(self._window, self._berth.most)
        if self._sessions < most and not self._is_at_ceiling():
            self._sessions += 1
            self._spawn(self._run_session)

    def _is_closed(self) -> bool:
        return self._desk.is_closed(self.source.name, self.path.site)

    def _is_at_ceiling(self) -> bool:
        return self._sessions >= self._ceiling and trio.current_time() < self._ceiling_ends

    def stop(self) -> list[Claim]:
        """Begin no more messages; return the claims that were not begun."""
        self._stopping = True
        left = self._take_waiting()
        self._parked.unpark_all()
        return left

    def hold_back(self, tenant: str = "") -> None:
        """The source has to be silent here, or a tenant: what was not begun goes back."""
        if not tenant:
            self._hand_back([], 0.0)
        else:
            self._give_up([c for c in self._waiting if c.delivery.tenant == tenant])

    def _give_up(self, claims: Sequence[Claim]) -> None:
        """Claims that wait here go back."""
        for claim in claims:
            self._waiting.remove(claim)
        if claims:
            self._held -= len(claims)
            self._misplaced(claims, 0.0)

    def _take_waiting(self) -> list[Claim]:
        left = list(self._waiting)
        self._waiting.clear()
        self._held -= len(left)
        return left

    def _end(self, claim: Claim) -> None:
        self._held -= 1
        self._done(claim)

    # -- a session ----------------------------------------------------------------------------

    async def _run_session(self) -> None:
        try:
            while (claim := await self._next_claim()) is not None:
                connection = await self._moor(claim)
                if connection is None:
                    return
                try:
                    if not await self._serve(claim, connection):
                        return
                finally:
                    self._berth.leave(connection)
                if self._berth.terms.connections is not None:
                    await trio.sleep(_AFTER_YOU)
        finally:
            self._sessions -= 1
            if self._waiting and not self._sessions:
                self._hand_back([], 0.0)

    async def _next_claim(self) -> Claim | None:
        """Return the next claim; None when there is none for as long as sessions are kept."""
        if not self._waiting and not self._stopping:
            await self._wait_for_claim()
        if self._desk.suspended:
            self._withdraw()
        if self._is_closed():
            self.hold_back()  # what came back to the line since we heard
        return self._waiting.popleft() if self._waiting else None

    async def _wait_for_claim(self) -> None:
        """Sleep until there is one, for as long as sessions are kept."""
        idle: float = self._settings.idle
        if self._berth.terms.connections is not None:
            idle = min(idle, _SHORT_IDLE)
        patience = Patience(self._parked.unpark_all)  # who has time left sleeps on
        ends = trio.current_time() + idle
        patience.allow_until(ends)
        try:
            # Another session may be quicker than the one that was woken: that one sleeps on.
            while not self._waiting and not self._stopping and trio.current_time() < ends:
                await self._parked.park()
        finally:
            patience.end()

    def _withdraw(self) -> None:
        """What has been suspended since it was claimed goes back, and waits with the rest."""
        site, source = self._berth.terms.name, self.source.name
        suspended = [
            claim
            for claim in self._waiting
            if self._desk.is_withheld(claim.delivery, site=site, source=source)
        ]
        self._give_up(suspended)

    async def _moor(self, claim: Claim) -> str | None:
        """Lease a connection; None, with the claim back in the line, when there is none."""
        try:
            connection = await self._berth.moor()
        except (StoreUnavailable, StoreError) as error:
            _log.warning("%s: %s", claim.delivery.id, error)
            connection = None
        if connection is None:
            self._waiting.appendleft(claim)
        return connection

    async def _serve(self, claim: Claim, connection: str) -> bool:
        """Open a session for this claim; use it for what follows, as long as it is good.

        Returns False when this session task is one too many.
        """
        peer = None
        try:
            with trio.CancelScope() as opening:
                self._berth.guard(connection, opening.cancel)
                peer = await self._open(claim)
        except SourceUnusable as error:
            self._desk.set_aside(self.source, error)
            self._hand_back([claim], 0.0)
            return False
        except HostFailed as error:
            if self._connected:
                self._respect_ceiling(claim, error)
            else:
                await self._fail(claim, error)
            return False
        except Exception:
            await self._excuse(claim)
            return True
        if peer is None:  # the lease has lapsed meanwhile: nothing was said of the message
            self._waiting.appendleft(claim)
            return True
        self._berth.guard(connection, peer.drop)
        self._connected += 1
        self.rest.recover()
        try:
            following: Claim | None = claim
            if self._is_closed():  # while we connected
                self._hand_back([claim], 0.0)
                following = None
            while following is not None and await self._carry(following, peer):
                if not self._may_go_on(peer, connection):
                    break
                following = await self._next_claim()
        finally:
            self._connected -= 1
            with trio.CancelScope(shield=True):  # bounded: see Peer.quit
                await peer.quit()
        return True

    def _may_go_on(self, peer: Peer, connection: str) -> bool:
        return (
            peer.is_open
            and peer.sent < self.path.messages_per_connection
            and not self._berth.has_lost(connection)
        )

    def _respect_ceiling(self, claim: Claim, error: HostFailed) -> None:
        """Others get through: the host wants no further session, which is no word on the message.

        Those that are open take it; when the last of them ends, its task finds what still waits.
        """
        self._report(claim, [error.outcome])
        self._ceiling = self._connected
        self._ceiling_ends = trio.current_time() + _CEILING
        self._waiting.appendleft(claim)
        _log.info("%s takes no more than %d sessions: %s", self.path.site, self._ceiling, error)

    async def _carry(self, claim: Claim, peer: Peer) -> bool:
        """Send one message and end its claim; False when the session is over."""
        if peer.is_unwanted:  # since it was idle
            self._waiting.appendleft(claim)
            return False
        try:
            verdict, attempt = await self._deliver(claim, peer)
            if verdict.stale and peer.sent > 1:
                # The host has closed the kept session: that says nothing about this message.
                self._waiting.appendleft(claim)
                return False
            self._learn(verdict)
            self._report(claim, verdict.outcomes)
            await self._desk.ending.end(
                claim,
                verdict.outcomes,
                attempt,
                unknown=verdict.unknown,
                retry=self._berth.terms.retry,
            )
        except ClaimLost:
            _log.warning("%s: the claim has passed to another worker", claim.delivery.id)
        except StoreUnavailable as error:
            _log.warning("%s: %s", claim.delivery.id, error)
            await self._desk.ending.put_off(claim, _OWN_TROUBLE)
        except LocalProtocolError as error:
            await self._refuse(claim, error)
            return True
        except Exception:
            await self._excuse(claim)
            peer.close()
            return False
        self._end(claim)
        return peer.is_open

    def _learn(self, verdict: Verdict) -> None:
        """A message was taken: another session may be worth it."""
        if self._window < self._berth.most and any(
            outcome.disposition is Disposition.DELIVERED for outcome in verdict.outcomes
        ):
            self._window += 1
            self._berth.windows[self.path.key] = self._window
            if self._waiting and not self._parked:
                self._add_session()

    def _report(self, claim: Claim, outcomes: Sequence[Outcome]) -> None:
        """Tell what this says about the source; if it says stop, do so before the store has heard."""
        desk, source, site = self._desk, self.source.name, self.path.site
        for outcome in outcomes:
            if outcome.code:
                label = outcome.label or f"{outcome.code // 100}xx"
                COUNTERS.add("replies", (site, label))
        if not claim.delivery.notice:
            for outcome in outcomes:
                desk.shares.note(claim.delivery.tenant, outcome)
        if desk.reporter.note(site, source, claim.delivery.tenant, outcomes):
            desk.close(source, site, desk.now() + _MOMENT)
            self.hold_back()
        if any(outcome.action == "slow-tenant" for outcome in outcomes):
            self.hold_back(claim.delivery.tenant)

    async def _excuse(self, claim: Claim) -> None:
        """A fault of ours. The message stays in the queue, and the others are not held up."""
        _log.exception("%s: delivery failed; trying again later", claim.delivery.id)
        await self._desk.ending.put_off(claim, OUR_FAULT)
        self._end(claim)

    async def _open(self, claim: Claim) -> Peer:
        desk, source = self._desk, self.source
        delivery = claim.delivery
        # RFC 8460 §3: sessions that carry reports are not reported.
        is_report = delivery.notice and delivery.envelope.tls == "optional"
        domain = "" if is_report else delivery.domain
        return await desk.opener.open(self.path, source, desk.egresses[source.name], domain=domain)

    async def _deliver(self, claim: Claim, peer: Peer) -> tuple[Verdict, Attempt]:
        host = peer.host
        attempt = Attempt(
            self.source.name,
            host.name,
            f"{host.address}:{host.port}",
            peer.dsn,
            host.guard.policy,
            peer.proof,
            self.path.site,
        )
        event = self._desk.ending.make_attempt_event(claim, attempt)
        early = self._settings.unknown_outcome == "retry"
        began = time.perf_counter()
        verdict = await peer.deliver(claim, self._desk.store, event, early=early)
        attempt.seconds = round(time.perf_counter() - began, 4)
        COUNTERS.observe("attempt_seconds", attempt.seconds)
        return verdict, attempt

    # -- ends ---------------------------------------------------------------------------------

    async def _fail(self, claim: Claim, error: HostFailed) -> None:
        """No host would have us, and nobody else gets through.

        That is the answer for the one that was tried. The others wait, without an attempt, until
        somebody got through (rest.py).
        """
        self._window = 1
        self._berth.windows[self.path.key] = 1
        host, outcome = error.host or self.path.hosts[-1], error.outcome
        attempt = Attempt(
            self.source.name,
            host.name,
            f"{host.address}:{host.port}",
            policy=host.guard.policy,
            proof=error.proof,
            site=self.path.site,
        )
        outcomes = [outcome] * len(claim.delivery.envelope.recipients)
        self._report(claim, [outcome])
        try:
            rest = await self.rest.begin(outcome)
            await self._desk.ending.end(claim, outcomes, attempt, retry=self._berth.terms.retry)
        except Exception:
            await self._excuse(claim)
            rest = _OWN_TROUBLE
        else:
            self._end(claim)
        self._hand_back([], rest)

    async def _refuse(self, claim: Claim, error: LocalProtocolError) -> None:
        try:
            await self._desk.ending.end_unsayable(
                claim, str(error), Attempt(self.source.name, site=self.path.site)
            )
        except Exception:
            await self._excuse(claim)
        else:
            self._end(claim)

    def _hand_back(self, begun: Sequence[Claim], wait: float) -> None:
        """What cannot go this way just now; ``begun``: taken from the line already."""
        self._held -= len(begun)
        claims = [*begun, *self._take_waiting()]
        if claims:
            self._misplaced(claims, wait)
