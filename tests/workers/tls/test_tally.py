"""Counting TLS sessions: what is put into the store, and what is not."""

import timeit
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from relay.config.schema import Dns
from relay.errors import StoreUnavailable
from relay.net.resolver import Resolver
from relay.store.keys import find_shard
from relay.store.link import Link
from relay.store.tlsrpt import DAY, Session, Sessions, decode
from tests.kit.nameserver import SERVFAIL, Nameserver, Zone, open_nameserver
from tests.kit.proxy import open_proxy
from tests.kit.redis import Server
from workers.tls import tally as module
from workers.tls.tally import LATE, MAX_DETAILS, Tally

TODAY = 20_780
NOON = (TODAY + 0.5) * DAY
WANTS = {"TXT": ['"v=TLSRPTv1; rua=mailto:reports@y.test"']}
ZONE: Zone = {
    "_smtp._tls.y.test": WANTS,
    "_smtp._tls.z.test": WANTS,
    "_smtp._tls.broken.test": SERVFAIL,
}
STS = ("sts", ("version: STSv1", "mode: enforce"), ("*.y.test",))


class Time:
    """What a clock on the wall says."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Counting:
    """A tally, the store behind it, and the DNS that it asks."""

    def __init__(self, tally: Tally, sessions: Sessions, names: Nameserver, time: Time) -> None:
        self.tally = tally
        self.sessions = sessions
        self.names = names
        self.time = time

    async def read(self, domain: str = "y.test", day: int = TODAY) -> dict[Session, int]:
        found = await self.sessions.read(day, find_shard(domain))
        return decode(found.get(domain, {}))


@asynccontextmanager
async def open_counting(link: Link) -> AsyncIterator[Counting]:
    async with open_nameserver(ZONE, ttl=1) as names:
        time, sessions = Time(), Sessions(link)
        resolver = Resolver(Dns(nameservers=(names.endpoint,)))
        yield Counting(Tally(sessions, resolver, now=time), sessions, names, time)


@pytest.fixture
async def counting(link: Link) -> AsyncIterator[Counting]:
    async with open_counting(link) as counting:
        yield counting


async def test_sessions_and_failures_are_counted(counting: Counting) -> None:
    tally = counting.tally
    for host in ("mx1.y.test", "mx2.y.test", "mx1.y.test"):
        tally.note("y.test", *STS, host, "192.0.2.1")
    tally.note(
        "y.test", *STS, "mx3.y.test", "192.0.2.1", "certificate-expired", "late", "192.0.2.7"
    )
    tally.note(
        "y.test", *STS, "mx3.y.test", "192.0.2.2", "certificate-expired", "late", "192.0.2.7"
    )
    assert len(tally) == 3
    await tally.flush()
    assert len(tally) == 0
    for _ in range(2):
        tally.note(
            "y.test", *STS, "mx3.y.test", "192.0.2.2", "certificate-expired", "late", "192.0.2.7"
        )
    await tally.flush()

    failed = ("certificate-expired", "late", "192.0.2.7")
    assert await counting.read() == {
        # A report has no more of a success than its policy.
        Session("y.test", *STS): 3,
        Session("y.test", *STS, "mx3.y.test", "192.0.2.1", *failed): 1,
        Session("y.test", *STS, "mx3.y.test", "192.0.2.2", *failed): 3,
    }


async def test_who_publishes_no_record_is_not_counted(counting: Counting, server: Server) -> None:
    for number in range(30):
        counting.tally.note(f"d{number}.test", "no-policy-found")
    await counting.tally.flush()

    assert len(counting.tally) == 0
    with server.client() as client:
        assert client.keys("*") == []
    assert len(counting.names.queries) == 30
    counting.tally.note("d1.test", "no-policy-found")
    assert len(counting.tally) == 0  # it is known by now


async def test_who_publishes_one_later_is_counted_later(
    counting: Counting, mock_clock: MockClock
) -> None:
    counting.tally.note("new.test", "no-policy-found")
    await counting.tally.flush()
    counting.names.zone = {"_smtp._tls.new.test": WANTS}
    mock_clock.jump(3601)
    counting.tally.note("new.test", "no-policy-found")
    await counting.tally.flush()

    assert await counting.read("new.test") == {Session("new.test", "no-policy-found"): 1}


async def test_who_cannot_be_asked_is_kept_for_the_next_time(
    counting: Counting, mock_clock: MockClock
) -> None:
    counting.tally.note("broken.test", "no-policy-found")
    counting.tally.note("y.test", "no-policy-found")
    await counting.tally.flush()
    assert len(counting.tally) == 1
    assert await counting.read() == {Session("y.test", "no-policy-found"): 1}

    counting.names.zone = {"_smtp._tls.broken.test": WANTS}
    mock_clock.jump(400)
    counting.tally.note("broken.test", "no-policy-found")
    await counting.tally.flush()
    assert len(counting.tally) == 0
    assert await counting.read("broken.test") == {Session("broken.test", "no-policy-found"): 2}


async def test_a_day_is_a_day_in_utc(counting: Counting) -> None:
    counting.time.now = (TODAY + 1) * DAY - 0.5
    counting.tally.note("y.test", "no-policy-found")
    counting.time.now += 1
    counting.tally.note("y.test", "no-policy-found", failing="starttls-not-supported")
    await counting.tally.flush()

    assert await counting.read(day=TODAY) == {Session("y.test", "no-policy-found"): 1}
    failed = Session("y.test", "no-policy-found", failing="starttls-not-supported")
    assert await counting.read(day=TODAY + 1) == {failed: 1}


async def test_what_is_too_late_for_its_report_is_dropped(
    counting: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    for domain in ("broken.test", "broken.test", "y.test"):
        counting.tally.note(domain, "no-policy-found")
    counting.time.now = (TODAY + 1) * DAY + LATE - 1
    await counting.tally.flush()
    assert len(counting.tally) == 1
    assert caplog.text == ""
    counting.time.now += 2
    await counting.tally.flush()

    assert len(counting.tally) == 0
    assert "2 TLS sessions were not counted in time" in caplog.text


async def test_kinds_are_bounded_and_it_is_said_once(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_KINDS", 10)
    monkeypatch.setattr(module, "_MAX_PLAIN", 2)
    for number in range(500):
        for domain in ("y.test", "z.test", "w.test"):
            counting.tally.note(domain, *STS, f"mx{number}", "192.0.2.1", "validation-failure", "x")
    assert len(counting.tally) == 12
    await counting.tally.flush()

    found = {domain: await counting.read(domain) for domain in ("y.test", "z.test")}
    plain = [session for counts in found.values() for session in counts if not session.host]
    assert plain == [Session("z.test", "sts", failing="validation-failure")]
    assert [sum(counts.values()) for counts in found.values()] == [4, 500]
    assert [record.message for record in caplog.records] == [
        "496 TLS sessions are in no report: there are too many kinds"
    ]


async def test_nobody_takes_the_others_place(counting: Counting) -> None:
    """A host that always has another certificate, or a zone with ever new records."""
    for number in range(3):
        for kind in range(MAX_DETAILS):
            text = f"{number}/{kind}"
            counting.tally.note("y.test", "tlsa", (text,))
            counting.tally.note("y.test", "tlsa", failing="validation-failure", text=text)
        counting.tally.note("z.test", *STS)
        await counting.tally.flush()

    counts = await counting.read()
    assert len(counts) <= MAX_DETAILS + 2
    assert sum(counts.values()) == 6 * MAX_DETAILS
    assert counts[Session("y.test", "tlsa")] >= 2 * MAX_DETAILS
    assert await counting.read("z.test") == {Session("z.test", *STS): 3}


async def test_what_strangers_write_is_cut(counting: Counting) -> None:
    long = "x" * 100_000
    counting.tally.note(
        "y.test", "sts", (long,) * 99, (long,) * 99, long, "", "validation-failure", long
    )
    await counting.tally.flush()

    (session,) = await counting.read()
    assert (len(session.strings), len(session.mx_pattern)) == (20, 20)
    assert max(map(len, session.strings)) == 300
    assert len(session.text) == 160
    assert len(session.host) <= 300


@pytest.mark.parametrize("lost", ["question", "answer"])
@pytest.mark.parametrize("command", ["HLEN", "HINCRBY"])
async def test_store_trouble_counts_nothing_twice(server: Server, lost: str, command: str) -> None:
    with open_proxy(server.socket) as proxy:
        link = Link(proxy.url, timeout=5)
        async with open_counting(link) as counting:
            cut = proxy.cut_request if lost == "question" else proxy.cut_reply
            cut(f"\r\n{command}\r\n".encode())
            counting.tally.note("y.test", "no-policy-found")
            with pytest.raises(StoreUnavailable):
                await counting.tally.flush()
            assert proxy.cuts == 1
            # Where nobody knows, it counts as counted.
            assert len(counting.tally) == (1 if command == "HLEN" else 0)

            counting.tally.note("y.test", "no-policy-found")
            await counting.tally.flush()
            times = 1 if (lost, command) == ("question", "HINCRBY") else 2
            assert await counting.read() == {Session("y.test", "no-policy-found"): times}
        await link.aclose()


async def test_it_flushes_every_minute_and_at_the_end(
    counting: Counting, mock_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counting.tally.run)
        counting.tally.note("y.test", "no-policy-found")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(61)
        with trio.fail_after(1000):
            while not await counting.read():
                await trio.lowlevel.checkpoint()
        counting.tally.note("z.test", "no-policy-found")
        nursery.cancel_scope.cancel()

    assert await counting.read() == {Session("y.test", "no-policy-found"): 1}
    assert await counting.read("z.test") == {Session("z.test", "no-policy-found"): 1}


async def test_trouble_ends_nothing(
    counting: Counting, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    counting.tally._sessions = None  # type: ignore[assignment]
    counting.tally._audience.wants = lambda _: True  # type: ignore[assignment]
    with trio.move_on_after(150):
        counting.tally.note("y.test", "no-policy-found")
        await counting.tally.run()

    assert caplog.text.count("TLS sessions are not counted") == 3


async def test_a_flush_that_is_cancelled_loses_nothing(counting: Counting) -> None:
    counting.names.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        counting.tally.note("y.test", "no-policy-found")
        nursery.start_soon(counting.tally.flush)
        while not counting.names.queries:
            await trio.lowlevel.checkpoint()
        counting.tally.note("y.test", "no-policy-found")
        nursery.cancel_scope.cancel()
    counting.names.gate.set()
    await counting.tally.flush()

    assert await counting.read() == {Session("y.test", "no-policy-found"): 2}


async def test_noting_costs_microseconds(counting: Counting) -> None:
    def note() -> None:
        counting.tally.note("y.test", *STS, "mx.y.test", "192.0.2.1")

    best = min(timeit.repeat(note, number=1000, repeat=5)) / 1000
    assert best < 20e-6  # some 1 on an idle machine
