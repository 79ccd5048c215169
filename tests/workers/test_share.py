"""What a worker counts of its tenants, mirrors and enforces."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from relay.config import Config, Rate, read
from relay.errors import StoreUnavailable
from relay.events import EventLog, decode_event
from relay.model import Disposition, Outcome
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.share import Counts, Shares, State
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import make_config, open_works
from workers.share import TenantShares, slow_down, weigh

DELIVERED, DEFERRED, BOUNCED = Disposition
TABLES = {
    "reputation": {
        "tenant": {
            "at_least": 10,
            "slow_unknown": 0.2,
            "hold_unknown": 0.5,
            "slow_to": "60/m burst 2",
        }
    }
}


def make_outcome(
    disposition: Disposition = DELIVERED, label: str = "", *, code: int = 0
) -> Outcome:
    code = code or {DELIVERED: 250, DEFERRED: 450, BOUNCED: 550}[disposition]
    return msgspec.convert(
        {"disposition": disposition.value, "code": code, "label": label}, Outcome
    )


TAKEN = make_outcome()
NOBODY = make_outcome(BOUNCED, "mailbox_unknown")


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(str(tmp_path / "events.jsonl"))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make_config(tmp_path, tables=TABLES)


@pytest.fixture
def shares(config: Config, link: Link, log: EventLog) -> TenantShares:
    return TenantShares(config, link, log)


def note(shares: TenantShares, taken: int, nobody: int = 0, tenant: str = "acme") -> None:
    for outcome, times in ((TAKEN, taken), (NOBODY, nobody)):
        for _ in range(times):
            shares.note(tenant, outcome)


def read_events(log: EventLog, tmp_path: Path) -> list[dict[str, Any]]:
    log.flush()
    return [decode_event(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]


# -- what counts


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (make_outcome(), Counts(1)),
        (make_outcome(BOUNCED, "mailbox_full"), Counts(1)),
        (make_outcome(BOUNCED, "mailbox_unknown"), Counts(1, unknown=1)),
        (make_outcome(BOUNCED, "content_spam"), Counts(1, content=1)),
        (make_outcome(BOUNCED, "content_malware"), Counts(1, content=1)),
        (make_outcome(DEFERRED, "content_spam"), Counts(1, content=1)),
        (make_outcome(DEFERRED, "greylisted"), Counts()),
        (make_outcome(DEFERRED, "mailbox_unknown"), Counts()),
        (Outcome(BOUNCED, status="5.1.1"), Counts()),
        (Outcome(DELIVERED), Counts()),
        (Outcome(DEFERRED, text="no route"), Counts()),
    ],
)
def test_what_a_recipient_counts_for(outcome: Outcome, counts: Counts) -> None:
    assert weigh(outcome) == counts


# -- rates


@pytest.mark.parametrize(
    ("own", "slow", "both"),
    [
        ((), (Rate(1, 1),), (Rate(1, 1),)),
        ((Rate(50, 1, 10),), (Rate(1, 1),), (Rate(1, 1),)),
        ((Rate(1, 1, 5),), (Rate(50, 1, 2),), (Rate(1, 1, 2),)),
        (
            (Rate(9, 86_400), Rate(3, 1)),
            (Rate(20, 60),),
            (Rate(3, 1), Rate(20, 60), Rate(9, 86_400)),
        ),
    ],
)
def test_both_rates_hold(
    own: tuple[Rate, ...], slow: tuple[Rate, ...], both: tuple[Rate, ...]
) -> None:
    assert slow_down(own, slow) == both


# -- one worker and another


async def test_it_is_slowed_then_held_then_released_and_each_is_told_once(
    shares: TenantShares, config: Config, log: EventLog, link: Link, tmp_path: Path
) -> None:
    other = TenantShares(config, link, log)
    note(shares, 7)
    await shares.flush()
    note(other, 0, 3)
    await other.flush()
    await shares.read()
    for one in (shares, other):
        assert one.state("acme").state == "slow"
        assert one.find_rates("acme", ()) == (Rate(60, 60, 2),)
    note(shares, 0, 10)
    await shares.flush()
    await other.read()
    assert other.state("acme").state == "hold"
    note(other, 180)
    await other.flush()
    await shares.read()
    for one in (shares, other):
        assert one.state("acme").state == ""
        assert one.find_rates("acme", (Rate(5, 1),)) == (Rate(5, 1),)

    events = read_events(log, tmp_path)

    assert [(e["event"], e["tenant"], e["reason"]) for e in events] == [
        ("tenant-slowed", "acme", "unknown users 30 % of 10 in 1d: slowed at 20 %"),
        ("tenant-held", "acme", "unknown users 65 % of 20 in 1d: held at 50 %"),
        ("tenant-released", "acme", "unknown users 6.5 % of 200 in 1d"),
    ]


async def test_others_are_not_touched(shares: TenantShares) -> None:
    note(shares, 0, 100)
    note(shares, 100, tenant="other")
    await shares.flush()
    assert shares.state("acme").state == "hold"
    assert shares.state("other").state == ""


async def test_complaints_count(shares: TenantShares, link: Link, config: Config) -> None:
    note(shares, 1000)
    for _ in range(3):
        shares.note_signal("acme", complaint=True)
    shares.note_signal("acme", complaint=False)
    await shares.flush()
    assert shares.state("acme").counts == Counts(1000, unknown=1, complaints=3)
    assert shares.state("acme").state == "slow"


async def test_nothing_is_counted_twice(shares: TenantShares, link: Link, config: Config) -> None:
    note(shares, 5)
    await shares.flush()
    await shares.flush()
    found = await Shares(link, config.reputation.tenant).read(["acme"])
    assert found["acme"].counts == Counts(5)


async def test_what_was_not_sent_is_kept_and_what_may_have_arrived_is_not(
    shares: TenantShares, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, tries = Shares.add_all, []

    async def fail(self: Shares, counts: Mapping[str, Counts]) -> dict[str, State]:
        tries.append(dict(counts))
        if len(tries) in (1, 3):
            raise StoreUnavailable("gone", executed=len(tries) == 3)
        return await add(self, counts)

    monkeypatch.setattr(Shares, "add_all", fail)
    note(shares, 5, tenant="one")
    note(shares, 5, tenant="two")
    with pytest.raises(StoreUnavailable):
        await shares.flush()
    note(shares, 1, tenant="two")
    with pytest.raises(StoreUnavailable):
        await shares.flush()  # one is added; of the other nobody knows
    await shares.flush()
    assert tries == [{"one": Counts(5)}, {"two": Counts(6)}, {"one": Counts(5)}]


async def test_off_is_off(link: Link, log: EventLog, tmp_path: Path) -> None:
    tables = {"reputation": {"enabled": False, **TABLES["reputation"]}}
    shares = TenantShares(make_config(tmp_path, tables=tables), link, log)
    note(shares, 0, 100)
    shares.note_signal("acme", complaint=True)
    await shares.flush()
    await shares.read()
    assert shares.state("acme").state == ""
    assert (
        await Shares(link, read({}, base=tmp_path, environment={}).reputation.tenant).read(["acme"])
    )["acme"].counts == Counts()


# -- the desk and the feeders


async def hold(link: Link, config: Config, tenant: str = "acme") -> None:
    await Shares(link, config.reputation.tenant).add(tenant, Counts(100, 90))


async def wait_until(holds: Callable[[], object]) -> None:
    """Look until something holds: workers are told, and nobody tells us."""
    with trio.fail_after(5):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_mail_of_a_tenant_that_is_held_waits_and_goes_on(
    server: Server, tmp_path: Path
) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, tables=TABLES) as works:
            await hold(works.store.link, works.config)
            desk = works.pool.desk
            await wait_until(lambda: desk.is_suspended(tenant="acme"))
            assert not desk.is_suspended(tenant="other")
            assert not desk.is_suspended()
            assert desk.find_why("other") == "suspended"
            await works.post_many(5)
            await works.post_many(5, tenant="other")
            await works.wait_for(delivered=5, queued=5)
            await trio.sleep(0.3)
            await works.wait_for(delivered=5, queued=5)
            reasons = [feeder.why for feeder in works.pool.list_feeders()]
            assert "held: unknown users 90 % of 100 in 1d: held at 50 %" in reasons

            await Shares(works.store.link, works.config.reputation.tenant).clear("acme")

            await works.wait_for(delivered=10, queued=0, seconds=3)
            await works.finish()
            works.check()
        assert works.read_events("deferred") == []


async def test_mail_of_a_tenant_that_is_slowed_keeps_to_its_rate(
    server: Server, tmp_path: Path
) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, tables=TABLES) as works:
            settings = works.config.reputation.tenant
            await Shares(works.store.link, settings).add("acme", Counts(100, 30))
            desk = works.pool.desk
            await wait_until(lambda: desk.find_tenant_rates("acme"))
            assert desk.find_tenant_rates("acme") == (Rate(60, 60, 2),)
            begun = time.monotonic()
            await works.post_many(30)
            await works.post_many(30, tenant="other")
            await works.wait_for(delivered=32, queued=28)
            assert time.monotonic() - begun < 3
            await host.wait_for(33, seconds=5)  # one a second
            assert time.monotonic() - begun > 0.7
            await Shares(works.store.link, settings).clear("acme")
            await works.wait_for(delivered=60, queued=0, seconds=6)
            await works.finish()
            works.check()


async def test_held_mail_without_a_route_keeps_nobody_busy(server: Server, tmp_path: Path) -> None:
    """Its feeder has no gate to wait at."""
    async with open_works(server, tmp_path, running=False, tables=TABLES) as works:
        delivery = await works.post(b"bob@y.test")
        shard = find_shard(delivery.domain)
        (lane,) = await works.store.list_lanes(shard)
        await works.store.assign(shard, "acme/y.test", lane, "-")
        await hold(works.store.link, works.config)
        pool = works.pool
        async with trio.open_nursery() as nursery:
            nursery.start_soon(works.run)
            await wait_until(lambda: any(f.why.startswith("held") for f in pool.list_feeders()))
            await works.wait_for(queued=1)
            nursery.cancel_scope.cancel()


async def test_a_tenant_of_no_configuration_is_looked_at_while_it_is_held(
    shares: TenantShares, server: Server, link: Link
) -> None:
    note(shares, 0, 100, tenant="gone")
    await shares.flush()
    assert shares.state("gone").state == "hold"
    await link.call("DEL", make_key(find_shard("gone"), "share", "gone"))
    await shares.read()
    assert shares.state("gone").state == ""
