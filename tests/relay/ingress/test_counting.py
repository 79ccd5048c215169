"""What sessions count: each message once, by what it was answered."""

import ssl
from pathlib import Path

import pytest

from relay.ingress.desk import Desk
from relay.net.certificates import Certificates
from relay.store.queue import Store
from tests.kit.counted import Counted
from tests.kit.visit import Client, OpenDoor, make_config, make_desk, visit

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture
def counted() -> Counted:
    return Counted()


async def send(client: Client, **more: bytes) -> bytes:
    await client.open_transaction(**more)
    return await client.send_data(MESSAGE)


async def test_an_accepted_message_counts_once_with_its_octets(
    real_desk: Desk, counted: Counted
) -> None:
    async with visit(real_desk) as client:
        for _ in range(3):
            assert (await send(client))[:3] == b"250"

    assert counted.read("messages") == {("acme", "accepted"): 3}
    assert counted.read("message_bytes")["in",] > 3 * len(MESSAGE)
    assert counted.count("accept_seconds") == 3
    assert counted.read("tls_sessions") == {("in", "none", ""): 1}


async def test_a_session_with_tls_counts_by_its_version(
    real_desk: Desk, store: Store, certificates: Certificates, client_context: ssl.SSLContext,
    counted: Counted, tmp_path: Path,
) -> None:  # fmt: skip
    desk = make_desk(make_config(tmp_path), store, tls=certificates)
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"STARTTLS")
        await client.start_tls(client_context, "gw.example.net")
        for _ in range(2):
            assert (await send(client))[:3] == b"250"

    assert counted.read("tls_sessions") == {("in", "opportunistic", "TLSv1.3"): 1}


async def test_a_session_without_a_message_counts_for_nothing(
    real_desk: Desk, counted: Counted
) -> None:
    async with visit(real_desk) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"QUIT")

    assert counted.read("tls_sessions") == {}
    assert counted.read("messages") == {}


async def test_who_may_not_send_is_refused_without_a_tenant(desk: Desk, counted: Counted) -> None:
    async with visit(desk, address="203.0.113.9") as client:
        await client.say(b"EHLO me.test")
        assert (await client.say(b"MAIL FROM:<a@acme.example>"))[:3] == b"550"

    assert counted.read("messages") == {("", "refused"): 1}


async def test_without_a_store_it_is_postponed(desk: Desk, counted: Counted) -> None:
    async with visit(desk) as client:
        assert (await send(client))[:3] == b"451"

    assert counted.read("messages") == {("acme", "postponed"): 1}
    assert counted.count("accept_seconds") == 0


async def test_a_closed_door_postpones(desk: Desk, counted: Counted) -> None:
    door = desk.door
    assert isinstance(door, OpenDoor)
    door.trouble = (452, "4.3.1", "Out of space, try again later")
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"MAIL FROM:<a@acme.example>")

    assert counted.read("messages") == {("", "postponed"): 1}


@pytest.fixture
def limited(tmp_path: Path, store: Store) -> Desk:
    acme = {"name": "acme", "domains": ["acme.example"], "networks": ["192.0.2.0/24"]}
    config = make_config(tmp_path, tables={"tenant": [acme | {"messages": "1/h"}]})
    return make_desk(config, store)


async def test_more_than_its_limit_is_limited(limited: Desk, counted: Counted) -> None:
    async with visit(limited) as client:
        assert (await send(client))[:3] == b"250"
        assert (await send(client))[:3] == b"451"

    assert counted.read("messages") == {("acme", "accepted"): 1, ("acme", "limited"): 1}
