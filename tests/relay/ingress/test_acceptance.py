"""From the final dot to the 250: limits, rules, changes, copies; real sessions, a real store."""

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.ingress.desk import Desk
from relay.model import Delivery
from relay.store.keys import find_shard
from relay.store.queue import INLINE_OCTETS, Store
from tests.kit.audit import check
from tests.kit.redis import Server
from tests.kit.signing import SigningDomain
from tests.kit.visit import (
    Client,
    OpenDoor,
    make_config,
    make_desk,
    read_events,
    read_id,
    read_parts,
    split_trace,
    visit,
)
from tests.relay.dkim.made import KnownKeys, make_record
from tests.relay.dkim.made import check as check_signature

MESSAGE = b"From: a@acme.example\r\nSubject: Offer\r\n\r\nhello\r\n"
LARGE = MESSAGE + b"a line of the body\r\n" * (INLINE_OCTETS // 8)
FindQueued = Callable[[], Awaitable[dict[str, Delivery]]]
Open = Callable[..., AbstractAsyncContextManager[tuple[Client, Desk]]]


@pytest.fixture
def enter(tmp_path: Path, store: Store) -> Open:
    """Visit an ingress with these settings of tenant acme, and these tables."""

    @asynccontextmanager
    async def enter(
        *, tenant: dict[str, Any] | None = None, **tables: Any
    ) -> AsyncIterator[tuple[Client, Desk]]:
        acme = {"name": "acme", "domains": ["acme.example"], "networks": ["192.0.2.0/24"]}
        tables = {
            "tenant": [acme | (tenant or {})],
            "source": [{"name": "a", "address": "127.0.0.1"}],
            "pool": {"default": {"a": 1}, "second": {"a": 1}},
            **tables,
        }
        desk = make_desk(make_config(tmp_path, tables=tables), store)
        async with visit(desk) as client:
            yield client, desk

    return enter


async def send(
    client: Client, message: bytes = MESSAGE, *, recipients: tuple[bytes, ...] = (b"b@y.test",)
) -> bytes:
    await client.say(b"EHLO me.test")
    await client.say(b"MAIL FROM:<a@acme.example>")
    for recipient in recipients:
        reply = await client.say(b"RCPT TO:<%b>" % recipient)
        if reply[:3] != b"250":
            return reply
    return await client.send_data(message)


async def read_stored(store: Store, message_id: str) -> bytes:
    """Return a message as it is stored, without our Received line."""
    return split_trace(b"".join(await read_parts(store, message_id)))[1]


# -- limits of a tenant


async def test_size_is_limited_before_and_after_it_has_come(enter: Open) -> None:
    async with enter(tenant={"max_message": 2000}) as (client, _):
        await client.say(b"EHLO me.test")
        reply = await client.say(b"MAIL FROM:<a@acme.example> SIZE=2001")
        assert reply == b"552 5.3.4 Message too big: at most 2000 octets\r\n"

        assert (await send(client, MESSAGE + b"x" * 1998 + b"\r\n"))[:9] == b"552 5.3.4"
        read_id(await send(client))


async def test_recipients_are_limited(enter: Open) -> None:
    people = tuple(b"%d@y.test" % number for number in range(4))
    async with enter(tenant={"max_recipients": 3}) as (client, _):
        assert (await send(client, recipients=people))[:9] == b"452 4.5.3"
        # RFC 5321 §4.5.3.1.10: what was taken before goes on.
        read_id(await client.send_data(MESSAGE))


async def test_what_is_too_much_is_told_with_a_reason(enter: Open) -> None:
    async with enter(tenant={"max_message": 2000}) as (client, desk):
        await client.say(b"EHLO me.test")
        await client.say(b"MAIL FROM:<a@acme.example> SIZE=2001")
        await send(client, MESSAGE + b"x" * 1998 + b"\r\n")
        await send(client, b"Received: x\r\n" * 101 + MESSAGE)
        events = read_events(desk)
    assert [event["event"] for event in events] == ["refused"] * 3
    assert [str(event["reason"]).split(":")[0] for event in events] == [
        "Message too big", "Message too big", "Too many hops",
    ]  # fmt: skip
    assert {event["tenant"] for event in events} == {"acme"}


async def test_too_many_recipients_of_a_null_sender_are_not_asked_to_come_again(
    tmp_path: Path, store: Store
) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef0123")
    tenant = {
        "networks": ["192.0.2.0/24"], "proof": ["header"], "header": "X-Relay",
        "header_secret_file": "secret", "max_recipients": 1,
    }  # fmt: skip
    names = ("acme", "other")
    tenants = [tenant | {"name": name, "domains": [f"{name}.example"]} for name in names]
    desk = make_desk(make_config(tmp_path, tables={"tenant": tenants}), store)
    async with visit(desk) as client:
        for line in (
            b"EHLO me.test",
            b"MAIL FROM:<>",
            b"RCPT TO:<b@y.test>",
            b"RCPT TO:<c@y.test>",
        ):
            assert (await client.say(line))[:3] == b"250"
        reply = await client.send_data(b"X-Relay: 0123456789abcdef0123\r\n" + MESSAGE)
    assert reply == b"550 5.5.3 Too many recipients: at most 1\r\n"


async def test_messages_are_counted_over_all_processes(enter: Open, store: Store) -> None:
    async with enter(tenant={"messages": ["1000/s", "3/h"]}) as (first, _):
        read_id(await send(first))
        async with enter(tenant={"messages": ["1000/s", "3/h"]}) as (second, desk):
            read_id(await send(second))
            read_id(await send(second))
            reply = await send(first)
            assert (await send(second))[:9] == b"451 4.7.0"
        assert reply[:41] == b"451 4.7.0 Too many messages, try again in"
        assert 3500 < int(reply.split()[-2]) < 3900
        assert read_events(desk)[-1]["event"] == "limited"


async def test_what_is_refused_for_the_stores_sake_is_not_counted(
    enter: Open, server: Server
) -> None:
    async with enter(tenant={"messages": "1/h"}) as (client, _):
        with server.client() as redis:
            redis.config_set("maxmemory", 1)
            try:
                assert (await send(client))[:9] == b"452 4.3.1"
            finally:
                redis.config_set("maxmemory", 0)
        read_id(await send(client))
        assert (await send(client))[:9] == b"451 4.7.0"


async def test_what_is_put_off_or_refused_is_not_counted(enter: Open, tmp_path: Path) -> None:
    reject = {"name": "no-offers", "action": "reject", "header": [{"name": "X-Offer"}]}
    async with enter(tenant={"messages": "1/h"}, rule=[reject], archive={"directory": "kept"}) as (
        client,
        _,
    ):
        assert (await send(client, b"X-Offer: 1\r\n" + MESSAGE))[:9] == b"550 5.7.1"
        (tmp_path / "kept" / "acme").write_text("")
        assert (await send(client))[:9] == b"451 4.3.0"
        (tmp_path / "kept" / "acme").unlink()
        read_id(await send(client))
        assert (await send(client))[:9] == b"451 4.7.0"


async def test_sessions_of_a_tenant_are_limited(enter: Open) -> None:
    async with enter(tenant={"connections": 1}) as (client, desk):
        read_id(await send(client))
        async with visit(desk) as second:
            assert (await send(second))[:9] == b"451 4.7.0"
        read_id(await send(client))
    async with visit(desk) as third:
        read_id(await send(third))


async def test_a_session_that_has_proven_nothing_does_not_count(enter: Open) -> None:
    async with enter(tenant={"connections": 1}) as (client, desk):
        await client.open_transaction()
        async with visit(desk) as second:
            read_id(await send(second))


async def test_without_memory_a_message_is_put_off(enter: Open) -> None:
    async with enter() as (client, desk):
        door = desk.door
        assert isinstance(door, OpenDoor)
        door.memory = 10_000
        assert (await send(client, LARGE))[:9] == b"452 4.3.1"
        assert door.memory == 10_000
        read_id(await send(client))
        assert door.memory == 10_000


async def test_a_head_is_counted_while_it_is_held(enter: Open) -> None:
    async with enter() as (client, desk):
        door = desk.door
        assert isinstance(door, OpenDoor)
        before = door.memory
        head = b"X: " + b"x" * 100_000 + b"\r\n" + MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 2]
        chunk = (head + b"\r\n").ljust(INLINE_OCTETS + 1, b"x")
        await client.open_transaction()
        for _ in range(2):
            await client.send(b"BDAT %d\r\n" % len(chunk) + chunk)
            assert (await client.read_reply())[:3] == b"250"
            assert before - door.memory == 2 * len(head)
        read_id(await client.say(b"BDAT 0 LAST"))
        assert door.memory == before


async def test_what_is_put_off_holds_no_memory_until_its_end(enter: Open) -> None:
    async with enter() as (client, desk):
        door = desk.door
        assert isinstance(door, OpenDoor)
        door.memory = 250_000
        await client.open_transaction()
        left = []
        for _ in range(4):
            await client.send(b"BDAT 100000\r\n" + MESSAGE.ljust(100_000, b"x"))
            assert (await client.read_reply())[:3] == b"250"
            left.append(door.memory)
        assert left == [150_000, 50_000, 250_000, 250_000]
        assert (await client.say(b"BDAT 0 LAST"))[:9] == b"452 4.3.1"
        assert door.memory == 250_000


async def test_what_is_stored_is_counted_no_more(enter: Open) -> None:
    async with enter() as (client, desk):
        door = desk.door
        assert isinstance(door, OpenDoor)
        door.memory = before = 3 * INLINE_OCTETS
        read_id(await send(client, LARGE + LARGE))  # 5 times that
        assert door.memory == before


# -- the event


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
async def test_event_says_what_its_sender_calls_the_message(enter: Open, message: bytes) -> None:
    async with enter() as (client, desk):
        read_id(await send(client, b"Message-ID: <1@acme.example>\r\n" + message))
        read_id(await send(client, message))
        named, nameless = read_events(desk)
    assert named["message_id"] == "<1@acme.example>"
    assert "message_id" not in nameless


# -- rules


async def test_a_rule_refuses_in_its_own_words(enter: Open, server: Server) -> None:
    rule = {"name": "no-offers", "action": "reject", "text": "No offers here"}
    condition = {"name": "Subject", "pattern": "offer"}
    async with enter(rule=[rule | {"header": [condition]}]) as (client, desk):
        assert await send(client) == b"550 5.7.1 No offers here\r\n"
        read_id(await send(client, b"Subject: x\r\n\r\n"))
        refused, accepted = read_events(desk)
    assert (refused["event"], refused["rule"]) == ("refused", "no-offers")
    assert refused["reason"]
    assert "rule" not in accepted
    assert check(server).total("ledger") == {"accepted": 1, "queued": 1}


async def test_a_rule_directs_where_a_message_goes_and_how(
    enter: Open, find_queued: FindQueued
) -> None:
    rule = {
        "name": "direct", "pool": "second", "priority": "bulk", "tls": "verify",
        "copy_to": ["c@audit.test", "b@y.test"],
    }  # fmt: skip
    async with enter(rule=[rule]) as (client, desk):
        read_id(await send(client))
        (event,) = read_events(desk)
    queued = await find_queued()
    assert queued.keys() == {"y.test", "audit.test"}
    for delivery in queued.values():
        assert (delivery.pool, delivery.priority) == ("second", "bulk")
        assert delivery.envelope.tls == "verified"
        assert len(delivery.envelope.recipients) == 1
    assert queued["audit.test"].envelope.recipients[0].notify == b"NEVER"
    assert event["recipients"] == ["b@y.test", "c@audit.test"]
    assert event["rule"] == "direct"


async def test_requiretls_is_not_made_less_by_a_rule(enter: Open) -> None:
    # Only inside TLS is it offered; the envelope's word is what counts here.
    message = b"TLS-Required: No\r\n" + MESSAGE
    async with enter(rule=[{"name": "verify", "tls": "verify"}]) as (client, desk):
        message_id = read_id(await send(client, message))
        stored = await desk.store.read_story(message_id)
    assert stored


async def test_what_a_rule_holds_waits_and_its_story_says_why(
    enter: Open, store: Store, server: Server, find_queued: FindQueued
) -> None:
    rule = {"name": "look-first", "action": "hold", "recipients_over": 1}
    people = (b"b@y.test", b"c@z.test")
    async with enter(rule=[rule]) as (client, desk):
        message_id = read_id(await send(client, recipients=people))
        events = read_events(desk)
    assert [event["event"] for event in events] == ["accepted", "held", "held"]
    assert {event["delivery"] for event in events[1:]} == {f"{message_id}.0", f"{message_id}.1"}
    assert all(event["who"] == "rule look-first" for event in events[1:])
    assert await find_queued() == {}
    assert check(server).total("ledger") == {"accepted": 2, "queued": 2}
    place = await store.read_place(f"{message_id}.0", "y.test")
    assert place is not None
    assert place.state == "due"
    assert (place.until or 0) - time.time() == pytest.approx(5 * 86400, abs=60)
    assert find_shard("y.test") != find_shard("z.test")  # so one of them went through the outbox


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
async def test_a_tag_goes_on_top_and_the_rest_stays(
    enter: Open, store: Store, find_queued: FindQueued, message: bytes
) -> None:
    rule = {"name": "tag", "tag": {"name": "X-Checked", "value": "yes"}}
    async with enter(rule=[rule]) as (client, desk):
        message_id = read_id(await send(client, message))
        (event,) = read_events(desk)
    stored = await read_stored(store, message_id)
    assert stored == b"X-Checked: yes\r\n" + message
    delivery = (await find_queued())["y.test"]
    parts = await read_parts(store, message_id)
    assert delivery.size == sum(map(len, parts))
    assert delivery.chunks == len(parts)
    assert event["changed"] == ["tag"]


@pytest.mark.parametrize("large", [False, True])
async def test_a_footer_is_signed_again(
    enter: Open, store: Store, tmp_path: Path, large: bool
) -> None:
    acme = SigningDomain("acme.example", selector="new")
    (tmp_path / "key.pem").write_bytes(acme.write_key())
    key = {"domain": "acme.example", "selector": "new", "key_file": "key.pem"}
    message = SigningDomain("acme.example").sign(LARGE if large else MESSAGE)
    async with enter(
        tenant={"dkim": [key]},
        rule=[{"name": "legal", "footer": "legal"}],
        footer=[{"name": "legal", "text": "Acme Ltd"}],
    ) as (client, desk):
        message_id = read_id(await send(client, message))
        (event,) = read_events(desk)
    stored = await read_stored(store, message_id)
    assert stored.count(b"Acme Ltd") == 1
    assert stored.startswith(b"DKIM-Signature:")
    assert stored.count(b"DKIM-Signature:") == 2
    assert event["changed"] == ["footer", "signed by acme.example"]
    keys = KnownKeys(make_record(acme.key), name="new._domainkey.acme.example")
    assert (await check_signature(stored, keys)).selector == "new"


async def test_what_gets_smaller_is_stored_over_what_it_was(
    enter: Open, store: Store, tmp_path: Path, find_queued: FindQueued
) -> None:
    (tmp_path / "key.pem").write_bytes(SigningDomain("acme.example").write_key())
    key = {"domain": "acme.example", "selector": "new", "key_file": "key.pem"}
    # In lines of a few characters it was more than one part; with a footer its lines are full.
    lines = b"bGluZ\r\nSBvbm\r\nUgMQ0\r\nKMDAw\r\n" * (INLINE_OCTETS // 26)
    message = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines
    async with enter(
        tenant={"dkim": [key]},
        rule=[{"name": "legal", "footer": "legal"}],
        footer=[{"name": "legal", "text": "Acme Ltd"}],
        archive={"directory": "kept"},
    ) as (client, _):
        message_id = read_id(await send(client, message))
    delivery = (await find_queued())["y.test"]
    parts = (await read_parts(store, message_id))[: delivery.chunks]
    assert 32 * 1024 < sum(map(len, parts)) < INLINE_OCTETS < len(message)
    body = split_trace(b"".join(parts))[1].partition(b"\r\n\r\n")[2]
    assert base64.b64decode(body).endswith(b"Acme Ltd")
    (kept,) = (tmp_path / "kept").rglob(f"{message_id}*")
    assert kept.read_bytes().endswith(b"".join(parts))
    assert delivery.size == sum(map(len, parts))


async def test_what_cannot_have_a_footer_goes_as_it_is(
    enter: Open, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_bytes(SigningDomain("acme.example").write_key())
    key = {"domain": "acme.example", "selector": "new", "key_file": "key.pem"}
    message = b"Content-Type: multipart/encrypted; boundary=x\r\n\r\n--x\r\n\r\n--x--\r\n"
    async with enter(
        tenant={"dkim": [key]},
        rule=[{"name": "legal", "footer": "legal"}],
        footer=[{"name": "legal", "text": "Acme Ltd"}],
    ) as (client, desk):
        message_id = read_id(await send(client, message))
        (event,) = read_events(desk)
    assert await read_stored(store, message_id) == message
    assert event["changed"] == []
    assert "footer" in str(event["not_changed"])


# -- the archive


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
async def test_the_archive_has_what_was_accepted_as_it_is_stored(
    enter: Open, store: Store, tmp_path: Path, message: bytes
) -> None:
    async with enter(archive={"directory": "kept"}) as (client, desk):
        message_id = read_id(await send(client, message))
        (event,) = read_events(desk)
    (kept,) = (tmp_path / "kept").rglob(f"{message_id}*")
    stored = b"".join(await read_parts(store, message_id))
    assert kept.read_bytes().endswith(stored)
    assert event["archived"] is True


async def test_only_what_a_rule_says_is_kept(enter: Open, tmp_path: Path) -> None:
    async with enter(
        archive={"directory": "kept", "messages": "rules"},
        rule=[{"name": "keep", "archive": True, "header": [{"name": "X-Keep"}]}],
    ) as (client, _):
        read_id(await send(client))
        message_id = read_id(await send(client, b"X-Keep: 1\r\n" + MESSAGE))
    kept = [path.name for path in (tmp_path / "kept").rglob("*.mail")]
    assert len(kept) == 1
    assert kept[0].startswith(message_id)


async def test_without_the_archive_nothing_is_accepted(
    enter: Open, tmp_path: Path, server: Server
) -> None:
    async with enter(archive={"directory": "kept"}) as (client, desk):
        # A file where the tenant's directory would be: root is stopped by it, too.
        (tmp_path / "kept" / "acme").write_text("")
        reply = await send(client)
        assert reply == b"451 4.3.0 Cannot take the message now, try again later\r\n"
        assert read_events(desk)[-1]["event"] == "postponed"
    assert check(server).total("ledger") == {}
