"""Any order of transitions, by any workers, against a model in Python; audited after every step."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config import read
from relay.model import Claim, Delivery
from relay.store.keys import SHUT, find_shard, make_key, read_lane, read_queue
from relay.store.opening import make_link
from relay.store.queue import Store
from relay.store.suspension import Suspension, Suspensions
from tests.kit.audit import Audit, check, expire_claims
from tests.kit.messages import EVENT, find_domains, make_deliveries
from tests.kit.redis import Server

# Two in one shard, one in another: messages to several are one, or more than one, shard's.
DOMAINS = [*find_domains(2, shard=3), *find_domains(1, but=(3,))]
SHARDS = sorted({find_shard(domain) for domain in DOMAINS})
SITES = ["google", "yahoo", "-", ""]
POOLS = ["default", "second"]
LATER = 1000.0  # s; everything that waits is due by then


class Life:
    """The store, and what should be in it."""

    def __init__(self, server: Server, store: Store) -> None:
        self.server = server
        self.store = store
        self.suspensions = Suspensions(store.link)
        self.tokens = 0
        self.messages: list[list[Delivery]] = []
        self.waiting: set[str] = set()  # delivery ids: ready or due
        self.held: dict[str, Claim] = {}  # by delivery id: who owns it now
        self.lost: list[Claim] = []  # claims that have ended, whose workers do not know
        self.tried: set[str] = set()  # held ones with an open attempt
        self.open: dict[str, int] = {}  # recipients
        self.attempts: Counter[str] = Counter()
        self.books: Counter[str] = Counter()
        self.closed: set[str] = set()  # domains
        self.pins: dict[str, str] = {}
        self.audit = check(server)

    # -- what may happen ----------------------------------------------------------------------

    async def accept(
        self, domains: list[str], recipients: int, priority: str, pool: str, held: bool
    ) -> None:
        deliveries = make_deliveries(
            *domains, recipients=recipients, priority=priority, pool=pool, held=held
        )
        assert await self.store.accept(deliveries, EVENT, b"hello")
        self.messages.append(deliveries)
        for delivery in deliveries:
            self.waiting.add(delivery.id)
            self.open[delivery.id] = recipients
            self.books["accepted"] += recipients

    async def accept_again(self, which: int) -> None:
        if self.messages:
            deliveries = self.messages[which % len(self.messages)]
            assert not await self.store.accept(deliveries, EVENT, b"hello")

    async def claim(self, which: int, grants: list[int], octets: int) -> None:
        """A worker asks a lane, that of suspended queues too: nothing of those comes."""
        if not (place := self._choose_lane(which)):
            return
        shard, lane = place
        claimed = await self.store.claim(
            shard, lane, grants, token=self._make_token(), octets=octets, inline=1 << 18
        )
        taken = Counter(source for source, _ in claimed.claims)
        assert all(taken[source] <= grants[source] for source in taken)
        for _, claim in claimed.claims:
            assert claim.delivery.domain not in self.closed
            assert claim.delivery.pool == read_lane(lane).pool
            await self._receive(claim)

    async def attempt(self, which: int) -> None:
        if claim := self._choose(which):
            assert await self.store.record_attempt(claim, EVENT).wait() == 1
            self.tried.add(claim.delivery.id)

    async def settle(self, which: int) -> None:
        if claim := self._choose(which):
            assert await self.store.settle(claim, EVENT)
            self._end(claim, delivered=self.open[claim.delivery.id])

    async def bounce(self, which: int, delivered: int) -> None:
        if claim := self._choose(which):
            delivered %= self.open[claim.delivery.id]
            assert await self.store.bounce(claim, EVENT, delivered=delivered)
            self._end(claim, delivered=delivered)

    async def defer(
        self, which: int, done: int, attempted: bool, wait: float, source: str | None
    ) -> None:
        claim = self._choose(which)
        if not claim:
            return
        delivery = claim.delivery
        done %= self.open[delivery.id]
        envelope = msgspec.structs.replace(
            delivery.envelope, recipients=delivery.envelope.recipients[done:]
        )
        assert await self.store.defer(
            claim,
            EVENT if attempted else b"",
            wait=wait,
            rest=msgspec.structs.replace(delivery, envelope=envelope),
            delivered=done,
            attempted=attempted,
            source=source,
        )
        self.open[delivery.id] -= done
        self.books["delivered"] += done
        self.attempts[delivery.id] += attempted
        if source is not None:
            self.pins[delivery.id] = source
        self._give_back(claim)

    async def hurry(self, which: int, ahead: float) -> None:
        if queue := self._choose_queue(which):
            await self.store.hurry(queue, ahead=ahead)

    async def promote(self, passed: float) -> None:
        """So much time passes for what is due and for what is left alone."""
        self._let_pass(passed)
        await self.store.promote_all()

    async def count(self, which: int) -> None:
        if place := self._choose_lane(which):
            (count,) = await self.store.count_ready([place])
            assert bool(count) == bool(self._list_ready(*place))

    async def survey(self, which: int, limit: int) -> None:
        if place := self._choose_lane(which):
            shard, lane = place
            queues, _ = await self.store.survey(shard, lane, limit=limit, patience=30)
            assert len(queues) <= limit
            assert set(queues) <= self.audit.shards[shard].rounds[lane].keys()

    async def assign(self, which: int, queue: int, site: str) -> None:
        """The queue may have left the lane by now: a look-up takes its time."""
        if place := self._choose_lane(which):
            shard, lane = place
            queues = sorted(self.audit.shards[shard].rounds[lane])
            await self.store.assign(shard, queues[queue % len(queues)], lane, site)

    async def pause(self, which: int, queue: int, wait: float) -> None:
        if place := self._choose_lane(which):
            shard, lane = place
            queues = sorted(self.audit.shards[shard].rounds[lane])
            await self.store.pause(shard, queues[queue % len(queues)], lane, wait)

    async def unpin(self, which: int, limit: int) -> None:
        if (place := self._choose_lane(which)) and read_lane(place[1]).source:
            for identity in self._list_ready(*place):
                self.pins.pop(identity, None)
            while await self.store.unpin(*place, limit=limit):
                pass

    async def adopt(self, which: int, pool: str, limit: int) -> None:
        place = self._choose_lane(which)
        if place and read_lane(place[1]).pool != pool:
            assert await self.store.adopt(*place, pool, limit=limit) <= limit

    async def suspend(self, domain: str) -> None:
        await self.suspensions.suspend(Suspension(domain=domain))
        self.closed.add(domain)

    async def resume(self, domain: str) -> None:
        assert await self.suspensions.resume(Suspension(domain=domain)) == (domain in self.closed)
        self.closed.discard(domain)
        await self._reopen()

    async def seize(self, which: int, limit: int, message: int, by_age: bool) -> None:
        if not (queue := self._choose_queue(which)):
            return
        names = sorted(d.message_id for deliveries in self.messages for d in deliveries)
        meant = [names[message % len(names)]] if message % 2 else []
        found, _ = await self.store.seize(
            queue,
            token=self._make_token(),
            messages=meant,
            accepted_before=0.5 + by_age if message % 3 else None,
            limit=limit,
        )
        for claim in found:
            assert not meant or claim.delivery.message_id in meant
            await self._receive(claim)

    async def seize_due(self, which: int, limit: int) -> None:
        if queue := self._choose_queue(which):
            found, _ = await self.store.seize_due(queue, token=self._make_token(), limit=limit)
            for claim in found:
                await self._receive(claim)

    async def die(self, which: int) -> None:
        """A worker dies, or is slow: one claim runs out."""
        claim = self._choose(which)
        if not claim:
            return
        expire_claims(self.server, claim.delivery.id)
        assert len(await self.store.reclaim(claim.shard)) == 1
        if claim.delivery.id in self.tried:
            self.attempts[claim.delivery.id] += 1
            self.books["unknown"] += self.open[claim.delivery.id]
        self._give_back(claim)

    async def revive(self, which: int) -> None:
        """A claim runs out, and is renewed before anybody looks."""
        if claim := self._choose(which):
            expire_claims(self.server, claim.delivery.id)
            await self.store.renew([claim])
            assert await self.store.reclaim(claim.shard) == []

    async def come_late(self, which: int, end: str) -> None:
        """The owner of a claim that has ended does not know, and tries to use it."""
        if not self.lost:
            return
        claim = self.lost[which % len(self.lost)]
        if end == "settle":
            assert not await self.store.settle(claim, EVENT)
        elif end == "bounce":
            assert not await self.store.bounce(claim, EVENT, delivered=0)
        elif end == "defer":
            assert not await self.store.defer(claim, EVENT, wait=0)
        elif end == "renew":
            await self.store.renew([claim])
        else:
            assert await self.store.record_attempt(claim, EVENT).wait() == 0

    async def finish(self) -> None:
        """Whatever was done before: when time passes and nothing is suspended, all can be had."""
        for domain in sorted(self.closed):
            await self.resume(domain)
        for claim in list(self.held.values()):
            assert await self.store.defer(claim, b"", wait=0, attempted=False)
            self._give_back(claim)
        await self.promote(2 * LATER)
        await self._reopen()
        while places := self._list_lanes():
            for shard, lane in places:
                claimed = await self.store.claim(
                    shard, lane, [3], token=self._make_token(), octets=1 << 22, inline=1 << 18
                )
                for _, claim in claimed.claims:
                    await self._receive(claim)
                    await self.settle(0)
            self.audit = check(self.server)
        assert not self.open
        assert not any(shard.deliveries or shard.bodies for shard in self.audit.shards)

    # -- the model ----------------------------------------------------------------------------

    def _make_token(self) -> str:
        self.tokens += 1
        return f"test-{self.tokens}"

    def _list_lanes(self) -> list[tuple[int, str]]:
        return [(n, lane) for n in SHARDS for lane in sorted(self.audit.shards[n].lanes)]

    def _choose_lane(self, which: int) -> tuple[int, str] | None:
        places = self._list_lanes()
        return places[which % len(places)] if places else None

    def _choose_queue(self, which: int) -> str | None:
        shards = self.audit.shards
        queues = sorted({queue for shard in shards for queue in (*shard.slips, *shard.due)})
        return queues[which % len(queues)] if queues else None

    def _list_ready(self, shard: int, lane: str) -> list[str]:
        found = self.audit.shards[shard]
        return [i for queue in found.rounds[lane] for i in found.ready.get(queue, ())]

    def _let_pass(self, seconds: float) -> None:
        with self.server.client() as client:
            for shard in SHARDS:
                found = self.audit.shards[shard]
                keys = [make_key(shard, "agenda"), *(make_key(shard, "due", q) for q in found.due)]
                for key in keys:
                    for member in client.zrange(key, 0, -1):
                        client.zincrby(key, -seconds * 1000, member)

    async def _reopen(self) -> None:
        self.audit = check(self.server)
        for shard, lane in self._list_lanes():
            if read_lane(lane).site == SHUT:
                queues = self.audit.shards[shard].rounds[lane]
                left = await self.store.reopen(shard, lane)
                assert left == sum(read_queue(queue).domain in self.closed for queue in queues)

    def _choose(self, which: int) -> Claim | None:
        held = sorted(self.held)
        return self.held[held[which % len(held)]] if held else None

    async def _receive(self, claim: Claim) -> None:
        delivery = claim.delivery
        assert delivery.id in self.waiting
        assert claim.attempts == self.attempts[delivery.id]
        assert bool(claim.previous) == (claim.attempts > 0)
        assert len(delivery.envelope.recipients) == self.open[delivery.id]
        assert (claim.body or await self.store.read_part(delivery, 0)) == b"hello"
        self.waiting.discard(delivery.id)
        self.held[delivery.id] = claim

    def _give_back(self, claim: Claim) -> None:
        self.lost.append(self.held.pop(claim.delivery.id))
        self.tried.discard(claim.delivery.id)
        self.waiting.add(claim.delivery.id)

    def _end(self, claim: Claim, *, delivered: int) -> None:
        identity = claim.delivery.id
        self.lost.append(self.held.pop(identity))
        self.tried.discard(identity)
        self.books["delivered"] += delivered
        self.books["bounced"] += self.open.pop(identity) - delivered

    def compare(self) -> Audit:
        audit = self.audit = check(self.server)
        waiting: set[str] = set()
        claimed: set[str] = set()
        for shard in audit.shards:
            for ids in (*shard.ready.values(), *shard.due.values()):
                waiting |= set(ids)
            claimed |= shard.claims.keys()
            for identity, slip in shard.deliveries.items():
                if identity not in claimed:
                    assert read_queue(slip.queue).source == self.pins.get(identity, "")
        assert waiting == self.waiting
        assert claimed == self.held.keys()
        for number in SHARDS:
            assert {i: c.token.encode() for i, c in self.held.items() if c.shard == number} == (
                audit.shards[number].tokens
            )
        books = self.books + Counter(queued=sum(self.open.values()))
        assert +audit.total("ledger") == +books
        return audit


number = st.integers(0, 50)
few = st.integers(1, 4)
domain = st.sampled_from(DOMAINS)
accept = st.tuples(
    st.just("accept"),
    st.lists(domain, min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
    st.sampled_from(["", "", "urgent", "bulk"]),
    st.sampled_from(POOLS),
    st.sampled_from([False, False, False, True]),
)
claim = st.tuples(
    st.just("claim"),
    number,
    st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any),
    st.sampled_from([6, 1 << 22]),
)
defer = st.tuples(
    st.just("defer"),
    number,
    number,
    st.booleans(),
    st.sampled_from([0.0, 60.0, LATER]),
    st.sampled_from([None, None, "", "b", "c"]),
)
step = st.one_of(
    accept,
    accept,
    st.tuples(st.just("accept_again"), number),
    claim,
    claim,
    claim,
    st.tuples(st.just("attempt"), number),
    st.tuples(st.just("settle"), number),
    st.tuples(st.just("bounce"), number, number),
    defer,
    defer,
    st.tuples(st.just("hurry"), number, st.sampled_from([0.0, 100.0, 2 * LATER])),
    st.tuples(st.just("promote"), st.sampled_from([0.0, 70.0, LATER])),
    st.tuples(st.just("count"), number),
    st.tuples(st.just("survey"), number, few),
    st.tuples(st.just("assign"), number, number, st.sampled_from(SITES)),
    st.tuples(st.just("pause"), number, number, st.sampled_from([0.0, 60.0])),
    st.tuples(st.just("unpin"), number, few),
    st.tuples(st.just("adopt"), number, st.sampled_from(POOLS), few),
    st.tuples(st.just("suspend"), domain),
    st.tuples(st.just("resume"), domain),
    st.tuples(st.just("seize"), number, few, number, st.booleans()),
    st.tuples(st.just("seize_due"), number, few),
    st.tuples(st.just("die"), number),
    st.tuples(st.just("revive"), number),
    st.tuples(
        st.just("come_late"),
        number,
        st.sampled_from(["settle", "bounce", "defer", "attempt", "renew"]),
    ),
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(step, min_size=15, max_size=40))
async def test_any_life(
    shared_server: Server, tmp_path: Path, steps: list[tuple[str, Any, ...]]
) -> None:
    shared_server.fresh()
    link = make_link(shared_server.url, timeout=10)
    document: dict[str, object] = {"delivery": {"expire": LATER - 100, "delay_notice": 0}}
    life = Life(shared_server, Store(link, read(document, base=tmp_path, environment={})))
    try:
        for name, *arguments in steps:
            await getattr(life, name)(*arguments)
            life.compare()
        await life.finish()
    finally:
        await link.aclose()
