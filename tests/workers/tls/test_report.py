"""The daily reports: who makes them, when, and what becomes of them when something goes wrong."""

import email
import email.policy
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio.testing import MockClock

from relay.config import Config, read
from relay.config.schema import Dns
from relay.errors import OutgateError, StartError, StoreFull, StoreUnavailable
from relay.events import EventLog, decode_event
from relay.model import Claim
from relay.net.resolver import Resolver
from relay.store.keys import SHARDS, find_shard, make_key
from relay.store.link import Link
from relay.store.queue import Store
from relay.store.tlsrpt import DAY, Session, Sessions
from tests.kit.authority import Authority
from tests.kit.https import Answer, HttpsServer, open_https
from tests.kit.messages import Claims
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from tests.kit.proxy import open_proxy
from tests.kit.redis import Server
from tests.relay.dkim.made import make_record
from workers.tls.fetch import make_context
from workers.tls.posting import Courier
from workers.tls.report import Reporter
from workers.tls.tally import LATE

YESTERDAY = 20_780
LAST_ROUND = 28_800
ROOT = Authority()
KEY = Ed25519PrivateKey.generate()


def make_config(directory: Path, **reports: object) -> Config:
    pem, bare = serialization.Encoding.PEM, serialization.NoEncryption()
    key = KEY.private_bytes(pem, serialization.PrivateFormat.PKCS8, bare)
    (directory / "key.pem").write_bytes(key)
    settings: dict[str, Any] = {
        "send": True,
        "organization": "Gate",
        "dkim_selector": "tls",
        "dkim_key_file": "key.pem",
    }
    document: dict[str, Any] = {
        "ingress": {"hostname": "gate.example"},
        "tls_reports": settings | reports,
    }
    return read(document, base=directory, environment={})


class Office:
    """Reporters of one gateway, with all that they need."""

    def __init__(
        self, config: Config, link: Link, names: Nameserver, web: HttpsServer, directory: Path
    ) -> None:
        self.config = config
        self.store = Store(link, config)
        self.sessions = Sessions(link)
        self.names = names
        self.web = web
        self.resolver = Resolver(Dns(nameservers=(names.endpoint,)))
        self.log = EventLog(config.log.events)
        self.context = make_context(str(ROOT.write(directory)))
        self.now = 0.0
        self.now = self.open().find_due(YESTERDAY) + 1

    def open(
        self,
        worker: str = "one",
        *,
        store: Store | None = None,
        now: Callable[[], float] | None = None,
    ) -> Reporter:
        courier = Courier(self.resolver, context=self.context, is_allowed=lambda _: True)
        return Reporter(
            self.config,
            store or self.store,
            courier,
            self.resolver,
            self.log,
            worker=worker,
            now=now or (lambda: self.now),
        )

    def want(self, domain: str, *uris: str) -> None:
        """Let a domain ask for reports."""
        record = f'"v=TLSRPTv1; rua={",".join(uris)}"'
        self.names.zone = dict(self.names.zone) | {f"_smtp._tls.{domain}": {"TXT": [record]}}

    def post_to(self, host: str = "r.test") -> str:
        return f"https://{host}:{self.web.port}/v1"

    def answer(self, status: int, host: str = "r.test") -> None:
        self.web.answers[f"{host}:{self.web.port}"] = Answer(status=status)

    async def count(self, domain: str, day: int = YESTERDAY) -> None:
        good = Session(domain, "no-policy-found")
        bad = Session(domain, "no-policy-found", failing="starttls-not-supported")
        await self.sessions.add(day, find_shard(domain), {good: 7, bad: 2})

    async def is_counted(self, domain: str, day: int = YESTERDAY) -> bool:
        return domain in await self.sessions.read(day, find_shard(domain))

    async def take(self, domain: str) -> Claim:
        (claim,) = await Claims(self.store).take(domain)
        return claim

    async def count_mail(self) -> int:
        return int((await self.store.read_ledger())["notices"].get("accepted", 0))

    async def end_lease(self) -> None:
        """Whoever had the lease has died."""
        await self.store.link.call("DEL", make_key(0, "reporting"))

    def read_events(self, name: str) -> list[dict[str, Any]]:
        self.log.flush()
        lines = Path(self.config.log.events).read_bytes().splitlines()
        return [event for event in map(decode_event, lines) if event["event"] == name]


@asynccontextmanager
async def open_office(link: Link, directory: Path, **reports: object) -> AsyncIterator[Office]:
    issued = ROOT.issue("r.test", "q.test")
    zone = {"r.test": {"A": ["127.0.0.1"]}, "q.test": {"A": ["127.0.0.1"]}}
    async with open_nameserver(zone, ttl=1) as names, open_https(issued.make_context()) as web:
        yield Office(make_config(directory, **reports), link, names, web, directory)


@pytest.fixture
async def office(link: Link, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(link, tmp_path) as office:
        office.want("y.test", "mailto:reports@z.test")
        yield office


def open_mail(claim: Claim) -> EmailMessage:
    assert claim.body is not None
    message = email.message_from_bytes(claim.body, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def read_report(message: EmailMessage) -> dict[str, Any]:
    file = list(message.iter_parts())[1]
    found: dict[str, Any] = json.loads(gzip.decompress(file.get_content()))
    return found


# -- A report by mail


async def test_a_report_goes_through_our_queue(office: Office) -> None:
    await office.count("y.test")
    await office.open().take_turn()

    claim = await office.take("z.test")
    delivery, envelope = claim.delivery, claim.delivery.envelope
    assert (envelope.sender, envelope.tls) == (b"tls-reports@gate.example", "optional")
    assert [(r.address, r.notify) for r in envelope.recipients] == [(b"reports@z.test", b"NEVER")]
    assert (delivery.tenant, delivery.pool) == ("tls-reports", "default")
    assert (delivery.notice, delivery.priority) == (True, "bulk")
    assert claim.body is not None
    assert delivery.size == len(claim.body)
    message = open_mail(claim)
    assert message["TLS-Report-Domain"] == "y.test"
    assert message["TLS-Report-Submitter"] == "gate.example"
    report = read_report(message)
    assert report["organization-name"] == "Gate"
    assert report["contact-info"] == "tls-reports@gate.example"
    assert report["date-range"]["start-datetime"] == "2026-11-23T00:00:00Z"
    assert report["policies"][0]["summary"] == {
        "total-successful-session-count": 7,
        "total-failure-session-count": 2,
    }
    assert not await office.is_counted("y.test")


async def test_its_signature_holds(office: Office) -> None:
    await office.count("y.test")
    await office.open().take_turn()
    claim = await office.take("z.test")

    def find_txt(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"tls._domainkey.gate.example."
        return make_record(KEY, "tlsrpt")

    assert claim.body is not None
    assert dkim.verify(claim.body, dnsfunc=find_txt, tlsrpt=True)
    body = claim.body.replace(b"succeeded", b"failed")
    assert not dkim.verify(body, dnsfunc=find_txt, tlsrpt=True)


async def test_events_tell(office: Office) -> None:
    await office.count("y.test")
    await office.open().take_turn()

    (event,) = office.read_events("tls-report")
    claim = await office.take("z.test")
    assert event | {"time": 0} == {
        "time": 0,
        "event": "tls-report",
        "domain": "y.test",
        "to": "mailto:reports@z.test",
        "report": read_report(open_mail(claim))["report-id"],
        "sessions": 9,
        "failures": 2,
        "id": claim.delivery.message_id,
    }
    (accepted,) = office.read_events("accepted")
    assert (accepted["id"], accepted["about"]) == (claim.delivery.message_id, "y.test")
    assert len(await office.store.read_story(claim.delivery.message_id)) == 1


async def test_a_tenant_whose_domain_it_is_sends_it(link: Link, tmp_path: Path) -> None:
    async with open_office(link, tmp_path, sender="tls@Acme.Example") as office:
        document: dict[str, Any] = {
            "ingress": {"hostname": "gate.example"},
            "source": [{"name": "a", "address": "127.0.0.1"}],
            "pool": {"big": {"a": 1}},
            "tenant": [{"name": "acme", "domains": ["acme.example"], "pool": "big"}],
            "tls_reports": {
                "send": True,
                "sender": "tls@Acme.Example",
                "dkim_selector": "tls",
                "dkim_key_file": "key.pem",
            },
        }
        office.config = read(document, base=tmp_path, environment={})
        office.want("y.test", "mailto:reports@z.test")
        await office.count("y.test")
        await office.open().take_turn()

        (claim,) = await Claims(Store(link, office.config)).take("z.test", pool="big")  # type: ignore[arg-type]
        assert (claim.delivery.tenant, claim.delivery.pool) == ("acme", "big")


async def test_many_domains(office: Office) -> None:
    domains = [f"d{number}.test" for number in range(100)]
    for domain in domains:
        office.want(domain, f"mailto:tls@{domain}")
        await office.count(domain)
    await office.open().take_turn()

    assert await office.count_mail() == 100
    assert {event["domain"] for event in office.read_events("tls-report")} == set(domains)
    for shard in range(SHARDS):
        assert await office.sessions.read(YESTERDAY, shard) == {}


# -- When, and who


async def test_the_day_s_turn(link: Link, tmp_path: Path, mock_clock: MockClock) -> None:
    """From before midnight until the report is due, by the clock."""
    async with open_office(link, tmp_path) as office:
        office.want("y.test", "mailto:reports@z.test")
        due = office.open().find_due(YESTERDAY)
        start = (YESTERDAY + 1) * DAY - 600
        await office.count("y.test")
        reporter = office.open(now=lambda: start + trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reporter.run)
            while start + trio.current_time() < due - 60:
                await settle()
                assert await office.count_mail() == 0
                mock_clock.jump(60)
            await settle()
            assert await office.is_counted("y.test")
            mock_clock.jump(120)
            with trio.fail_after(1000):
                while not await office.count_mail():
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def settle() -> None:
    """Let others run who have something to do, and are not waiting for the network."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()


async def test_chance_is_the_same_for_all_workers_and_another_every_day(office: Office) -> None:
    one, two = office.open("one"), office.open("two")
    delays = [one.find_due(day) - (day + 1) * DAY for day in range(YESTERDAY, YESTERDAY + 200)]

    assert delays == [
        two.find_due(day) - (day + 1) * DAY for day in range(YESTERDAY, YESTERDAY + 200)
    ]
    assert len(set(delays)) == 200
    assert LATE + 120 < min(delays) < 2000
    assert 13_000 < max(delays) <= 14_400


async def test_it_is_not_due_yet(office: Office) -> None:
    await office.count("y.test")
    office.now = office.open().find_due(YESTERDAY) - 1
    reporter = office.open()
    assert 0 < await reporter.take_turn() <= 1 + 1e-6

    assert await office.count_mail() == 0
    assert await office.is_counted("y.test")
    office.now += 2
    await reporter.take_turn()
    assert await office.count_mail() == 1


async def test_today_is_not_reported(office: Office) -> None:
    await office.count("y.test", YESTERDAY + 1)
    await office.open().take_turn()

    assert await office.count_mail() == 0
    assert await office.is_counted("y.test", YESTERDAY + 1)


async def test_a_day_that_was_missed_is_made_up_for(office: Office) -> None:
    await office.count("y.test", YESTERDAY - 1)
    await office.count("y.test", YESTERDAY)
    await office.open().take_turn()

    assert await office.count_mail() == 2


async def test_two_workers_make_one_report(office: Office, server: Server) -> None:
    other = Link(server.url, timeout=10)
    await office.count("y.test")
    waits: dict[str, float] = {}

    async def work(name: str, reporter: Reporter) -> None:
        waits[name] = await reporter.take_turn()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "one", office.open("one"))
        nursery.start_soon(work, "two", office.open("two", store=Store(other, office.config)))
    assert await office.count_mail() == 1
    assert min(waits.values()) == 60  # who came second looks again in a minute
    assert len(office.read_events("tls-report")) == 1
    await other.aclose()


async def test_who_made_them_keeps_the_lease_until_the_next_round(
    office: Office, server: Server
) -> None:
    one, two = office.open("one"), office.open("two")
    wait = await one.take_turn()
    assert wait == pytest.approx(300 - 1)
    with server.client() as client:
        assert 290_000 < client.pttl(make_key(0, "reporting")) <= 298_000
    await office.count("y.test")
    assert await two.take_turn() == 60
    assert await one.take_turn() == wait
    assert await office.count_mail() == 0

    office.now += wait
    await one.take_turn()
    assert await office.count_mail() == 1


async def test_it_is_off_unless_asked_for(link: Link, tmp_path: Path) -> None:
    async with open_office(link, tmp_path, send=False) as office:
        office.want("y.test", "mailto:reports@z.test")
        await office.count("y.test")
        with trio.fail_after(1):
            await office.open().run()
        assert await office.is_counted("y.test")


# -- Crashes


@pytest.mark.parametrize("lost", ["question", "answer"])
async def test_death_between_accept_and_remove_sends_one_mail(
    office: Office, server: Server, lost: str
) -> None:
    await office.count("y.test")
    with open_proxy(server.socket) as proxy:
        (proxy.cut_request if lost == "question" else proxy.cut_reply)(b"\r\nHDEL\r\n")
        dying = Link(proxy.url, timeout=5)
        with pytest.raises(StoreUnavailable):
            await office.open("one", store=Store(dying, office.config)).take_turn()
        await dying.aclose()
    assert proxy.cuts == 1
    assert await office.count_mail() == 1
    assert await office.is_counted("y.test") == (lost == "question")

    assert await office.open("two").take_turn() == 60
    await office.end_lease()
    await office.open("two").take_turn()
    assert await office.count_mail() == 1
    assert not await office.is_counted("y.test")
    assert len(office.read_events("tls-report")) == 1


async def test_a_lost_answer_to_accept_sends_one_mail(office: Office, server: Server) -> None:
    await office.count("y.test")
    with open_proxy(server.socket) as proxy:
        proxy.cut_reply(b"TLS-Report-Submitter")
        link = Link(proxy.url, timeout=5)
        await office.open(store=Store(link, office.config)).take_turn()
        await link.aclose()

    assert proxy.cuts == 1
    assert await office.count_mail() == 1
    assert not await office.is_counted("y.test")


async def test_counts_that_come_after_the_mail_do_not_make_another(office: Office) -> None:
    await office.count("y.test")
    await office.open("one").take_turn()
    await office.count("y.test")
    await office.end_lease()
    await office.open("two").take_turn()

    assert await office.count_mail() == 1
    assert not await office.is_counted("y.test")


async def test_store_away_is_tried_again(
    office: Office, server: Server, tmp_path: Path, mock_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    await office.count("y.test")
    with open_proxy(server.socket) as proxy:
        link = Link(proxy.url, timeout=5)
        proxy.cut_request(b"\r\nHSCAN\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(office.open(store=Store(link, office.config)).run)
            while "going on later" not in caplog.text:
                await trio.lowlevel.checkpoint()
            mock_clock.jump(61)
            while not await office.count_mail():
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await link.aclose()


async def test_a_full_store_takes_no_reports(office: Office, server: Server) -> None:
    await office.count("y.test")
    reporter = office.open()
    await office.sessions.lease.take("one")
    with server.client() as client:
        client.config_set("maxmemory", 1 << 20)
        try:
            with pytest.raises(StoreFull):
                await reporter.take_turn()
        finally:
            client.config_set("maxmemory", 0)
    assert await office.count_mail() == 0
    await reporter.take_turn()
    assert await office.count_mail() == 1


async def test_who_has_lost_the_lease_stops(office: Office) -> None:
    office.names.gate = trio.Event()
    domains = [f"d{number}.test" for number in range(40)]
    for domain in domains:
        office.want(domain, f"mailto:tls@{domain}")
        await office.count(domain)
    lost: list[bool] = []

    async def work() -> None:
        try:
            await office.open("one").take_turn()
        except OutgateError:
            lost.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        while not office.names.queries:
            await trio.lowlevel.checkpoint()
        await office.end_lease()
        await office.sessions.lease.take("two")
        office.names.gate.set()
    assert lost
    assert await office.count_mail() < 40


# -- Who does not want it, or cannot be reached


async def test_who_has_changed_his_mind_gets_none(office: Office) -> None:
    await office.count("y.test")
    office.names.zone = {}
    await office.open().take_turn()

    assert await office.count_mail() == 0
    assert not await office.is_counted("y.test")
    assert office.read_events("tls-report-failed") == []


async def test_who_cannot_be_asked_is_asked_again_and_then_given_up(office: Office) -> None:
    await office.count("y.test")
    zone = office.names.zone
    office.names.zone = {"_smtp._tls.y.test": SERVFAIL}
    reporter = office.open()
    await reporter.take_turn()
    assert await office.is_counted("y.test")

    office.now += LAST_ROUND
    await reporter.take_turn()
    assert not await office.is_counted("y.test")
    (event,) = office.read_events("tls-report-failed")
    assert (event["domain"], event["to"], event["sessions"]) == ("y.test", "", 9)
    assert "SERVFAIL" in event["text"]
    office.names.zone = zone
    assert await office.count_mail() == 0


async def test_it_is_posted(office: Office) -> None:
    office.want("x.test", office.post_to())
    office.answer(201)
    await office.count("x.test")
    await office.open().take_turn()

    (request,) = office.web.requests
    assert json.loads(gzip.decompress(request.body))["policies"][0]["policy"] == {
        "policy-type": "no-policy-found",
        "policy-domain": "x.test",
    }
    (event,) = office.read_events("tls-report")
    assert event["to"] == office.post_to()
    assert not await office.is_counted("x.test")
    assert await office.count_mail() == 0


async def test_a_post_that_is_refused_is_repeated(office: Office) -> None:
    office.want("x.test", office.post_to())
    office.answer(503)
    await office.count("x.test")
    reporter = office.open()
    await reporter.take_turn()
    assert await office.is_counted("x.test")
    assert office.read_events("tls-report-failed") == []

    office.answer(200)
    office.now += 300
    await reporter.take_turn()
    assert not await office.is_counted("x.test")
    first, second = office.web.requests
    assert first.body == second.body  # the same id, by which a receiver tells
    assert len(office.read_events("tls-report")) == 1


async def test_rounds_grow_and_end_within_the_day(office: Office) -> None:
    office.want("x.test", office.post_to())
    office.answer(503)
    await office.count("x.test")
    reporter = office.open()
    due = reporter.find_due(YESTERDAY)
    rounds = []
    while await office.is_counted("x.test"):
        office.now += await reporter.take_turn()
        rounds.append(round(office.now - due))

    assert rounds[:-1] == [300, 1800, 7200, 28_800]
    assert len(office.web.requests) == 5
    (event,) = office.read_events("tls-report-failed")
    assert event["to"] == office.post_to()
    assert event["text"] == "r.test answered with 503"
    # The next round is the next day's.
    assert rounds[-1] == round(reporter.find_due(YESTERDAY + 1) - due)


async def test_one_of_several_places_is_enough(office: Office) -> None:
    office.want("x.test", office.post_to("q.test"), "mailto:tls@x.test", office.post_to("r.test"))
    office.answer(500, "q.test")
    office.answer(200, "r.test")
    await office.count("x.test")
    await office.open().take_turn()

    assert not await office.is_counted("x.test")
    assert await office.count_mail() == 1
    assert {event["to"] for event in office.read_events("tls-report")} == {
        "mailto:tls@x.test",
        office.post_to("r.test"),
    }
    (failed,) = office.read_events("tls-report-failed")
    assert failed["to"] == office.post_to("q.test")


async def test_nonsense_in_the_store_is_removed(office: Office, server: Server) -> None:
    with server.client() as client:
        client.hset(make_key(5, "sessions", YESTERDAY), mapping={"junk": 1, '["y.test",7]': 2})
    await office.open().take_turn()

    assert await office.sessions.read(YESTERDAY, 5) == {}


# -- Configuration


async def test_without_a_key_there_is_no_mail(link: Link, tmp_path: Path) -> None:
    async with open_office(link, tmp_path, dkim_selector="", dkim_key_file="") as office:
        office.want("y.test", "mailto:reports@z.test", office.post_to())
        office.answer(200)
        await office.count("y.test")
        await office.open().take_turn()

        assert await office.count_mail() == 0
        assert len(office.web.requests) == 1
        (failed,) = office.read_events("tls-report-failed")
        assert "set tls_reports.dkim_key_file" in failed["text"]


async def test_a_bad_key_is_found_at_the_start(office: Office, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("nonsense")

    with pytest.raises(StartError, match=r"tls_reports\.dkim_key_file: cannot use"):
        office.open()
