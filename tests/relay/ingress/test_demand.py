"""What a message asks of TLS: by its parameter, by its header."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from relay.ingress.demand import find_demand
from relay.ingress.head import cut_head
from relay.model import Delivery
from relay.net.certificates import Certificates
from relay.store.queue import INLINE_OCTETS, Store
from tests.kit.visit import make_config, make_desk, read_id, visit

RECEIVED = b"Received: from x\r\n\tby y\r\n"


@pytest.mark.parametrize(
    ("content", "demand"),
    [
        (b"Subject: x\r\n\r\n", ""),
        (b"TLS-Required: No\r\n\r\n", "optional"),
        (b"Subject: x\r\ntls-required:\r\n nO \r\n\r\n", "optional"),
        (b"TLS-Required: Yes\r\nTLS-Required: No\r\n\r\n", "optional"),
        (b"TLS-Required: Yes\r\n\r\n", ""),
        (b"TLS-Required: No way\r\n\r\n", ""),
        (b"TLS-Required-Not: No\r\n\r\n", ""),
        (b"X-TLS-Required: No\r\n\r\n", ""),
        (b"Subject: x\r\n TLS-Required: No\r\n\r\n", ""),
        (b"Subject: x\r\n\r\nTLS-Required: No\r\n", ""),
    ],
)
def test_field_is_read_unless_the_parameter_was_given(content: bytes, demand: str) -> None:
    beginning = RECEIVED + content
    head = cut_head(beginning)

    assert find_demand(beginning, head, requiretls=False) == demand
    assert find_demand(beginning, head, requiretls=True) == "required"


@pytest.mark.parametrize("size", [100, 2 * INLINE_OCTETS])
@pytest.mark.parametrize(
    ("parameter", "header", "demand"),
    [
        (b"", b"", ""),
        (b"", b"TLS-Required: no\r\n", "optional"),
        (b" REQUIRETLS", b"", "required"),
        (b" REQUIRETLS", b"TLS-Required: no\r\n", "required"),
    ],
)
async def test_each_delivery_knows(
    parameter: bytes,
    header: bytes,
    demand: str,
    size: int,
    tmp_path: Path,
    store: Store,
    certificates: Certificates,
    client_context: ssl.SSLContext,
    find_queued: Callable[[], Awaitable[dict[str, Delivery]]],
) -> None:
    desk = make_desk(make_config(tmp_path), store, tls=certificates)
    content = b"Subject: x\r\n" + header + b"\r\n" + (b"y" * 62 + b"\r\n") * (size // 64)
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"STARTTLS")
        await client.start_tls(client_context, "gw.example.net")
        assert b"250-REQUIRETLS\r\n" in await client.say(b"EHLO me.test")
        await client.say(b"MAIL FROM:<a@acme.example>" + parameter)
        await client.say(b"RCPT TO:<b@y.test>")
        await client.say(b"RCPT TO:<b@z.test>")
        read_id(await client.send_data(content))

    queued = await find_queued()
    assert {d: queued[d].envelope.tls for d in queued} == {"y.test": demand, "z.test": demand}


async def test_demand_of_a_message_is_not_that_of_the_next(
    tmp_path: Path, store: Store, find_queued: Callable[[], Awaitable[dict[str, Delivery]]]
) -> None:
    desk = make_desk(make_config(tmp_path), store)
    async with visit(desk) as client:
        await client.open_transaction(recipient=b"b@y.test")
        read_id(await client.send_data(b"TLS-Required: No\r\n\r\nx\r\n"))
        await client.open_transaction(recipient=b"b@z.test")
        read_id(await client.send_data(b"Subject: x\r\n\r\nx\r\n"))

    queued = await find_queued()
    assert {d: queued[d].envelope.tls for d in queued} == {"y.test": "optional", "z.test": ""}
