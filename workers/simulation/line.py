"""One source's sessions at one site, in one worker: what workers/lane.py does, without a network.

A session opens, carries messages one after the other, is idle for a while, and closes; each of these
is an action on the agenda, after the time that the provider takes to answer.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from relay.model import Outcome
from workers.berth import Berth
from workers.emulation.behaviour import Refusal
from workers.emulation.providers.provider import Provider, Visit
from workers.simulation.agenda import Agenda
from workers.simulation.mail import Mail
from workers.simulation.policies import Policy

_CEILING = 60.0  # s, and the others as in workers/lane.py
_AFTER_YOU = 0.1
_SHORT_IDLE = 1.0
_IDLE = 5.0
_OPENING = 3  # replies before the first MAIL: the greeting, EHLO, STARTTLS
_ENVELOPE = 2  # ... for a message: MAIL and RCPT travel with DATA
_SIZE = 20_000  # octets


class Crew(Protocol):
    """Whose lines these are: a worker's post at the site."""

    provider: Provider
    agenda: Agenda
    policy: Policy

    def judge(
        self, line: "Line", mail: Mail | None, command: str, refusal: Refusal | None
    ) -> Outcome:
        """Count what an attempt brought, and tell the reporter; return it as an outcome."""

    def is_closed(self, source: str) -> bool:
        """Tell whether a source has to be silent."""

    def end(self, mail: Mail, outcome: Outcome, source: str) -> None:
        """A message has had its attempt."""

    def put_back(self, mails: Sequence[Mail], source: str) -> None:
        """These were not begun."""

    def make_room(self) -> None:
        """One fewer is in hand."""


class _Session:
    """A connection, from its lease to its end."""

    __slots__ = ("connection", "rest", "sent", "visit")

    def __init__(self) -> None:
        self.connection = ""
        self.visit: Visit | None = None
        self.sent = 0
        self.rest = 0  # counts its idle times, so that the end of one that is over does nothing


class Line:
    """Takes mail and sends it."""

    def __init__(self, source: str, address: str, berth: Berth, crew: Crew) -> None:
        self.source = source
        self.berth = berth
        self._address = address
        self._crew = crew
        self._agenda = crew.agenda
        self._waiting: deque[Mail] = deque()
        self._idle: list[_Session] = []
        self._sessions = 0
        self._connected = 0
        self._window = 1
        self._ceiling = math.inf
        self._ceiling_ends = -math.inf

    def put(self, mail: Mail) -> None:
        """Take a message in hand."""
        if self._crew.is_closed(self.source):
            self._crew.put_back([mail], self.source)
            return
        self.berth.held += 1
        self._waiting.append(mail)
        if self._idle:
            session = self._idle.pop()
            session.rest += 1
            self._go_on(session)
        else:
            self._add_session()

    def hold_back(self, tenant: str = "") -> None:
        """Give back what was not begun: of a tenant, or all."""
        mails = [mail for mail in self._waiting if tenant in ("", mail.tenant)]
        if mails:
            self._waiting = deque(mail for mail in self._waiting if mail not in mails)
            self.berth.held -= len(mails)
            self._crew.put_back(mails, self.source)

    def _add_session(self) -> None:
        most = min(self._window, self.berth.most)
        at_ceiling = self._sessions >= self._ceiling and self._agenda.now < self._ceiling_ends
        if self._sessions < most and not at_ceiling:
            self._sessions += 1
            self._after(0.0, partial(self._moor, _Session()))

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        self._agenda.put(self._agenda.now + seconds, action)  # type: ignore[arg-type]

    def _draw(self, replies: int) -> float:
        return sum(self._crew.provider.draw_delay(self._address) for _ in range(replies))

    # -- a session ----------------------------------------------------------------------------

    async def _moor(self, session: _Session) -> None:
        connection = await self.berth.moor() if self._waiting else None
        if connection is None:
            self._leave()
            return
        session.connection = connection
        self._after(self._draw(_OPENING), partial(self._open, session))

    def _leave(self) -> None:
        """A session is over. The last one finds what still waits."""
        self._sessions -= 1
        if not self._sessions:
            self.hold_back()

    async def _open(self, session: _Session) -> None:
        refusal = self._crew.provider.open(self._address)
        if refusal is not None:
            await self._be_refused(session, refusal)
            return
        session.visit, session.sent = self._crew.provider.visit(self._address), 0
        self._connected += 1
        self.berth.recover()
        self._go_on(session)

    async def _be_refused(self, session: _Session, refusal: Refusal) -> None:
        mail = self._waiting.popleft() if self._waiting and not self._connected else None
        outcome = self._crew.judge(self, mail, "CONNECT", refusal)
        if self._connected:
            self._ceiling = self._connected
            self._ceiling_ends = self._agenda.now + _CEILING
        else:
            self._window = 1
            self.berth.windows[self.source] = 1
            await self.berth.fail(outcome.text)
            if mail is not None:
                self._crew.policy.hand_back(mail.site, self.source, 1)
                self._end(mail, outcome)
            self.hold_back()
        self.berth.leave(session.connection)
        self._leave()

    def _go_on(self, session: _Session) -> None:
        if self._waiting and self._crew.is_closed(self.source):
            self.hold_back()
        if self._waiting:
            mail = self._waiting.popleft()
            self._after(self._draw(_ENVELOPE), partial(self._carry, session, mail))
            return
        self._idle.append(session)
        session.rest += 1
        limited = self.berth.terms.connections is not None
        self._after(
            _SHORT_IDLE if limited else _IDLE, partial(self._end_rest, session, session.rest)
        )

    async def _end_rest(self, session: _Session, rest: int) -> None:
        if session.rest == rest:
            self._idle.remove(session)
            self._close(session)

    async def _carry(self, session: _Session, mail: Mail) -> None:
        hold = self._crew.policy.hold(mail.site, self.source)
        if hold > 0:
            self._after(hold, partial(self._carry, session, mail))
            return
        visit = session.visit
        assert visit is not None
        command, refusal = _say(visit, mail)
        session.sent += 1
        outcome = self._crew.judge(self, mail, command, refusal)
        if refusal is None:
            self._learn()
        self._end(mail, outcome)
        if visit.hangs_up or session.sent >= self.berth.terms.messages_per_connection:
            self._close(session)
        else:
            self._go_on(session)

    def _close(self, session: _Session) -> None:
        """End a connection; its task looks for more to do, on another one."""
        assert session.visit is not None
        session.visit.close()
        self._connected -= 1
        self.berth.leave(session.connection)
        if self._waiting:
            wait = _AFTER_YOU if self.berth.terms.connections is not None else 0.0
            self._after(wait, partial(self._moor, _Session()))
        else:
            self._leave()

    def _end(self, mail: Mail, outcome: Outcome) -> None:
        self.berth.held -= 1
        self._crew.end(mail, outcome, self.source)
        self._crew.make_room()

    def _learn(self) -> None:
        if self._window < self.berth.most:
            self._window += 1
            self.berth.windows[self.source] = self._window
            if self._waiting and not self._idle:
                self._add_session()


def _say(visit: Visit, mail: Mail) -> tuple[str, Refusal | None]:
    """Bring one message; return what was refused, and how."""
    if (refusal := visit.mail(mail.sender)) is not None:
        return "MAIL", refusal
    if (refusal := visit.rcpt(mail.recipient)) is not None:
        visit.abandon()
        return "RCPT", refusal
    return ".", visit.finish(_SIZE)
