"""A Google Workspace customer who is no tenant, and wants to send as one.

Google's addresses are its addresses, STARTTLS is in order, and nothing stops it from writing whatever
it likes into envelope and header. Real sessions from an address of Google's, real keys in a real name
server, a real store; what gets in is counted there.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.config import Endpoint, Seconds
from relay.config.schema import Dns
from relay.ingress.desk import Desk
from relay.net.resolver import Resolver
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.nameserver import open_nameserver
from tests.kit.redis import Server
from tests.kit.signing import SigningDomain
from tests.kit.visit import Client, make_config, make_desk, read_events, read_id, visit
from tests.relay.dkim.made import ED25519, make_record, sign_as, write_txt

GOOGLE = "209.85.220.41"
SECRET = "kept-by-acme-0123456789"
NOW = int(time.time())

ACME = SigningDomain("acme.example", key=ED25519)
EVIL = SigningDomain("evil.test")
ZONE: dict[str, Any] = ACME.zone | EVIL.zone | {
    "s._domainkey.acme.example": {"TXT": [write_txt(make_record(ED25519))]},
}  # fmt: skip
for _domain in (
    "evil-acme-example.20230601.gappssmtp.com",
    "acme-example.evil.gappssmtp.com",
    "acme-example.20230601.gappssmtp.com.evil.test",
    "notacme.example",
    "sub.acme.example",
    "acme.example.evil.test",
):
    ZONE |= SigningDomain(_domain, key=EVIL.key).zone

MESSAGE = b"From: Ann <ann@acme.example>\r\nTo: b@y.test\r\nSubject: Invoice\r\n\r\nPlease pay.\r\n"
TENANT = b"ann@acme.example"


def sign_like(domain: str) -> bytes:
    """Return the message with a signature of a domain that has the impostor's key."""
    return SigningDomain(domain, key=EVIL.key).sign(MESSAGE)


def add(*fields: str) -> bytes:
    """Return the message with more header fields on top."""
    return "".join(f"{field}\r\n" for field in fields).encode() + MESSAGE


# What is tried: the envelope's sender, and the message.
VARIATIONS: dict[str, tuple[bytes, bytes]] = {
    "spoofed MAIL FROM": (TENANT, MESSAGE),
    "spoofed MAIL FROM, in other case": (b"Ann@ACME.Example", MESSAGE),
    "spoofed From only": (b"me@evil.test", MESSAGE),
    "own MAIL FROM and From, own signature": (
        b"me@evil.test",
        EVIL.sign(MESSAGE.replace(b"acme.example", b"evil.test")),
    ),
    "null sender": (b"", MESSAGE),
    "null sender, own signature": (b"", EVIL.sign(MESSAGE)),
    "MAIL FROM below the tenant's domain": (b"ann@sub.acme.example", sign_like("sub.acme.example")),
    "MAIL FROM that ends like the tenant's": (
        b"ann@notacme.example",
        sign_like("notacme.example"),
    ),
    "MAIL FROM that begins like the tenant's": (
        b"ann@acme.example.evil.test",
        sign_like("acme.example.evil.test"),
    ),
    "MAIL FROM with two @": (b'"ann@acme.example"@evil.test', EVIL.sign(MESSAGE)),
    "valid signature of another domain": (TENANT, EVIL.sign(MESSAGE)),
    "the tenant's name, the impostor's key": (
        TENANT,
        SigningDomain("acme.example", key=EVIL.key).sign(MESSAGE),
    ),
    "the tenant's domain, the impostor's selector": (
        TENANT,
        SigningDomain("acme.example", selector="evil", key=EVIL.key).sign(MESSAGE),
    ),
    "a selector that leads elsewhere": (
        TENANT,
        sign_as(MESSAGE, EVIL.key, s="s1._domainkey.evil.test."),
    ),
    "the tenant's signature, another text": (
        TENANT,
        ACME.sign(MESSAGE).replace(b"Please pay.", b"Please pay me."),
    ),
    "the tenant's signature over the beginning": (
        TENANT,
        sign_as(MESSAGE, l=str(len(b"Please pay.\r\n"))) + b"Me, that is.\r\n",
    ),
    "the tenant's signature, run out": (TENANT, sign_as(MESSAGE, t=str(NOW - 9), x=str(NOW - 1))),
    "the tenant's signature, without From": (TENANT, sign_as(MESSAGE, h="to:subject:date")),
    "the tenant's signature, and another From": (
        TENANT,
        b"From: Bob <bob@evil.test>\r\n" + ACME.sign(MESSAGE),
    ),
    "the tenant's signature, another Subject on top": (
        TENANT,
        b"Subject: Overdue\r\n" + ACME.sign(MESSAGE),
    ),
    "the tenant's signature inside a part": (
        TENANT,
        b"From: ann@acme.example\r\nContent-Type: message/rfc822\r\n\r\n" + ACME.sign(MESSAGE),
    ),
    "another's name in Google's own signature": (
        TENANT,
        sign_like("evil-acme-example.20230601.gappssmtp.com"),
    ),
    "a word for the date in Google's own signature": (
        TENANT,
        sign_like("acme-example.evil.gappssmtp.com"),
    ),
    "Google's own signature, elsewhere": (
        TENANT,
        sign_like("acme-example.20230601.gappssmtp.com.evil.test"),
    ),
    "secret header, a guess": (TENANT, add("X-Acme-Relay: kept-by-acme-0000000000")),
    "secret header, empty": (TENANT, add("X-Acme-Relay:")),
    "secret header, in other case": (TENANT, add(f"X-Acme-Relay: {SECRET.upper()}")),
    "secret header, a part of it": (TENANT, add(f"X-Acme-Relay: {SECRET[:-1]}")),
    "secret header, with more": (TENANT, add(f"X-Acme-Relay: {SECRET}0")),
    # Whoever had it could send it once; what counts is that a list of guesses is none.
    "secret header, twice": (
        TENANT,
        add(f"X-Acme-Relay: {SECRET}", "X-Acme-Relay: kept-by-acme-0000000000"),
    ),
    "secret header, twice the same": (
        TENANT,
        add(f"X-Acme-Relay: {SECRET}", f"x-acme-relay: {SECRET}"),
    ),
    "secret header, folded into guesses": (
        TENANT,
        add("X-Acme-Relay: kept-by-acme-0000000000\r\n " + SECRET),
    ),
    "secret header, encoded": (TENANT, add(f"X-Acme-Relay: =?us-ascii?q?{SECRET}?=")),
    "secret header, another name": (TENANT, add(f"X-Acme-Relay-: {SECRET}")),
    "secret header, in the body": (TENANT, MESSAGE + f"X-Acme-Relay: {SECRET}\r\n".encode()),
    "secret header, inside another field": (TENANT, add(f"X-Other: x\r\n X-Acme-Relay: {SECRET}")),
}


@pytest.fixture
async def desk(tmp_path: Path, store: Store) -> AsyncIterator[Desk]:
    (tmp_path / "secret").write_text(SECRET)
    tenant = {
        "name": "acme", "domains": ["acme.example"], "networks": ["google"],
        "proof": ["dkim", "header"], "header": "X-Acme-Relay", "header_secret_file": "secret",
    }  # fmt: skip
    async with open_nameserver(ZONE) as server:
        resolver = Resolver(
            Dns(nameservers=(Endpoint(server.address, server.port),), timeout=Seconds(2))
        )
        yield make_desk(
            make_config(tmp_path, tables={"tenant": [tenant]}), store, resolver=resolver
        )


async def send(client: Client, sender: bytes, message: bytes) -> bytes:
    """Hand a message in as far as it is let; return the last reply."""
    await client.say(b"EHLO mail-wr1-f41.google.com")
    for line in (b"MAIL FROM:<%b>" % sender, b"RCPT TO:<b@y.test>"):
        reply = await client.say(line)
        if reply[:3] != b"250":
            return reply
    return await client.send_data(message)


def test_there_are_twenty_and_more() -> None:
    assert len(VARIATIONS) >= 20


@pytest.mark.parametrize("variation", VARIATIONS)
async def test_nothing_gets_in(variation: str, desk: Desk, server: Server) -> None:
    sender, message = VARIATIONS[variation]
    async with visit(desk, address=GOOGLE) as client:
        reply = await send(client, sender, message)

    assert reply[:9] == b"550 5.7.1"
    assert SECRET.encode() not in reply
    (event,) = read_events(desk)
    assert event["event"] == "refused"
    assert event["reason"]
    assert SECRET not in str(event)
    assert check(server).total("ledger") == {}


async def test_the_tenant_itself_gets_in(desk: Desk, server: Server) -> None:
    """Or all of the above would prove nothing."""
    fallback = SigningDomain("acme-example.20230601.gappssmtp.com", key=ED25519)
    messages = [
        ACME.sign(MESSAGE),
        sign_as(MESSAGE),
        add(f"X-Acme-Relay: {SECRET}"),
        add(f"x-acme-relay:\r\n\t{SECRET}"),
    ]
    async with visit(desk, address=GOOGLE) as client:
        for message in messages:
            read_id(await send(client, TENANT, message))
        read_id(await send(client, b"", ACME.sign(MESSAGE)))
        assert (await send(client, TENANT, fallback.sign(MESSAGE)))[:9] == b"550 5.7.1"  # no record

    assert check(server).total("ledger") == {"accepted": 5, "queued": 5}


async def test_from_elsewhere_the_tenants_proof_is_none(desk: Desk) -> None:
    async with visit(desk, address="198.51.100.7") as client:
        reply = await send(client, TENANT, ACME.sign(MESSAGE))
    assert reply == b"550 5.7.1 Relaying denied\r\n"


async def test_a_replayed_message_gets_in_and_is_noted_as_what_it_is(desk: Desk) -> None:
    """Who has got a signed message of the tenant can send it once more, to others.

    Nothing in it is wrong, and nothing tells it from the tenant's next copy of a message to several
    people: Gmail sends each on its own. That one signature comes again and again stands in the events.
    The secret header has no such weakness; relay/ingress/proof.py says so.
    """
    message = ACME.sign(MESSAGE)
    async with visit(desk, address=GOOGLE) as client:
        for number in range(3):
            await client.say(b"EHLO mail-wr1-f41.google.com")
            await client.say(b"MAIL FROM:<ann@acme.example>")
            await client.say(b"RCPT TO:<victim%d@y.test>" % number)
            read_id(await client.send_data(message))

    events = read_events(desk)
    assert [event["event"] for event in events] == ["accepted"] * 3
    assert [event["seen"] for event in events] == [0, 1, 2]
    assert {event["signed_by"] for event in events} == {"acme.example"}
