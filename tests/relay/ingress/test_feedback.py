"""Reports that come to a mailbox domain of ours: from anybody, counted once, and no way through us."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.events import decode_event, encode_event
from relay.ingress.admission import Refusal
from relay.ingress.desk import Desk
from relay.ingress.draft import Draft
from relay.smtp.command import Mail
from relay.store.feedback import Complaint, LateBounce, take_signals
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.messages import Claims
from tests.kit.redis import Server
from tests.kit.reports import make_arf, make_bounce, make_original
from tests.kit.visit import Client, OpenDoor, make_config, make_desk, read_events, read_id, visit

STRANGER = "203.0.113.9"
RCPT = b"RCPT TO:<abuse@fbl.example.net>"
BIG = 20_000
TABLES = {
    "feedback": {"domains": ["fbl.example.net"], "max_message": BIG},
    "source": [{"name": "a", "address": "198.51.100.7"}, {"name": "b", "address": "198.51.100.8"}],
}


@pytest.fixture
def desk(tmp_path: Path, store: Store) -> Desk:
    return make_desk(make_config(tmp_path, tables=TABLES), store)


@pytest.fixture
async def message(desk: Desk, store: Store) -> str:
    """The id of a message to three people at two domains, all of whom have it."""
    async with visit(desk) as client:
        await client.open_transaction(recipient=b"Bob@y.test")
        assert (await client.say(b"RCPT TO:<eve@y.test>"))[:3] == b"250"
        assert (await client.say(b"RCPT TO:<joe@z.test>"))[:3] == b"250"
        message_id = read_id(await client.send_data(b"Subject: news\r\n\r\nhello\r\n"))
    await deliver(store, "y.test", "a", "Bob@y.test", "eve@y.test")
    await deliver(store, "z.test", "b", "joe@z.test")
    return message_id


async def deliver(store: Store, domain: str, source: str, *people: str) -> None:
    claim = await Claims(store).take_one(domain)
    event = {
        "time": time.time(),
        "event": "delivered",
        "id": claim.delivery.message_id,
        "delivery": claim.delivery.id,
        "domain": domain,
        "source": source,
        "site": f"site-{domain}",
        "recipients": [{"address": one, "outcome": "delivered"} for one in people],
    }
    assert await store.settle(claim, encode_event(event))


@asynccontextmanager
async def report(
    desk: Desk, *, address: str = STRANGER, sender: bytes = b""
) -> AsyncIterator[Client]:
    """Begin a transaction to the mailbox."""
    async with visit(desk, address=address) as client:
        for line in (b"EHLO fbl.test", b"MAIL FROM:<%b>" % sender, RCPT):
            reply = await client.say(line)
            assert reply[:3] == b"250", reply
        yield client


async def send(desk: Desk, content: bytes, **more: Any) -> bytes:
    async with report(desk, **more) as client:
        return await client.send_data(content)


def read_feedback(desk: Desk) -> list[dict[str, Any]]:
    return [event for event in read_events(desk) if event["event"] == "feedback"]


async def read_story(store: Store, message_id: str) -> list[dict[str, Any]]:
    story = [decode_event(line) for line in await store.read_story(message_id)]
    return [event for event in story if event["event"] == "feedback"]


async def test_a_complaint_is_counted_for_who_sent_the_message(
    desk: Desk, store: Store, link: Link, message: str
) -> None:
    reply = await send(desk, make_arf(make_original(message), recipient="bob@Y.test"))

    assert reply[:9] == b"250 2.0.0"
    signals = await take_signals(link, 10)
    assert signals == [Complaint(message, "acme", "a", "site-y.test", "Bob@y.test", "abuse")]
    (event,) = read_feedback(desk)
    assert (event["id"], event["tenant"], event["counted"]) == (message, "acme", True)
    assert (event["kind"], event["type"], event["client"]) == ("complaint", "abuse", STRANGER)
    assert [event] == await read_story(store, message)


async def test_the_same_one_twice_counts_once(desk: Desk, link: Link, message: str) -> None:
    for _ in range(2):
        await send(desk, make_arf(make_original(message)))
    await send(desk, make_arf(make_original(message), kind="fraud"))
    await send(desk, make_arf(make_original(message), recipient="eve@y.test"))

    signals = await take_signals(link, 10)
    assert [(one.recipient, one.kind) for one in signals if isinstance(one, Complaint)] == [
        ("Bob@y.test", "abuse"), ("Bob@y.test", "fraud"), ("eve@y.test", "abuse"),
    ]  # fmt: skip
    counted = [event["counted"] for event in read_feedback(desk)]
    assert counted == [True, False, True, True]


async def test_people_who_did_not_get_it_are_one(desk: Desk, link: Link, message: str) -> None:
    for number in range(3):
        await send(desk, make_arf(make_original(message), recipient=f"x{number}@y.test"))

    (signal,) = await take_signals(link, 10)
    assert signal.recipient == ""


async def test_without_recipient_its_way_is_told_by_where_it_came_from(
    desk: Desk, link: Link, message: str
) -> None:
    await send(desk, make_arf(make_original(message), recipient="", source_ip="198.51.100.8"))
    await send(desk, make_arf(make_original(message), recipient="", kind="virus"))

    known, unknown = await take_signals(link, 10)
    assert (known.tenant, known.source, known.site) == ("acme", "b", "site-z.test")
    assert (unknown.tenant, unknown.source, unknown.site) == ("acme", "", "")


@pytest.mark.parametrize(
    ("original", "text"),
    [
        (make_original("01KAZYTA0000000000000000" + "0"), "no message of ours stands in it"),
        (make_original("01KAZYTA000000000000000ZZ"[:24]), "no message of ours stands in it"),
        (make_original("01KAZYTA0000000000000003"), "its message is not known, or not any more"),
        (b"Subject: x\r\n", "no message of ours stands in it"),
    ],
)
async def test_one_that_names_no_message_counts_for_nobody(
    desk: Desk, server: Server, link: Link, original: bytes, text: str
) -> None:
    with server.client() as client:
        before = client.dbsize()
        reply = await send(desk, make_arf(original, source_ip="198.51.100.8"))
        assert client.dbsize() == before

    assert reply[:3] == b"250"
    (event,) = read_feedback(desk)
    assert (event["counted"], event["text"], event["source"]) == (False, text, "b")
    assert await take_signals(link, 10) == []


async def test_another_hosts_field_is_not_ours(desk: Desk, link: Link, message: str) -> None:
    await send(desk, make_arf(make_original(message, hostname="other.example.net")))

    assert await take_signals(link, 10) == []


@pytest.mark.parametrize("kind", ["not-spam", "auth-failure", "strange"])
async def test_a_report_that_is_no_complaint_is_told_and_no_signal(
    desk: Desk, store: Store, link: Link, message: str, kind: str
) -> None:
    await send(desk, make_arf(make_original(message), kind=kind))

    assert await take_signals(link, 10) == []
    (event,) = await read_story(store, message)
    assert event["type"] == ("other" if kind == "strange" else kind)


async def test_a_late_bounce(desk: Desk, link: Link, message: str) -> None:
    people = ["bob@y.test", "joe@z.test", "who@y.test", "what@y.test"]
    await send(desk, make_bounce(make_original(message), people))

    signals = await take_signals(link, 10)
    text = "550 5.1.1 no such user"
    assert signals == [
        LateBounce(message, "acme", "a", "site-y.test", "Bob@y.test", "5.1.1", text),
        LateBounce(message, "acme", "b", "site-z.test", "joe@z.test", "5.1.1", text),
        LateBounce(message, "acme", "", "", "", "5.1.1", text),
    ]
    assert len(read_feedback(desk)) == 3  # of a hundred strangers one line, too


async def test_a_delay_is_no_bounce(desk: Desk, store: Store, link: Link, message: str) -> None:
    await send(desk, make_bounce(make_original(message), action="delayed"))

    assert await take_signals(link, 10) == []
    assert [event["type"] for event in await read_story(store, message)] == ["delayed"]


@pytest.mark.parametrize("content", [b"", b"\r\n", b"Subject: hi\r\n\r\nhello\r\n"])
async def test_what_is_no_report_is_taken_and_dropped(
    desk: Desk, server: Server, content: bytes
) -> None:
    with server.client() as client:
        before = client.dbsize()
        reply = await send(desk, content, sender=b"joe@elsewhere.test")
        assert client.dbsize() == before

    assert reply[:3] == b"250"
    (event,) = read_feedback(desk)
    assert (event["kind"], event["sender"]) == ("other", "joe@elsewhere.test")


# -- no way through us


async def test_whoever_reports_may_send_nothing_else(desk: Desk) -> None:
    async with visit(desk, address=STRANGER) as client:
        await client.say(b"EHLO fbl.test")
        assert (await client.say(b"MAIL FROM:<a@acme.example>"))[:3] == b"250"
        for address in (b"b@y.test", b"b@x.fbl.example.net", b"a%y.test@gw.example.net"):
            reply = await client.say(b"RCPT TO:<%b>" % address)
            assert reply == b"550 5.7.1 Relaying denied\r\n"
        assert (await client.say(b"DATA"))[:3] == b"554"
        assert (await client.say(RCPT))[:3] == b"250"
        assert (await client.say(b"RCPT TO:<b@y.test>"))[:3] == b"550"
    refused = [event for event in read_events(desk) if event["event"] == "refused"]
    assert len(refused) == 1  # not a line for each recipient


@pytest.mark.parametrize("reports", [False, True])
async def test_while_networks_are_not_known_other_mail_comes_again(
    desk: Desk, reports: bool
) -> None:
    refusal = Refusal("Not ready", "there are sets whose networks are not known yet", True)
    draft = Draft(Mail(b""), (), 0.0, refusal=refusal, is_report=reports)

    assert desk.mailbox.keep_out(draft) == (451, "4.7.1", "Not ready")
    assert desk.mailbox.find_obstacle(draft) is None


async def test_a_report_goes_nowhere(desk: Desk, store: Store) -> None:
    async with report(desk) as client:
        assert (await client.say(b"RCPT TO:<b@y.test>"))[:3] == b"550"
        assert (await client.send_data(b"Subject: x\r\n\r\nbuy\r\n"))[:3] == b"250"

    assert (await store.read_ledger())["ledger"]["accepted"] == 0


@pytest.mark.parametrize("first", [RCPT, b"RCPT TO:<b@y.test>"])
async def test_a_tenants_mail_and_a_report_do_not_mix(
    desk: Desk, store: Store, first: bytes
) -> None:
    other = b"RCPT TO:<b@y.test>" if first == RCPT else RCPT
    async with visit(desk) as client:
        for line in (b"EHLO me.test", b"MAIL FROM:<a@acme.example>", first):
            assert (await client.say(line))[:3] == b"250"
        assert (await client.say(other))[:9] == b"452 4.5.3"
        assert (await client.send_data(b"Subject: x\r\n\r\nhello\r\n"))[:3] == b"250"

    accepted = (await store.read_ledger())["ledger"]["accepted"]
    assert accepted == (0 if first == RCPT else 1)


async def test_without_such_domains_a_stranger_hears_no_at_once(
    tmp_path: Path, store: Store
) -> None:
    async with visit(make_desk(make_config(tmp_path), store), address=STRANGER) as client:
        await client.say(b"EHLO fbl.test")
        assert (await client.say(b"MAIL FROM:<>"))[:9] == b"550 5.7.1"


async def test_the_domain_in_any_spelling(desk: Desk) -> None:
    async with report(desk) as client:
        assert (await client.say(b"RCPT TO:<x@FBL.Example.NET>"))[:3] == b"250"


async def test_who_reports_stays_a_stranger(desk: Desk) -> None:
    async with report(desk) as client:
        await client.send_data(b"Subject: x\r\n\r\n")
        assert not client.session.proven


# -- bounds and failures


@pytest.mark.parametrize("way", ["DATA", "BDAT", "SIZE"])
async def test_a_report_that_is_too_large(desk: Desk, way: str) -> None:
    door = desk.door
    assert isinstance(door, OpenDoor)
    free = door.memory
    content = b"Subject: x\r\n\r\n" + b"line of the text\r\n" * (BIG // 16)
    async with visit(desk, address=STRANGER) as client:
        await client.say(b"EHLO fbl.test")
        size = b" SIZE=%d" % len(content) if way == "SIZE" else b""
        await client.say(b"MAIL FROM:<>" + size)
        if way == "SIZE":
            assert (await client.say(RCPT))[:9] == b"552 5.3.4"
            return
        await client.say(RCPT)
        send = (
            client.send_data(content) if way == "DATA" else client.send_chunks(content, size=5000)
        )
        assert (await send)[:9] == b"552 5.3.4"
        assert (await client.say(b"NOOP"))[:3] == b"250"
    assert door.memory == free
    assert read_feedback(desk) == []


async def test_a_large_one_is_read_all_the_same(
    tmp_path: Path, store: Store, link: Link, message: str
) -> None:
    tables = {**TABLES, "feedback": {"domains": ["fbl.example.net"]}}
    desk = make_desk(make_config(tmp_path, tables=tables), store)
    large = make_arf(make_original(message)).replace(b"Buy now\r\n", b"Buy now\r\n" * 80_000)
    assert len(large) > 700_000

    assert (await send(desk, large))[:3] == b"250"

    assert len(await take_signals(link, 10)) == 1


async def test_while_the_store_is_away_it_comes_again(
    desk: Desk, server: Server, message: str, tmp_path: Path
) -> None:
    link = Link(f"unix://{tmp_path}/nobody", timeout=1)
    away = make_desk(desk.config, Store(link, desk.config))
    try:
        reply = await send(away, make_arf(make_original(message)))
    finally:
        await link.aclose()

    assert reply[:9] == b"451 4.3.0"
    assert read_feedback(away) == []


async def test_while_nothing_can_be_taken_no_report_is(desk: Desk) -> None:
    desk.door.trouble = (451, "4.3.0", "Cannot store messages now")  # type: ignore[attr-defined]
    async with visit(desk, address=STRANGER) as client:
        await client.say(b"EHLO fbl.test")
        assert (await client.say(b"MAIL FROM:<>"))[:3] == b"451"
