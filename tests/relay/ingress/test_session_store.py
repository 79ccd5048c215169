"""What a session stores, what it reports, and what it says when the store is in trouble."""

import dataclasses
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trio

from relay.config.units import Seconds
from relay.ingress.desk import Desk
from relay.model import Delivery
from relay.store.link import Link
from relay.store.queue import INLINE_OCTETS, Store
from tests.kit.redis import Server, open_server
from tests.kit.visit import (
    OpenDoor,
    make_config,
    make_desk,
    read_events,
    read_id,
    read_parts,
    split_trace,
    visit,
)

# -- what is stored, and said about it


async def test_the_received_line_is_all_that_is_added(real_desk: Desk, store: Store) -> None:
    content = b"Received: from elsewhere\r\nSubject: x\r\n\r\n.\r\n..\r\nend\r\n"
    async with visit(real_desk) as client:
        await client.open_transaction()
        before = int(time.time())
        message_id = read_id(await client.send_data(content))

    trace, rest = split_trace(b"".join(await read_parts(store, message_id)))
    assert rest == content
    found = re.fullmatch(
        rb"Received: from me\.test \(\[192\.0\.2\.1\]\) by gw\.example\.net \(outgate\)"
        rb" with ESMTP id ([0-9A-Z]{24}) for <b@y\.test>; (.*)",
        trace,
    )
    assert found is not None
    assert found[1].decode() == message_id
    stamp = time.strptime(found[2].decode(), "%a, %d %b %Y %H:%M:%S -0000")
    assert before - 1 <= time.mktime(stamp) - time.timezone <= time.time() + 1


async def test_several_recipients_are_not_told_of_each_other(real_desk: Desk, store: Store) -> None:
    async with visit(real_desk) as client:
        await client.open_transaction()
        await client.say(b"RCPT TO:<hidden@z.test>")
        message_id = read_id(await client.send_data(b"x\r\n"))

    stored = b"".join(await read_parts(store, message_id))
    assert b"@" not in stored


Queued = Callable[[], Awaitable[dict[str, Delivery]]]


async def test_the_envelope_is_kept_with_its_parameters(
    real_desk: Desk, store: Store, find_queued: Queued
) -> None:
    async with visit(real_desk) as client:
        for line in (
            b"EHLO me.test",
            b"MAIL FROM:<a@acme.example> RET=HDRS ENVID=QQ1 BODY=8BITMIME SMTPUTF8 SIZE=5",
            b"RCPT TO:<b@Y.test> NOTIFY=success,failure ORCPT=rfc822;B@y.test",
            b"RCPT TO:<c@y.TEST>",
            "RCPT TO:<d@bücher.test>".encode(),
            b"RCPT TO:<Postmaster>",
        ):
            assert (await client.say(line))[:3] == b"250"
        message_id = read_id(await client.send_data(b"x\r\n"))

    queued = await find_queued()
    one, two, three = [queued[d] for d in ("y.test", "xn--bcher-kva.test", "acme.example")]
    assert [(r.address, r.notify, r.orcpt) for r in one.envelope.recipients] == [
        (b"b@Y.test", b"SUCCESS,FAILURE", b"rfc822;B@y.test"), (b"c@y.TEST", b"", b""),
    ]  # fmt: skip
    assert [r.address for r in two.envelope.recipients] == ["d@bücher.test".encode()]
    assert [r.address for r in three.envelope.recipients] == [b"Postmaster@acme.example"]
    for delivery in (one, two, three):
        envelope = delivery.envelope
        assert (envelope.ret, envelope.envid, envelope.body) == (b"HDRS", b"QQ1", b"8BITMIME")
        assert envelope.smtputf8
        assert not delivery.alone
        assert delivery.tenant == "acme"
        assert delivery.newline
        assert delivery.message_id == message_id
        assert delivery.size == len(b"".join(await read_parts(store, message_id)))


@pytest.mark.parametrize(
    ("content", "newline"), [(b"a\r\n", True), (b"a", False), (b"", True), (b"a\r\n\r\n", True)]
)
async def test_whether_the_message_ends_in_crlf_is_kept(
    content: bytes, newline: bool, real_desk: Desk, find_queued: Queued
) -> None:
    async with visit(real_desk) as client:
        await client.open_transaction()
        read_id(await client.send_chunks(content, size=1))

    assert (await find_queued())["y.test"].newline is newline


@pytest.mark.parametrize("size", [INLINE_OCTETS - 300, INLINE_OCTETS, 900_000, 3_000_000])
@pytest.mark.parametrize("chunk", [0, 8_192, 100_000, 1_000_000])
async def test_large_messages_are_stored_as_they_are(
    size: int, chunk: int, real_desk: Desk, store: Store, find_queued: Queued
) -> None:
    line = b".%061d\r\n"
    content = b"\r\n" + b"".join(line % number for number in range(size // 64))  # an empty head
    async with visit(real_desk) as client:
        await client.open_transaction()
        if chunk:
            message_id = read_id(await client.send_chunks(content, size=chunk))
        else:
            message_id = read_id(await client.send_data(content))

    parts = await read_parts(store, message_id)
    assert split_trace(b"".join(parts))[1] == content
    assert len(parts) <= 1 + size // INLINE_OCTETS
    delivery = (await find_queued())["y.test"]
    assert (delivery.chunks, delivery.size) == (len(parts), sum(map(len, parts)))


async def test_accepted_and_refused_are_events_with_stable_keys(real_desk: Desk) -> None:
    async with visit(real_desk) as client:
        await client.open_transaction()
        message_id = read_id(await client.send_data(b"x\r\n"))
        await client.say(b"MAIL FROM:<x@elsewhere.test>")

    accepted, refused = read_events(real_desk)
    assert abs(float(str(accepted.pop("time"))) - time.time()) < 60
    assert int(str(accepted.pop("size"))) > 3
    assert accepted == {
        "event": "accepted", "id": message_id, "tenant": "acme", "proof": "network",
        "sender": "a@acme.example",
        "recipients": ["b@y.test"], "client": "192.0.2.1", "hello": "me.test", "tls": "",
    }  # fmt: skip
    assert abs(float(str(refused.pop("time"))) - time.time()) < 60
    assert refused == {
        "event": "refused", "client": "192.0.2.1", "hello": "me.test",
        "sender": "x@elsewhere.test", "reason": "no tenant has elsewhere.test",
    }  # fmt: skip


async def test_a_message_in_a_loop_is_refused(real_desk: Desk) -> None:
    hops = b"Received: from somewhere\r\n"
    async with visit(real_desk) as client:
        for count, reply in ((99, b"250 2.0.0"), (100, b"554 5.4.6")):
            await client.open_transaction()
            assert (await client.send_data(hops * count + b"\r\n"))[:9] == reply
            await client.open_transaction()
            assert (await client.send_chunks(hops * count + b"\r\n", size=40))[:9] == reply


# -- the store in trouble


async def test_a_full_store_is_452_and_nothing_is_accepted(
    real_desk: Desk, server: Server, store: Store
) -> None:
    async with visit(real_desk) as client:
        await client.open_transaction()
        with server.client() as redis:
            redis.config_set("maxmemory", 1)
            try:
                reply = await client.send_data(b"x\r\n")
                large = b"y" * 998 + b"\r\n"
                await client.open_transaction()
                large_reply = await client.send_data(b"\r\n" + large * 700)
            finally:
                redis.config_set("maxmemory", 0)
        assert reply == b"452 4.3.1 Out of space, try again later\r\n"
        assert large_reply == reply
        assert (await store.read_ledger())["ledger"]["accepted"] == 0

        await client.open_transaction()
        read_id(await client.send_data(b"x\r\n"))


async def test_a_store_that_went_away_is_451_and_doubt_waits_for_it(tmp_path: Path) -> None:
    with open_server() as server:
        link = Link(server.url, timeout=2)
        config = make_config(tmp_path)
        desk = make_desk(config, Store(link, config))
        try:
            async with visit(desk) as doubtful, visit(desk) as client:
                for one in (doubtful, client):
                    await one.open_transaction()
                    read_id(await one.send_data(b"x\r\n"))
                server.kill()
                # This one goes out on the connection that just broke: it may have arrived, and
                # only the store can say.
                await doubtful.open_transaction()
                await doubtful.say(b"DATA")
                await doubtful.send(b"x\r\n.\r\n")
                await trio.sleep(0.05)

                await client.open_transaction()
                reply = await client.send_data(b"x\r\n")
                assert reply == b"451 4.3.0 Cannot store the message now, try again later\r\n"

                server.start()
                await client.open_transaction()
                read_id(await client.send_data(b"x\r\n"))
                read_id(await doubtful.read_reply())
            assert (await desk.store.read_ledger())["ledger"]["accepted"] == 4
        finally:
            await link.aclose()


async def test_a_slow_store_is_not_the_clients_silence(
    tmp_path: Path, store: Store, server: Server
) -> None:
    config = make_config(tmp_path)
    hasty = msgspec.structs.replace(
        config.ingress, command_timeout=Seconds(0.1), data_timeout=Seconds(0.1)
    )
    desk = make_desk(msgspec.structs.replace(config, ingress=hasty), store)
    async with visit(desk) as client:
        await client.open_transaction()
        await client.say(b"DATA")
        with server.client() as redis:
            redis.execute_command("CLIENT", "PAUSE", 250, "ALL")

        read_id(await client.say(b"x\r\n."))


async def test_trouble_is_told_at_mail(desk: Desk) -> None:
    door = OpenDoor()
    door.trouble = (452, "4.3.1", "Out of space")
    desk = dataclasses.replace(desk, door=door)
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")
        assert await client.say(b"MAIL FROM:<a@acme.example>") == b"452 4.3.1 Out of space\r\n"
        door.trouble = None
        await client.open_transaction()


async def test_while_a_set_of_networks_is_not_known_its_senders_come_again(
    tmp_path: Path, store: Store
) -> None:
    """It has no seed, and nobody has published it to us yet: that is no reason to bounce mail."""
    tables = {
        "network": [{"name": "partner", "spf": "_spf.partner.example"}],
        "tenant": [{"name": "acme", "domains": ["acme.example"], "networks": ["partner"]}],
    }
    desk = make_desk(make_config(tmp_path, tables=tables), store)
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")
        assert (await client.say(b"MAIL FROM:<a@acme.example>"))[:9] == b"451 4.7.1"
