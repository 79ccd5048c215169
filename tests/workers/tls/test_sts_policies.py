"""MTA-STS with a real name server, a real HTTPS server and a real store, in virtual time.

The store runs on real time: what it drops by itself is tested where that is (test_stscache.py).
"""

import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.config import Config, Seconds
from relay.config.schema import Delivery, Dns, Tls
from relay.net.resolver import Resolver
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.stscache import StoredSts, StsCache
from tests.kit.authority import Authority, make_self_signed
from tests.kit.https import Answer, HttpsServer, open_https
from tests.kit.nameserver import SERVFAIL, SILENT, Nameserver, open_nameserver
from workers.tls import sts
from workers.tls.sts import StsPolicies, StsPolicy

MINUTE, DAY = 60.0, 86400.0
START = 1_700_000_000.0
ROOT = Authority("Root of the tests")
DOMAINS = [f"{name}.test" for name in "abc"]
GOOD = ROOT.issue(*(f"mta-sts.{domain}" for domain in DOMAINS))
FETCH, WEBPKI, INVALID = "sts-policy-fetch-error", "sts-webpki-invalid", "sts-policy-invalid"


def make_text(mode: str = "enforce", *mx: str, max_age: object = 604800, end: str = "\r\n") -> str:
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {one}" for one in mx)]
    return "".join(line + end for line in [*lines, f"max_age: {max_age}"])


class World:
    """A DNS, a web server, a store, and as many workers as are wanted."""

    def __init__(self, dns: Nameserver, web: HttpsServer, link: Link, config: Config) -> None:
        self.dns = dns
        self.web = web
        self.link = link
        self.config = config
        self.zone: dict[str, Any] = {}
        self.reports: list[tuple[str, str]] = []
        dns.zone = self.zone

    def publish(
        self,
        mode: str = "enforce",
        *,
        domain: str = "a.test",
        ident: str = "1",
        max_age: int = 604800,
    ) -> None:
        """Let a domain have a policy; its host is named after the id: mx1, mx2."""
        self.announce(ident, domain=domain)
        self.zone[f"mta-sts.{domain}"] = {"A": ["127.0.0.1"]}
        text = make_text(mode, f"mx{ident}.{domain}", max_age=max_age)
        self.web.answers[f"mta-sts.{domain}"] = Answer(text.encode())

    def announce(self, ident: str, *, domain: str = "a.test") -> None:
        self.zone[f"_mta-sts.{domain}"] = {"TXT": [f'"v=STSv1; id={ident};"']}

    def break_web(self, domain: str = "a.test") -> None:
        self.web.answers[f"mta-sts.{domain}"] = Answer(status=503)

    def make(
        self,
        *,
        link: Link | None = None,
        spawn: Any = None,
        dns: Nameserver | None = None,
        shared: bool = True,
    ) -> StsPolicies:
        """Return the policies of a new worker. Without ``spawn``, a refresh is a failure."""
        servers = ((dns or self.dns).endpoint,)
        return StsPolicies(
            self.config,
            Resolver(Dns(nameservers=servers, timeout=Seconds(5))),
            StsCache(link or self.link) if shared else None,
            is_allowed=lambda address: address == "127.0.0.1",
            spawn=spawn or (lambda *_: pytest.fail("a refresh")),
            report=lambda domain, text: self.reports.append((domain, text)),
            clock=self.time,
            chance=random.Random(1),
        )

    def time(self) -> float:
        return START + trio.current_time()

    @property
    def fetches(self) -> int:
        return len(self.web.requests)


@pytest.fixture
async def world(link: Link, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    ca_file = str(ROOT.write(_directory(tmp_path_factory)))
    async with open_nameserver({}, ttl=0) as dns, open_https(GOOD.make_context()) as web:
        config = Config(delivery=Delivery(ca_file=ca_file), tls=Tls(mta_sts_port=web.port))
        yield World(dns, web, link, config)


def _directory(factory: pytest.TempPathFactory) -> Path:
    """One for all tests: the context with the authority is built once."""
    path = factory.getbasetemp() / "sts"
    path.mkdir(exist_ok=True)
    return path


def show(answer: tuple[StsPolicy | None, str] | None) -> tuple[str, ...]:
    """Mode, id and hosts of the policy, or why there is none."""
    assert answer is not None
    policy, failing = answer
    if policy is None:
        return (failing,)
    assert failing == ""
    return policy.mode, policy.id, *policy.mx


@pytest.mark.parametrize("mode", ["enforce", "testing", "none"])
async def test_policy_is_found_and_then_known(world: World, mode: str) -> None:
    world.publish(mode)
    policies = world.make()

    assert policies.find_now("a.test") is None
    assert show(await policies.find("a.test")) == (mode, "1", "mx1.a.test")
    assert show(policies.find_now("a.test")) == (mode, "1", "mx1.a.test")
    assert world.fetches == 1


async def test_domain_without_a_policy_is_known_as_such(
    world: World, mock_clock: MockClock
) -> None:
    policies = world.make()

    assert await policies.find("a.test") == (None, "")
    assert policies.find_now("a.test") == (None, "")
    assert world.dns.queries == [("_mta-sts.a.test", "TXT")]
    assert world.web.connections == 0

    world.publish()
    mock_clock.jump(MINUTE + 1)
    assert policies.find_now("a.test") is None
    assert show(await policies.find("a.test")) == ("enforce", "1", "mx1.a.test")


@pytest.mark.parametrize(
    "records",
    [['"v=STSv1; id=1"', '"v=STSv1; id=2"'], ['"v=STSv1; nonsense"'], ['"v=spf1 -all"']],
    ids=["two", "broken", "another's"],
)
async def test_record_that_announces_nothing(world: World, records: list[str]) -> None:
    world.publish()
    world.zone["_mta-sts.a.test"] = {"TXT": records}

    assert await world.make().find("a.test") == (None, "")
    assert world.web.connections == 0


async def test_dns_that_does_not_answer_is_asked_again_soon(
    world: World, mock_clock: MockClock
) -> None:
    world.publish()
    world.dns.trouble = SERVFAIL
    policies = world.make()
    assert await policies.find("a.test") == (None, "")

    world.dns.trouble = None
    mock_clock.jump(6)
    assert show(await policies.find("a.test")) == ("enforce", "1", "mx1.a.test")


@pytest.mark.parametrize("trouble", ["no record", "two records", SERVFAIL])
async def test_record_that_goes_does_not_end_the_policy(
    world: World, mock_clock: MockClock, trouble: Any
) -> None:
    world.publish(max_age=1000)
    policies = world.make()
    await policies.find("a.test")
    if trouble == "no record":
        del world.zone["_mta-sts.a.test"]
    elif trouble == "two records":
        world.zone["_mta-sts.a.test"] = {"TXT": ['"v=STSv1; id=1"', '"v=STSv1; id=2"']}
    else:
        world.dns.trouble = trouble

    mock_clock.jump(990)
    assert show(await policies.find("a.test")) == ("enforce", "1", "mx1.a.test")
    mock_clock.jump(9)  # the end is the end, also of what is known
    assert show(policies.find_now("a.test") or await policies.find("a.test"))[0] == "enforce"
    mock_clock.jump(2)
    assert policies.find_now("a.test") is None
    assert await policies.find("a.test") == (None, "")
    assert world.fetches == 1


async def test_same_id_is_not_fetched_again(world: World, mock_clock: MockClock) -> None:
    world.publish()
    policies = world.make()
    for _ in range(10):
        await policies.find("a.test")
        mock_clock.jump(MINUTE)

    assert world.fetches == 1


async def test_another_id_is_fetched(world: World, mock_clock: MockClock) -> None:
    world.publish()
    policies = world.make()
    await policies.find("a.test")

    world.publish("testing", ident="2")
    assert show(await policies.find("a.test"))[1] == "1"  # it is looked up again after a minute
    mock_clock.jump(MINUTE)
    assert show(await policies.find("a.test")) == ("testing", "2", "mx2.a.test")
    assert world.fetches == 2


async def test_old_policy_stays_when_the_new_one_cannot_be_had(
    world: World, mock_clock: MockClock
) -> None:
    world.publish()
    policies = world.make()
    await policies.find("a.test")

    world.publish(ident="2")
    page = world.web.answers["mta-sts.a.test"]
    world.break_web()
    mock_clock.jump(MINUTE)
    assert show(await policies.find("a.test")) == ("enforce", "1", "mx1.a.test")
    assert world.reports == [("a.test", "mta-sts.a.test answered with 503")]
    assert policies.explain("a.test") == "mta-sts.a.test answered with 503"

    world.web.answers["mta-sts.a.test"] = page
    mock_clock.jump(4 * MINUTE)
    assert show(await policies.find("a.test"))[1] == "1"
    assert world.fetches == 2  # a version that failed is left alone for five minutes
    mock_clock.jump(MINUTE)
    assert show(await policies.find("a.test")) == ("enforce", "2", "mx2.a.test")
    assert policies.explain("a.test") == ""


async def test_a_third_version_need_not_wait_for_the_second(
    world: World, mock_clock: MockClock
) -> None:
    world.publish()
    policies = world.make()
    await policies.find("a.test")
    world.announce("2")
    world.break_web()
    mock_clock.jump(MINUTE)
    await policies.find("a.test")

    world.publish(ident="3")
    mock_clock.jump(MINUTE)
    assert show(await policies.find("a.test")) == ("enforce", "3", "mx3.a.test")


async def test_expired_policy_is_none_when_the_fetch_fails(
    world: World, mock_clock: MockClock
) -> None:
    # Nobody looked while it could have been refreshed.
    world.publish(max_age=1000)
    policies = world.make()
    await policies.find("a.test")
    world.break_web()
    mock_clock.jump(1001)

    assert show(await policies.find("a.test")) == (FETCH,)
    assert show(await world.make().find("a.test")) == (FETCH,)  # the store's copy is as old


async def test_failure_is_remembered_for_five_minutes(world: World, mock_clock: MockClock) -> None:
    world.publish()
    page = world.web.answers["mta-sts.a.test"]
    world.break_web()
    policies = world.make()
    for _ in range(5):
        assert show(await policies.find("a.test")) == (FETCH,)
        assert show(policies.find_now("a.test")) == (FETCH,)
        mock_clock.jump(MINUTE - 1)
    assert world.fetches == 1
    assert world.reports == []

    world.web.answers["mta-sts.a.test"] = page
    mock_clock.jump(5)
    assert show(await policies.find("a.test")) == ("enforce", "1", "mx1.a.test")


async def test_record_that_goes_ends_the_failure(world: World, mock_clock: MockClock) -> None:
    world.publish()
    world.break_web()
    policies = world.make()
    assert show(await policies.find("a.test")) == (FETCH,)

    del world.zone["_mta-sts.a.test"]
    mock_clock.jump(MINUTE)
    assert await policies.find("a.test") == (None, "")


@pytest.mark.parametrize(
    ("answer", "failing"),
    [
        (Answer(status=404), FETCH),
        (Answer(b"", status=301, headers=(("Location", "https://mta-sts.b.test/"),)), FETCH),
        (Answer(b"x" * 102400), FETCH),
        (Answer(make_text("enforce", "m.test").encode(), content_type="text/html"), FETCH),
        (Answer(make_text("enforce").encode()), INVALID),
        (Answer(b"<html>"), INVALID),
        (Answer(b""), INVALID),
    ],
)
async def test_why_there_is_none(world: World, answer: Answer, failing: str) -> None:
    world.publish()
    world.web.answers["mta-sts.a.test"] = answer
    policies = world.make()

    assert show(await policies.find("a.test")) == (failing,)
    assert policies.explain("a.test")


async def test_bad_certificate_is_reported_as_such(world: World) -> None:
    world.publish()
    async with open_https(make_self_signed("mta-sts.a.test").make_context()) as web:
        world.config = Config(delivery=world.config.delivery, tls=Tls(mta_sts_port=web.port))
        policies = world.make()

        assert show(await policies.find("a.test")) == (WEBPKI,)
    assert "certificate not accepted" in policies.explain("a.test")


async def test_policy_of_no_age_is_not_fetched_for_every_message(
    world: World, mock_clock: MockClock
) -> None:
    world.publish(max_age=0)
    policies = world.make()
    for _ in range(3):
        assert show(await policies.find("a.test"))[0] == "enforce"
        mock_clock.jump(10)

    assert world.fetches == 1


# -- refresh


@pytest.mark.parametrize(
    ("max_age", "early", "late"), [(1000, 440, 510), (30 * 86400, 0.89 * DAY, 1.01 * DAY)]
)
async def test_policy_is_refreshed_early_while_the_old_one_serves(
    world: World, mock_clock: MockClock, max_age: int, early: float, late: float
) -> None:
    world.publish(max_age=max_age)
    async with trio.open_nursery() as background:
        policies = world.make(spawn=background.start_soon)
        await policies.find("a.test")
        mock_clock.jump(early)
        await policies.find("a.test")
        assert len(background.child_tasks) == 0

        # The same id: what changed is noticed all the same.
        text = make_text("testing", "new.a.test", max_age=max_age)
        world.web.answers["mta-sts.a.test"] = Answer(text.encode())
        world.web.gate = trio.Event()
        mock_clock.jump(late - early)
        assert show(await policies.find("a.test")) == ("enforce", "1", "mx1.a.test")
        mock_clock.jump(MINUTE)
        assert show(await policies.find("a.test"))[0] == "enforce"
        assert len(background.child_tasks) == 1  # and not another one
        world.web.gate.set()

    assert show(policies.find_now("a.test")) == ("testing", "1", "new.a.test")
    assert world.fetches == 2
    mock_clock.jump(max_age / 3 if max_age < DAY else DAY / 2)  # its time begins anew
    assert show(await world.make().find("a.test")) == ("testing", "1", "new.a.test")
    assert world.fetches == 2


async def test_failed_refresh_is_tried_again_after_five_minutes(
    world: World, mock_clock: MockClock
) -> None:
    world.publish(max_age=10_000)
    refreshes: list[tuple[Any, ...]] = []
    policies = world.make(spawn=lambda *task: refreshes.append(task))
    await policies.find("a.test")
    world.break_web()
    mock_clock.jump(5001)
    tries = []
    for _ in range(12):
        assert show(await policies.find("a.test")) == ("enforce", "1", "mx1.a.test")
        while refreshes:
            refresh, *arguments = refreshes.pop()
            await refresh(*arguments)
        tries.append(world.fetches - 1)
        mock_clock.jump(MINUTE)

    assert tries == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3]
    assert len(world.reports) == 3


async def test_nothing_is_reported_of_a_policy_that_asks_for_nothing(
    world: World, mock_clock: MockClock
) -> None:
    world.publish("none", max_age=1000)
    async with trio.open_nursery() as background:
        policies = world.make(spawn=background.start_soon)
        await policies.find("a.test")
        world.break_web()
        mock_clock.jump(510)
        await policies.find("a.test")

    assert world.fetches == 2
    assert world.reports == []


async def test_refresh_that_is_late_does_not_undo_what_was_found_meanwhile(
    world: World, mock_clock: MockClock
) -> None:
    world.publish(max_age=60)
    async with trio.open_nursery() as background:
        await world.make().find("a.test")
        mock_clock.jump(40)
        policies = world.make(spawn=background.start_soon)
        world.web.gate = held = trio.Event()
        await policies.find("a.test")  # begins to refresh
        while world.fetches < 2:
            await trio.lowlevel.checkpoint()
        world.web.gate = None

        world.publish(ident="2")
        mock_clock.jump(21)  # the first policy has expired, its refresh has still a little time
        assert show(await policies.find("a.test"))[1] == "2"
        world.break_web()
        held.set()

    assert world.reports == [("a.test", "mta-sts.a.test answered with 503")]
    assert show(policies.find_now("a.test")) == ("enforce", "2", "mx2.a.test")


# -- many at once


async def test_twenty_at_once_are_one_fetch(world: World) -> None:
    world.publish()
    world.web.gate = trio.Event()
    policies = world.make()
    found = []

    async def look_up() -> None:
        found.append(show(await policies.find("a.test")))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look_up)
        while not world.fetches:
            await trio.lowlevel.checkpoint()
        world.web.gate.set()

    assert found == [("enforce", "1", "mx1.a.test")] * 20
    assert world.fetches == world.web.connections == 1


@pytest.mark.parametrize("cancelled", [0, 1], ids=["who looked", "who waited"])
async def test_cancelled_look_up_does_not_take_others_along(world: World, cancelled: int) -> None:
    world.publish()
    world.web.gate = trio.Event()
    policies = world.make()
    scopes = [trio.CancelScope() for _ in range(3)]
    found = []

    async def look_up(scope: trio.CancelScope) -> None:
        with scope:
            found.append(show(await policies.find("a.test")))

    async with trio.open_nursery() as nursery:
        for scope in scopes:
            nursery.start_soon(look_up, scope)
            await wait_all_tasks_blocked(0.01)
        while not world.fetches:
            await trio.lowlevel.checkpoint()
        scopes[cancelled].cancel()
        await wait_all_tasks_blocked(0.01)
        world.web.gate.set()

    assert found == [("enforce", "1", "mx1.a.test")] * 2
    assert world.fetches == (2 if cancelled == 0 else 1)


async def test_slow_domain_does_not_hold_up_another(world: World, mock_clock: MockClock) -> None:
    world.publish()
    world.publish(domain="b.test")
    world.web.answers["mta-sts.a.test"] = Answer(b"slow", pause=1000, piece=1)
    policies = world.make()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(policies.find, "a.test")
        while not world.fetches:
            await trio.lowlevel.checkpoint()
        assert show(await policies.find("b.test"))[0] == "enforce"
        mock_clock.jump(31)  # and the slow one ends

    assert show(policies.find_now("a.test")) == (FETCH,)


async def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sts, "CACHE_SIZE", 2)
    for domain in DOMAINS:
        world.publish(domain=domain)
    policies = world.make()
    for domain in ("a.test", "b.test", "a.test", "c.test"):
        await policies.find(domain)

    assert policies.size == 2
    assert policies.find_now("b.test") is None  # not looked at for the longest time
    assert policies.find_now("a.test")
    assert show(await policies.find("b.test"))[0] == "enforce"
    assert world.fetches == 3  # from the store


# -- the store


async def test_other_workers_take_it_from_the_store(world: World, server: Any) -> None:
    world.publish()
    await world.make().find("a.test")
    link = Link(server.url, timeout=10)
    world.break_web()

    assert show(await world.make(link=link).find("a.test")) == ("enforce", "1", "mx1.a.test")
    assert world.fetches == 1
    await link.aclose()


async def test_what_another_worker_fetched_is_seen_after_a_minute(
    world: World, mock_clock: MockClock
) -> None:
    world.publish()
    one, other = world.make(), world.make()
    await one.find("a.test")
    await other.find("a.test")
    world.publish(ident="2")
    mock_clock.jump(MINUTE)
    await one.find("a.test")

    assert show(await other.find("a.test")) == ("enforce", "2", "mx2.a.test")
    assert world.fetches == 2


async def test_other_worker_gets_past_a_failure_of_ours(
    world: World, mock_clock: MockClock
) -> None:
    world.publish()
    page = world.web.answers["mta-sts.a.test"]
    world.break_web()
    one = world.make()
    assert show(await one.find("a.test")) == (FETCH,)
    world.web.answers["mta-sts.a.test"] = page
    await world.make().find("a.test")

    mock_clock.jump(MINUTE)
    assert show(await one.find("a.test"))[0] == "enforce"
    assert world.fetches == 2


async def test_workers_with_different_dns_do_not_take_turns_at_fetching(
    world: World, mock_clock: MockClock
) -> None:
    world.publish()
    behind: dict[str, Any] = dict(world.zone)
    async with open_nameserver(behind, ttl=0) as old:
        one, other = world.make(), world.make(dns=old)
        await one.find("a.test")
        await other.find("a.test")
        world.publish(ident="2")
        for _ in range(10):
            mock_clock.jump(MINUTE)
            assert show(await one.find("a.test"))[1] == "2"
            assert show(await other.find("a.test"))[1] == "2"
        late = world.make(dns=old)  # has never seen the domain before
        for _ in range(10):
            mock_clock.jump(MINUTE)
            for policies in (late, one, other):
                assert show(await policies.find("a.test"))[2] == "mx2.a.test"

    assert world.fetches == 3


async def test_mail_does_not_wait_for_a_store_that_is_away(
    world: World, mock_clock: MockClock
) -> None:
    world.publish()
    away = Link("unix:///nonexistent/sock", timeout=1)
    policies = world.make(link=away)

    for _ in range(3):
        assert show(await policies.find("a.test")) == ("enforce", "1", "mx1.a.test")
        mock_clock.jump(MINUTE)
    assert world.fetches == 1
    await away.aclose()
    assert show(await policies.find("a.test"))[0] == "enforce"  # a link that is closed


async def test_without_a_store_it_works_too(world: World) -> None:
    world.publish()

    assert show(await world.make(shared=False).find("a.test"))[0] == "enforce"
    assert show(await world.make(shared=False).find("a.test"))[0] == "enforce"
    assert world.fetches == 2


@pytest.mark.parametrize("raw", ["nonsense", '{"id":"1","text":"x","fetched":0,"expires":9e12}'])
async def test_what_the_store_has_wrong_is_fetched(world: World, raw: str) -> None:
    world.publish()
    key = make_key(find_shard("a.test"), "sts", "a.test")
    await world.link.call("SET", key, raw)

    assert show(await world.make().find("a.test"))[0] == "enforce"
    stored = await StsCache(world.link).read("a.test")
    assert stored is not None
    assert stored == StoredSts(
        "1", make_text("enforce", "mx1.a.test", end="\n"), stored.fetched, stored.fetched + 604800
    )
    assert 604_000_000 < await world.link.call("PTTL", key) <= 604_800_000


async def test_looking_is_cheap(world: World) -> None:
    """Where the answer is known, nothing is waited for."""
    world.publish()
    policies = world.make()
    await policies.find("a.test")
    find = policies.find("a.test")

    with pytest.raises(StopIteration) as ended:
        find.send(None)
    assert show(ended.value.value)[0] == "enforce"


async def test_name_server_that_is_silent(world: World, mock_clock: MockClock) -> None:
    world.dns.trouble = SILENT
    policies = world.make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(policies.find, "a.test"))
        while not world.dns.queries:
            await trio.lowlevel.checkpoint()
        mock_clock.jump(6)

    assert policies.find_now("a.test") == (None, "")
