"""Opening sessions: what is counted, what is remembered, and what happens when less is shown than before."""

import dataclasses
import gc
from collections.abc import AsyncIterator
from pathlib import Path as File
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.config import Config
from relay.config.schema import Source, Tls
from relay.config.units import Seconds
from relay.events import EventLog, decode_event
from relay.net.egress import DirectEgress
from relay.net.resolver import Resolver
from relay.store.keys import find_shard, make_key
from relay.store.learnt import Learnt
from relay.store.link import Link
from relay.store.queue import Store
from relay.store.tlsrpt import Sessions
from tests.kit.authority import Authority
from tests.kit.peer import ScriptedHost, find_refusing_host, make_path, open_host
from tests.kit.redis import Server
from workers.opening import Opener, make_opener
from workers.peer import HostFailed, Peer
from workers.tls.account import Account
from workers.tls.guard import Guard
from workers.tls.learnt import Memory
from workers.tls.pkix import Authorities
from workers.tls.tally import Tally

SOURCE = Source(name="a", address="127.0.0.11", ehlo="a.out.test")


class Book:
    """What a tally was told: kind, host, failing."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def note(self, domain: str, kind: str, strings: Any, mx: Any, host: str, *rest: str) -> None:
        assert domain == "y.test"
        self.lines.append((kind, host, rest[1]))


@dataclasses.dataclass
class Office:
    """An opener with all that it may have around it."""

    authority: Authority
    opener: Opener
    book: Book
    link: Link
    events: EventLog
    path: File

    def make_host(self, name: str = "mx.test") -> Any:
        return self.authority.issue(name).make_context()

    async def call(
        self, *hosts: ScriptedHost, guard: Guard | None = None, domain: str = "y.test"
    ) -> Peer:
        made = [host.make_host() for host in hosts]
        path = make_path(*made)
        if guard is not None:
            guarded = tuple(dataclasses.replace(host, guard=guard) for host in path.hosts)
            path = dataclasses.replace(path, hosts=guarded)
        egress = DirectEgress(SOURCE.address)
        return await self.opener.open(path, SOURCE, egress, domain=domain)

    async def remember(self, *, first: int, last: int) -> None:
        key = make_key(find_shard("mx.test"), "learnt", "mx.test")
        await self.link.call("HSET", key, "first", first, "last", last)

    def read_events(self) -> list[dict[str, Any]]:
        self.events.flush()
        return [decode_event(line) for line in self.path.read_bytes().splitlines()]


@pytest.fixture
async def office(server: Server, tmp_path: File) -> AsyncIterator[Office]:
    authority, book, link = Authority(), Book(), Link(server.url, timeout=10)
    events = EventLog(str(tmp_path / "events"))
    opener = Opener(
        Authorities.load(str(authority.write(tmp_path))),
        Account(book, None),  # type: ignore[arg-type]
        Memory(Learnt(link), Tls(learn_after=Seconds(100))),
        events,
    )
    yield Office(authority, opener, book, link, events, tmp_path / "events")
    await link.aclose()


# -- what is counted


@pytest.mark.parametrize("counts", [True, False])
async def test_what_is_counted_is_counted_from_the_first_on(
    config: Config, store: Store, office: Office, *, counts: bool
) -> None:
    tally = Tally(Sessions(store.link), Resolver(config.dns)) if counts else None
    assert (make_opener(config, store, None, tally, office.events).account is not None) is counts


async def test_a_session_is_counted_once_as_it_was(office: Office) -> None:
    async with open_host(tls=office.make_host()) as good, open_host() as bare:
        await (await office.call(good)).quit()
        await (await office.call(bare)).quit()
    assert office.book.lines == [
        ("no-policy-found", "mx.test", ""),
        ("no-policy-found", "mx.test", "starttls-not-supported"),
    ]


async def test_what_is_opened_for_nobody_is_not_counted(office: Office) -> None:
    async with open_host(tls=office.make_host()) as host:
        await (await office.call(host, domain="")).quit()
    assert office.book.lines == []


async def test_who_it_is_does_not_count_where_nobody_has_said(office: Office) -> None:
    async with open_host(tls=office.make_host("other.test")) as host:
        peer = await office.call(host)
        await peer.quit()
    assert office.book.lines == [("no-policy-found", "mx.test", "")]
    assert peer.proof.failing == "certificate-host-mismatch"
    assert not peer.proof.verified


async def test_each_host_that_is_not_what_it_should_be_is_counted(office: Office) -> None:
    issued = office.authority.issue("mx.test")
    wrong = Guard("dane", "verify", ("mx.test",), (issued.tlsa(3, 1, 1),))
    async with open_host(tls=office.make_host()) as one, open_host() as two:
        with pytest.raises(HostFailed) as failed:
            await office.call(one, two, guard=wrong)
    assert failed.value.outcome.status == "4.7.5"
    assert [failing for _, _, failing in office.book.lines] == [
        "validation-failure",
        "starttls-not-supported",
    ]
    assert not one.messages


async def test_a_host_that_is_not_there_is_no_matter_of_tls(office: Office) -> None:
    path = make_path(find_refusing_host())
    with pytest.raises(HostFailed):
        await office.opener.open(path, SOURCE, DirectEgress(SOURCE.address), domain="y.test")
    assert office.book.lines == []


# -- what is remembered


async def test_validated_tls_is_remembered_and_nothing_else_is(office: Office) -> None:
    learnt = Learnt(office.link)
    async with (
        open_host() as bare,
        open_host(tls=office.make_host("other.test")) as other,
        open_host(tls=office.make_host()) as good,
    ):
        for host in (bare, other):
            await (await office.call(host)).quit()
            assert await learnt.read("mx.test") == (0, 0)
        await (await office.call(good)).quit()
    first, last = await learnt.read("mx.test")
    assert 0 < first <= last


@pytest.mark.parametrize("script", ["", "HANDSHAKE eof"], ids=["not offered", "broken"])
@pytest.mark.parametrize(
    ("first", "last", "expected"), [(1000, 1101, True), (1000, 1050, False), (0, 0, False)]
)
@pytest.mark.parametrize("refuses", [False, True])
async def test_less_than_was_shown_before(
    office: Office, script: str, first: int, last: int, *, expected: bool, refuses: bool
) -> None:
    await office.remember(first=first, last=last)
    office.opener.refuses_downgrade = refuses
    tls = office.make_host() if script else None
    async with open_host(script, tls=tls) as host:
        if expected and refuses:
            with pytest.raises(HostFailed, match="has shown validated TLS until lately"):
                await office.call(host)
        else:
            peer = await office.call(host)
            assert not peer.proof.protocol
            await peer.quit()
    events = office.read_events()
    assert [event["event"] for event in events] == ["tls-downgraded"] * expected
    assert all(event["refused"] is refuses and event["host"] == "mx.test" for event in events)


async def test_a_store_that_is_away_holds_nothing_up(office: Office) -> None:
    await office.link.aclose()
    async with open_host(tls=office.make_host()) as good, open_host() as bare:
        for host in (good, bare):
            await (await office.call(host)).quit()
    assert office.read_events() == []


async def test_a_session_whose_opening_is_given_up_is_closed(office: Office) -> None:
    """We stop, say, while the store takes its time to note what was shown."""
    async with open_host(tls=office.make_host()) as host, trio.open_nursery() as nursery:
        (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = silent.socket.getsockname()[1]
        link = Link(f"redis://127.0.0.1:{port}/0", timeout=0.5)
        office.opener.memory = Memory(Learnt(link), Tls())
        nursery.start_soon(office.call, host)
        await host.wait_until(lambda: host.commands.count("EHLO a.out.test") == 2)
        await wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
    await link.aclose()
    await silent.aclose()
    gc.collect()  # a socket that nobody has closed is a warning here, and so an error
