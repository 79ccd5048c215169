"""One run: a world, workers that send in it by one policy, and an account of what came of it."""

import math
import random
from collections.abc import Callable, Mapping
from functools import partial

from relay.model import Disposition, Outcome
from relay.store.standing import Standing
from workers.choice import choose_again
from workers.hint import find_hint
from workers.reprieve import reprieve
from workers.schedule import is_expired, next_wait
from workers.simulation.account import MINUTE, STEP, Account
from workers.simulation.agenda import START, Agenda
from workers.simulation.mail import Backlog, Mail
from workers.simulation.mix import end_of
from workers.simulation.policies import Policy
from workers.simulation.post import Post, Worker
from workers.simulation.world import World

# A reporter's (workers/reporter.py): good news are handed in every so often, and at the latest after
# this long, s.
_EVERY = 5.0
_LATEST = 35.0

Observer = Callable[[float, Account], None]


class Driver:
    """Runs once. ``account`` and ``standings`` hold what it found."""

    def __init__(self, world: World, agenda: Agenda, policy: Policy) -> None:
        self.account = Account(world.providers)
        self.standings: dict[tuple[str, str], list[tuple[float, Standing]]] = {}
        self._world = world
        self._agenda = agenda
        self._policy = policy
        self._chance = random.Random(f"{world.seed} retry")  # noqa: S311 - a play
        self._backlogs = {site: Backlog() for site in world.providers}
        self._expire = world.config.delivery.expire
        self._workers = [Worker(f"w{n}", policy) for n in range(world.mix.workers)]
        self._later = dict.fromkeys(world.providers, 0)  # messages that are put off
        self._counted = dict.fromkeys(world.providers, 0)
        self._news_until = -math.inf  # a reporter may have some to hand in
        self._told: set[str] = set()  # workers whose reporters are about to be heard
        self.posts = {site: self._make_posts(site) for site in world.providers}

    def _make_posts(self, site: str) -> list[Post]:
        return [
            Post(
                site,
                worker,
                world=self._world,
                agenda=self._agenda,
                policy=self._policy,
                account=self.account,
                backlog=self._backlogs[site],
                settle=self._settle,
                ring=self._ring,
                hear=self._hear,
            )
            for worker in self._workers
        ]

    async def run(self, observe: Observer = lambda now, account: None) -> None:
        """Send until the mix' time is over. ``observe`` is shown the account at each step."""
        agenda = self._agenda
        for site, traffic in self._world.traffic.items():
            agenda.put(traffic.draw_next(START), partial(self._arrive, site))
        agenda.put(START + MINUTE, self._count_minute)
        agenda.put(START + STEP, partial(self._take_step, observe))
        await agenda.run(end_of(self._world.mix))

    # -- a message's life ---------------------------------------------------------------------

    async def _arrive(self, site: str) -> None:
        agenda, traffic = self._agenda, self._world.traffic[site]
        self.account.sites[site].born += 1
        self._queue(traffic.make(agenda.now))
        agenda.put(traffic.draw_next(agenda.now), partial(self._arrive, site))

    def _queue(self, mail: Mail) -> None:
        if self._backlogs[mail.site].put(mail):
            for post in self.posts[mail.site]:
                post.ring(mail.pin)

    def _settle(self, mail: Mail, outcome: Outcome, source: str) -> None:
        """End a message by its answer, or put it off: workers/ending.py."""
        weights = self._world.weights
        (outcome,) = reprieve([outcome], source, weights, mail.attempts)
        account = self.account.sites[mail.site]
        now = self._agenda.now
        mail.attempts += 1
        if outcome.disposition is Disposition.DELIVERED:
            account.delivered += 1
            account.delays.append(now - mail.born)
        elif outcome.disposition is Disposition.BOUNCED:
            if self.account.last_kind == "refused":
                account.refused += 1
            else:
                account.bounced_wrongly += 1
        elif is_expired(mail.born, now, self._expire):
            account.expired += 1
        else:
            self._put_off(mail, outcome, source)

    def _put_off(self, mail: Mail, outcome: Outcome, source: str) -> None:
        now = self._agenda.now
        retry = self.posts[mail.site][0].terms.retry
        wait = next_wait(retry, mail.attempts, self._chance.random(), find_hint(outcome))
        wait = max(1.0, min(wait, mail.born + self._expire - now))
        mail.pin = choose_again([outcome], source, self._world.weights)
        self._later[mail.site] += 1
        self._agenda.put(now + wait, partial(self._come_back, mail))

    async def _come_back(self, mail: Mail) -> None:
        self._later[mail.site] -= 1
        self._queue(mail)

    def count_held(self, site: str) -> int:
        """Count the messages of a site that are somewhere: waiting, put off, or in a worker's hands."""
        held = sum(line.berth.held for post in self.posts[site] for line in post.lines.values())
        return self._backlogs[site].count + self._later[site] + held

    # -- news ---------------------------------------------------------------------------------

    def hear(self, news: str) -> None:
        """Take what the store publishes, as workers/pool.py does."""
        kind, _, rest = news.partition(" ")
        if kind == "closed":
            source, until, site = rest.split(" ", 2)
            for post in self.posts[site]:
                post.worker.close(source, site, int(until) / 1000)
                post.hold_back(source)
        elif kind == "site":
            self._ring(rest)

    def _ring(self, site: str) -> None:
        for post in self.posts[site]:
            post.ring()

    def _hear(self, worker: Worker) -> None:
        """A reporter was told something: what is urgent is handed in at once, the rest with the next round."""
        now = self._agenda.now
        if self._news_until < now:
            self._agenda.put((now // _EVERY + 1) * _EVERY, self._flush)
        self._news_until = max(self._news_until, now + _LATEST)
        if worker.name not in self._told:
            self._told.add(worker.name)
            self._agenda.put(now, partial(self._flush_urgent, worker))

    async def _flush_urgent(self, worker: Worker) -> None:
        self._told.discard(worker.name)
        assert worker.reporter is not None
        await worker.reporter.flush(bad_only=True)

    async def _flush(self) -> None:
        for worker in self._workers:
            if worker.reporter is not None:
                await worker.reporter.flush()
        if self._news_until >= self._agenda.now + _EVERY:
            self._agenda.put(self._agenda.now + _EVERY, self._flush)
        else:
            self._news_until = -math.inf

    # -- looking on ---------------------------------------------------------------------------

    async def _count_minute(self) -> None:
        sources = list(self._world.addresses)
        for site, account in self.account.sites.items():
            account.minutes.append(account.delivered - self._counted[site])
            self._counted[site] = account.delivered
            account.waiting.append(account.born - account.ended)
            account.capacity.append(self._world.find_capacity(site, sources))
            self._hear_complaints(site)
        self._agenda.put(self._agenda.now + MINUTE, self._count_minute)

    def _hear_complaints(self, site: str) -> None:
        """They come as mail (workers/signals.py); whichever worker has it, tells."""
        for complaint in self._world.providers[site].take_complaints():
            self.account.sites[site].complaints += 1
            reporter = self._workers[0].reporter
            if reporter is not None:
                source = self._world.find_source(complaint.address)
                tenant = self._world.find_tenant(complaint.sender)
                reporter.note_signal(site, source, tenant, complaint=True)
                self._hear(self._workers[0])

    async def _take_step(self, observe: Observer) -> None:
        now = self._agenda.now
        found: Mapping[tuple[str, str], Standing] = await self._policy.read(self.posts, now)
        for pair, standing in found.items():
            self.standings.setdefault(pair, []).append((now, standing))
        observe(now, self.account)
        self._agenda.put(now + STEP, partial(self._take_step, observe))
