"""Whose message is it? Real sessions, keys in a real name server."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.config import Endpoint, Seconds
from relay.config.schema import Dns
from relay.ingress.desk import Desk
from relay.net.resolver import Resolver
from relay.store.queue import INLINE_OCTETS, Store
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from tests.kit.signing import SigningDomain, make_rsa_key
from tests.kit.visit import Client, make_config, make_desk, read_events, read_id, visit

SECRET = "0123456789abcdef0123"
ACME = SigningDomain("acme.example", key=make_rsa_key())
BELOW = SigningDomain("mail.acme.example")
FALLBACK = SigningDomain("acme-example.20230601.gappssmtp.com", selector="20230601")
EVIL = SigningDomain("evil.test")
ZONE: dict[str, Any] = ACME.zone | BELOW.zone | FALLBACK.zone | EVIL.zone
MESSAGE = b"From: Ann <ann@acme.example>\r\nTo: b@y.test\r\nSubject: x\r\n\r\nhello\r\n"
DENIED = b"550 5.7.1 Relaying denied: no proof that the owner of the sender's domain sent this\r\n"


@pytest.fixture
async def dns() -> AsyncIterator[Nameserver]:
    async with open_nameserver(dict(ZONE)) as server:
        yield server


Open = Callable[..., AbstractAsyncContextManager[tuple[Client, Desk]]]


@pytest.fixture
def enter(tmp_path: Path, store: Store, dns: Nameserver) -> Open:
    """Visit an ingress with a tenant acme that has these settings."""
    (tmp_path / "secret").write_text(SECRET)

    @asynccontextmanager
    async def enter(
        *, others: tuple[dict[str, Any], ...] = (), **settings: Any
    ) -> AsyncIterator[tuple[Client, Desk]]:
        tenant = {
            "name": "acme",
            "domains": ["acme.example"],
            "networks": ["192.0.2.0/24"],
            "header": "X-Acme-Relay",
            "header_secret_file": "secret",
            **settings,
        }
        other = {"name": "other", "domains": ["other.example"], "networks": ["192.0.2.0/24"]}
        partner = {"name": "partner", "spf": "partner.test"}  # which nobody has looked up
        tables = {"tenant": [tenant, other, *others], "network": [partner]}
        config = make_config(tmp_path, tables=tables)
        resolver = Resolver(Dns(nameservers=(Endpoint("127.0.0.1", dns.port),), timeout=Seconds(2)))
        desk = make_desk(config, store, resolver=resolver)
        async with visit(desk) as client:
            yield client, desk

    return enter


async def send(client: Client, message: bytes, *, sender: bytes = b"ann@acme.example") -> bytes:
    """Hand a message in; return the last reply."""
    reply = await client.say(b"EHLO me.test")
    for line in (b"MAIL FROM:<%b>" % sender, b"RCPT TO:<b@y.test>"):
        reply = await client.say(line)
        if reply[:3] != b"250":
            return reply
    return await client.send_data(message)


# -- by a signature


@pytest.mark.parametrize("size", [0, 100_000, 3 * INLINE_OCTETS])
async def test_a_signature_of_the_tenant_is_proof(enter: Open, size: int) -> None:
    message = ACME.sign(MESSAGE + b"line\r\n" * (size // 6))
    async with enter(proof=["dkim"]) as (client, desk):
        message_id = read_id(await send(client, message))

        (event,) = read_events(desk)
    assert (event["id"], event["tenant"]) == (message_id, "acme")
    assert (event["proof"], event["signed_by"], event["seen"]) == ("dkim", "acme.example", 0)


async def test_googles_own_signature_for_the_tenant_is_proof(enter: Open) -> None:
    async with enter(proof=["dkim"]) as (client, desk):
        read_id(await send(client, FALLBACK.sign(MESSAGE)))
        assert read_events(desk)[0]["signed_by"] == FALLBACK.domain


async def test_googles_own_signature_can_be_declined(enter: Open) -> None:
    async with enter(proof=["dkim"], dkim_fallback=False) as (client, _):
        assert await send(client, FALLBACK.sign(MESSAGE)) == DENIED


@pytest.mark.parametrize(("subdomains", "code"), [(False, b"550"), (True, b"250")])
async def test_a_signature_of_a_subdomain(enter: Open, subdomains: bool, code: bytes) -> None:
    async with enter(proof=["dkim"], subdomains=subdomains) as (client, _):
        assert (await send(client, BELOW.sign(MESSAGE)))[:3] == code


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        EVIL.sign(MESSAGE),
        ACME.sign(MESSAGE).replace(b"hello", b"hallo"),
        ACME.sign(MESSAGE) + b"more\r\n",
        b"From: other@acme.example\r\n" + ACME.sign(MESSAGE),
        ACME.sign(MESSAGE).replace(b"Subject: x", b"Subject: y"),
    ],
)
async def test_no_signature_no_relaying(enter: Open, message: bytes) -> None:
    async with enter(proof=["dkim"]) as (client, desk):
        assert await send(client, message) == DENIED
        (event,) = read_events(desk)
    assert (event["event"], event["tenant"]) == ("refused", "acme")
    assert event["reason"]


async def test_a_changed_part_of_a_large_message_is_found(enter: Open) -> None:
    message = bytearray(ACME.sign(MESSAGE + b"line\r\n" * (INLINE_OCTETS // 2)))
    message[-10] ^= 1
    async with enter(proof=["dkim"]) as (client, _):
        assert await send(client, bytes(message)) == DENIED


@pytest.mark.parametrize("trouble", ["name", "all"])
async def test_without_an_answer_from_the_dns_the_sender_comes_again(
    enter: Open, dns: Nameserver, trouble: str
) -> None:
    if trouble == "all":
        dns.trouble = SERVFAIL
    else:
        dns.zone = {**ZONE, "s1._domainkey.acme.example": SERVFAIL}
    async with enter(proof=["dkim"]) as (client, desk):
        reply = await send(client, ACME.sign(MESSAGE))
        assert reply == b"451 4.7.5 Cannot verify who sent this now, try again later\r\n"
        (event,) = read_events(desk)
    assert event["event"] == "postponed"


async def test_a_key_that_is_gone_is_no_proof(enter: Open, dns: Nameserver) -> None:
    dns.zone = {}
    async with enter(proof=["dkim"]) as (client, _):
        assert await send(client, ACME.sign(MESSAGE)) == DENIED


async def test_a_signature_that_comes_again_is_noted(enter: Open) -> None:
    message = ACME.sign(MESSAGE)
    async with enter(proof=["dkim"]) as (client, desk):
        for _ in range(3):
            read_id(await send(client, message))
        assert [event["seen"] for event in read_events(desk)] == [0, 1, 2]


async def test_the_loop_goes_on_while_a_large_message_is_verified(enter: Open) -> None:
    message = ACME.sign(MESSAGE + b"a line of some words \t here\r\n" * 1_200_000)  # 34 MB
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            start = trio.current_time()
            await trio.sleep(0.001)
            longest = max(longest, trio.current_time() - start)

    async with enter(proof=["dkim"]) as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        read_id(await send(client, message))
        nursery.cancel_scope.cancel()
    assert longest < 0.5


# -- by the secret header


async def test_the_secret_header_is_proof_and_needs_no_dns(enter: Open, dns: Nameserver) -> None:
    dns.trouble = SERVFAIL
    message = f"X-Acme-Relay: {SECRET}\r\n".encode() + MESSAGE
    async with enter(proof=["dkim", "header"]) as (client, desk):
        read_id(await send(client, message))
        (event,) = read_events(desk)
    assert event["proof"] == "header"
    assert SECRET not in str(event)
    assert not [name for name, _ in dns.queries if "_domainkey" in name]


async def test_a_wrong_secret_is_no_proof_and_is_not_told(enter: Open) -> None:
    message = f"X-Acme-Relay: {SECRET}x\r\n".encode() + MESSAGE
    async with enter(proof=["header"]) as (client, desk):
        reply = await send(client, message)
        (event,) = read_events(desk)
    assert reply == DENIED
    assert event["reason"] == "no valid secret header"
    assert SECRET not in str(event)


async def test_one_of_both_is_enough(enter: Open) -> None:
    message = b"X-Acme-Relay: a-guess-of-16-octets\r\n" + ACME.sign(MESSAGE)
    async with enter(proof=["header", "dkim"]) as (client, desk):
        read_id(await send(client, message))
        assert read_events(desk)[0]["proof"] == "dkim"


# -- the null sender


async def test_the_null_sender_needs_proof(enter: Open) -> None:
    async with enter(proof=["dkim", "header"]) as (client, desk):
        assert await send(client, MESSAGE, sender=b"") == DENIED
        assert await send(client, EVIL.sign(MESSAGE), sender=b"") == DENIED
        read_id(await send(client, ACME.sign(MESSAGE), sender=b""))
        secret = f"X-Acme-Relay: {SECRET}\r\n".encode()
        read_id(await send(client, secret + MESSAGE, sender=b""))
        events = [event for event in read_events(desk) if event["event"] == "accepted"]
    assert [event["proof"] for event in events] == ["dkim", "header"]
    assert [event["tenant"] for event in events] == ["acme", "acme"]


async def test_the_null_sender_is_nobodys_where_nobody_asks_for_proof(enter: Open) -> None:
    async with enter() as (client, _):
        reply = await send(client, ACME.sign(MESSAGE), sender=b"")
        assert reply == b"550 5.7.1 Relaying denied for the null sender\r\n"


async def test_the_null_sender_may_come_again_while_not_all_networks_are_known(
    enter: Open,
) -> None:
    late = {"name": "late", "domains": ["evil.test"], "networks": ["partner"], "proof": ["dkim"]}
    async with enter(others=(late,), proof=["dkim"]) as (client, desk):
        reply = await send(client, EVIL.sign(MESSAGE), sender=b"")
        assert reply == b"451 4.7.5 Cannot verify who sent this now, try again later\r\n"
        (event,) = read_events(desk)
    assert event["event"] == "postponed"
    assert "not known yet" in str(event["reason"])


# -- alignment


@pytest.mark.parametrize(
    ("field", "code"),
    [
        (b"From: ann@acme.example", b"250"),
        (b"From: ann@mail.acme.example", b"550"),
        (b"From: ann@evil.test", b"550"),
        (b"From: ann@acme.example, b@evil.test", b"550"),
        (b"From: ann@acme.example\r\nFrom: b@evil.test", b"550"),
        (b"X: 1", b"550"),
    ],
)
async def test_from_must_be_of_the_tenant_where_that_is_asked_for(
    enter: Open, field: bytes, code: bytes
) -> None:
    message = field + b"\r\nSubject: x\r\n\r\nhello\r\n"
    async with enter(align_from=True) as (client, _):
        assert (await send(client, message))[:3] == code
    async with enter() as (client, _):
        assert (await send(client, message))[:3] == b"250"
