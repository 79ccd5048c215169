"""One worker at one site: its lines, its feeds, and what it makes of answers."""

from collections.abc import Callable, Sequence
from functools import partial

from relay.model import Outcome
from relay.store.gate import Gates
from workers.berth import Berth, make_limits
from workers.classify import classify_reply
from workers.emulation.behaviour import Refusal
from workers.emulation.providers.provider import Provider
from workers.reporter import Reporter
from workers.simulation.account import Account
from workers.simulation.agenda import Agenda
from workers.simulation.feed import Feed
from workers.simulation.line import Line
from workers.simulation.mail import Backlog, Mail
from workers.simulation.policies import Policy
from workers.simulation.world import World
from workers.site import Terms

# A source that was put off is silent for this long, until the store has said more (workers/lane.py), s.
_MOMENT = 1.0


class Worker:
    """One worker process."""

    def __init__(self, name: str, policy: Policy) -> None:
        self.name = name
        self.gates: Gates = policy.make_gates(name)
        self.reporter: Reporter | None = policy.make_reporter()
        self._closed: dict[tuple[str, str], float] = {}

    def close(self, source: str, site: str, until: float) -> None:
        """A source has to be silent at a site until a time."""
        self._closed[source, site] = max(until, self._closed.get((source, site), 0.0))

    def is_closed(self, source: str, site: str, now: float) -> bool:
        """Tell whether it has to be silent."""
        return self._closed.get((source, site), 0.0) > now


class Post:
    """What a worker has at a site."""

    def __init__(
        self,
        site: str,
        worker: Worker,
        *,
        world: World,
        agenda: Agenda,
        policy: Policy,
        account: Account,
        backlog: Backlog,
        settle: Callable[[Mail, Outcome, str], None],
        ring: Callable[[str], None],
        hear: Callable[[Worker], None],
    ) -> None:
        """``settle``: takes what an attempt brought. ``ring``: something waits again at a site.

        ``hear``: the worker's reporter has been told something.
        """
        self.site = site
        self.agenda = agenda
        self.policy = policy
        self.backlog = backlog
        self.provider: Provider = world.providers[site]
        self.gates = worker.gates
        self.worker = worker
        self.terms: Terms = policy.find_terms(site)
        self.limits = make_limits(self.terms)
        self.weights = dict(world.weights)
        self._addresses = world.addresses
        self._account = account
        self._settle = settle
        self._ring = ring
        self._hear = hear
        self.lines = {
            source: Line(
                source,
                address,
                Berth(
                    source,
                    self.terms,
                    self.gates,
                    worker=worker.name,
                    find_share=partial(self._find_share, source),
                ),
                self,
            )
            for source, address in world.addresses.items()
        }
        self._feeds = {pin: Feed(self, pin) for pin in ("", *self.lines)}

    def _find_share(self, source: str) -> float:
        return self.weights[source] / sum(self.weights.values())

    # -- for Feed -----------------------------------------------------------------------------

    def find_lines(self, pin: str) -> list[Line]:
        """Return the lines of all sources, or of the one that is pinned to."""
        return [self.lines[pin]] if pin else list(self.lines.values())

    def watch(self, source: str) -> None:
        """A source is silent here: what it delivers afterwards is news."""
        if self.worker.reporter is not None:
            self.worker.reporter.watch(self.site, source)

    def give_back(self, tenant: str) -> None:
        """The site will not have a tenant's mail: what has not been begun goes back."""
        for line in self.lines.values():
            line.hold_back(tenant)

    def let_go(self, pin: str) -> None:
        """What is pinned to a source is for anybody."""
        while (mail := self.backlog.take(pin)) is not None:
            mail.pin = ""
            self.backlog.put(mail)
        self._ring(self.site)

    # -- for Line -----------------------------------------------------------------------------

    def judge(
        self, line: Line, mail: Mail | None, command: str, refusal: Refusal | None
    ) -> Outcome:
        """Count what an attempt brought, and tell the reporter; return it as an outcome."""
        now, source = self.agenda.now, line.source
        self._account.note(
            self.site, source, self._addresses[source], now, refused=refusal is not None
        )
        if refusal is None:
            outcome = classify_reply(command, 250, "2.0.0", "ok")
        else:
            outcome = classify_reply(
                command, refusal.code, refusal.status, refusal.text, provider=self.site
            )
        if (reporter := self.worker.reporter) is not None:
            tenant = mail.tenant if mail is not None else ""
            if reporter.note(self.site, source, tenant, [outcome]):
                self.worker.close(source, self.site, now + _MOMENT)
                line.hold_back()
            if outcome.action == "slow-tenant":
                line.hold_back(tenant)
            self._hear(self.worker)
        return outcome

    def is_closed(self, source: str) -> bool:
        """Tell whether a source has to be silent here."""
        return self.worker.is_closed(source, self.site, self.agenda.now)

    def end(self, mail: Mail, outcome: Outcome, source: str) -> None:
        """A message has had its attempt."""
        self._settle(mail, outcome, source)

    def put_back(self, mails: Sequence[Mail], source: str) -> None:
        """These were not begun."""
        self.policy.hand_back(self.site, source, len(mails))
        for mail in reversed(mails):
            self.backlog.put(mail, first=True)
        self._ring(self.site)

    def make_room(self) -> None:
        """One fewer is in hand."""
        for feed in self._feeds.values():
            feed.make_room()

    # -- news ---------------------------------------------------------------------------------

    def ring(self, pin: str | None = None) -> None:
        """Look again: all feeds, or that of a pin."""
        for feed in self._feeds.values() if pin is None else (self._feeds[pin],):
            feed.ring()

    def hold_back(self, source: str) -> None:
        """A source has to be silent here."""
        self.lines[source].hold_back()
