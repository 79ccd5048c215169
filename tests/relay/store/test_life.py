"""Any order of transitions, by any workers, against a model in Python; audited after every step."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config import read
from relay.model import Claim, Delivery
from relay.store.keys import find_shard
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.audit import check, expire_claims
from tests.kit.messages import EVENT, Claims, find_domains, make_deliveries
from tests.kit.redis import Server

# Two in one shard, one in another: messages to several are one, or more than one, shard's.
DOMAINS = [*find_domains(2, shard=3), *find_domains(1, but=(3,))]
SHARDS = sorted({find_shard(domain) for domain in DOMAINS})


class Life:
    """The store, and what should be in it."""

    def __init__(self, server: Server, store: Store) -> None:
        self.server = server
        self.store = store
        self.claims = Claims(store)
        self.messages: list[list[Delivery]] = []
        self.ready: set[str] = set()  # delivery ids, due ones included
        self.held: dict[str, Claim] = {}  # by delivery id: who owns it now
        self.lost: list[Claim] = []  # claims that have ended, whose workers do not know
        self.tried: set[str] = set()  # held ones with an open attempt
        self.open: dict[str, int] = {}  # recipients
        self.attempts: Counter[str] = Counter()
        self.books: Counter[str] = Counter()

    # -- what may happen ----------------------------------------------------------------------

    async def accept(self, domains: list[str], recipients: int) -> None:
        deliveries = make_deliveries(*domains, recipients=recipients)
        assert await self.store.accept(deliveries, EVENT, b"hello")
        self.messages.append(deliveries)
        for delivery in deliveries:
            self.ready.add(delivery.id)
            self.open[delivery.id] = recipients
            self.books["accepted"] += recipients

    async def accept_again(self, which: int) -> None:
        if self.messages:
            deliveries = self.messages[which % len(self.messages)]
            assert not await self.store.accept(deliveries, EVENT, b"hello")

    async def claim(self, shard: int, most: int) -> None:
        domain = next(domain for domain in DOMAINS if find_shard(domain) == shard)
        for claim in await self.claims.take(domain, most=most):
            delivery = claim.delivery
            assert delivery.id in self.ready
            assert claim.attempts == self.attempts[delivery.id]
            assert len(delivery.envelope.recipients) == self.open[delivery.id]
            assert (claim.body or await self.store.read_part(delivery, 0)) == b"hello"
            self.ready.discard(delivery.id)
            self.held[delivery.id] = claim

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

    async def defer(self, which: int, done: int, attempted: bool, wait: float) -> None:
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
            EVENT,
            wait=wait,
            rest=msgspec.structs.replace(delivery, envelope=envelope),
            delivered=done,
            attempted=attempted,
            host_failed=not done,
        )
        self.open[delivery.id] -= done
        self.books["delivered"] += done
        self.attempts[delivery.id] += attempted
        self._give_back(claim)

    async def promote(self, domain: str) -> None:
        await self.store.promote("acme", domain, "default", ahead=1000)

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
        else:
            assert await self.store.record_attempt(claim, EVENT).wait() == 0

    # -- the model ----------------------------------------------------------------------------

    def _choose(self, which: int) -> Claim | None:
        held = sorted(self.held)
        return self.held[held[which % len(held)]] if held else None

    def _give_back(self, claim: Claim) -> None:
        self.lost.append(self.held.pop(claim.delivery.id))
        self.tried.discard(claim.delivery.id)
        self.ready.add(claim.delivery.id)

    def _end(self, claim: Claim, *, delivered: int) -> None:
        identity = claim.delivery.id
        self.lost.append(self.held.pop(identity))
        self.tried.discard(identity)
        self.books["delivered"] += delivered
        self.books["bounced"] += self.open.pop(identity) - delivered

    def compare(self) -> None:
        audit = check(self.server)
        waiting: set[str] = set()
        claimed: set[str] = set()
        for shard in audit.shards:
            for ids in (*shard.ready.values(), *shard.due.values()):
                waiting |= set(ids)
            claimed |= shard.claims.keys()
        assert waiting == self.ready
        assert claimed == self.held.keys()
        books = self.books + Counter(queued=sum(self.open.values()))
        assert +audit.total("ledger") == +books


number = st.integers(0, 50)
step = st.one_of(
    st.tuples(
        st.just("accept"),
        st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=3, unique=True),
        st.integers(1, 3),
    ),
    st.tuples(st.just("accept_again"), number),
    st.tuples(st.just("claim"), st.sampled_from(SHARDS), st.integers(1, 5)),
    st.tuples(st.just("claim"), st.sampled_from(SHARDS), st.integers(1, 5)),
    st.tuples(st.just("attempt"), number),
    st.tuples(st.just("settle"), number),
    st.tuples(st.just("bounce"), number, number),
    st.tuples(st.just("defer"), number, number, st.booleans(), st.sampled_from([0.0, 60.0])),
    st.tuples(st.just("promote"), st.sampled_from(DOMAINS)),
    st.tuples(st.just("die"), number),
    st.tuples(st.just("revive"), number),
    st.tuples(
        st.just("come_late"), number, st.sampled_from(["settle", "bounce", "defer", "attempt"])
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
    link = Link(shared_server.url, timeout=10)
    life = Life(shared_server, Store(link, read({}, base=tmp_path, environment={})))
    try:
        for name, *arguments in steps:
            await getattr(life, name)(*arguments)
            life.compare()
    finally:
        await link.aclose()
