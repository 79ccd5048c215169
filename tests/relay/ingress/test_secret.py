import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from relay.ingress.secret import make_pattern, remove_header
from relay.ingress.session import Desk
from relay.model import Delivery
from relay.store.queue import INLINE_OCTETS, Store
from tests.kit.visit import read_id, read_parts, split_trace, visit

_PATTERN = make_pattern("X-Acme-Relay")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A: 1\r\nX-Acme-Relay: s3cret\r\nB: 2\r\n\r\nbody\r\n", b"A: 1\r\nB: 2\r\n\r\nbody\r\n"),
        (b"x-ACME-relay:s\r\nB: 2\r\n\r\n", b"B: 2\r\n\r\n"),
        (b"X-Acme-Relay:\r\n s3\r\n\tcret\r\nB: 2\r\n\r\n", b"B: 2\r\n\r\n"),
        (b"B: 2\r\nX-Acme-Relay : s\r\n\r\nbody", b"B: 2\r\n\r\nbody"),
        (b"X-Acme-Relay: a\r\nB: 2\r\nX-Acme-Relay: b\r\n\r\n", b"B: 2\r\n\r\n"),
        # Not this field, or not in the head.
        (b"X-Acme-Relay-Too: s\r\n\r\n", b"X-Acme-Relay-Too: s\r\n\r\n"),
        (b"A: 1\r\n X-Acme-Relay: s\r\n\r\n", b"A: 1\r\n X-Acme-Relay: s\r\n\r\n"),
        (b"A: 1\r\n\r\nX-Acme-Relay: s\r\n", b"A: 1\r\n\r\nX-Acme-Relay: s\r\n"),
        # A first part without the end of the head.
        (b"A: 1\r\nX-Acme-Relay: s\r\nB: 2", b"A: 1\r\nB: 2"),
        (b"", b""),
    ],
)
def test_the_field_is_taken_off_and_nothing_else(before: bytes, after: bytes) -> None:
    assert remove_header(before, _PATTERN) == after


def test_the_name_is_no_expression() -> None:
    assert remove_header(b"XY: 1\r\n\r\n", make_pattern("X.")) == b"XY: 1\r\n\r\n"


@pytest.mark.parametrize("size", [100, 3 * INLINE_OCTETS])
async def test_it_is_not_stored_and_the_size_is_right(
    real_desk: Desk,
    store: Store,
    find_queued: Callable[[], Awaitable[dict[str, Delivery]]],
    size: int,
) -> None:
    secrets = {tenant.name: _PATTERN for tenant in real_desk.config.tenant}
    desk = dataclasses.replace(real_desk, secrets=secrets)
    body = b"\r\n" + b"x" * 62 + b"\r\n" + (b"y" * 62 + b"\r\n") * (size // 64)
    async with visit(desk) as client:
        await client.open_transaction()
        content = b"A: 1\r\nX-Acme-Relay: s3cret\r\nB: 2\r\n" + body
        message_id = read_id(await client.send_data(content))

    stored = b"".join(await read_parts(store, message_id))
    assert split_trace(stored)[1] == b"A: 1\r\nB: 2\r\n" + body
    assert (await find_queued())["y.test"].size == len(stored)


async def test_other_tenants_keep_theirs(real_desk: Desk, store: Store) -> None:
    desk = dataclasses.replace(real_desk, secrets={"somebody else": _PATTERN})
    content = b"X-Acme-Relay: mine\r\n\r\nbody\r\n"
    async with visit(desk) as client:
        await client.open_transaction()
        message_id = read_id(await client.send_data(content))

    assert split_trace(b"".join(await read_parts(store, message_id)))[1] == content
