import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.config.schema import Tenant
from relay.ingress.secret import REFRESH, Secrets, make_pattern
from relay.model import Delivery
from relay.store.queue import INLINE_OCTETS, Store
from tests.kit.visit import (
    make_config,
    make_desk,
    read_id,
    read_parts,
    split_trace,
    visit,
)

SECRET = b"0123456789abcdef0123"
NEXT = b"fedcba9876543210fedc"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    return path


def make_tenant(file: Path, name: str = "acme", **more: Any) -> Tenant:
    settings: dict[str, Any] = {"header": "X-Acme-Relay", "proof": ("header",), **more}
    return Tenant(name=name, domains=("acme.example",), header_secret_file=str(file), **settings)


# -- taking it off


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A: 1\r\nX-Acme-Relay: s3cret\r\nB: 2\r\n", b"A: 1\r\nB: 2\r\n"),
        (b"x-ACME-relay:s\r\nB: 2\r\n", b"B: 2\r\n"),
        (b"X-Acme-Relay:\r\n s3\r\n\tcret\r\nB: 2\r\n", b"B: 2\r\n"),
        (b"B: 2\r\nX-Acme-Relay : s\r\n", b"B: 2\r\n"),
        (b"X-Acme-Relay: a\r\nB: 2\r\nX-Acme-Relay: b\r\n", b"B: 2\r\n"),
        (b"B: 2\r\nX-Acme-Relay: s3", b"B: 2\r\n"),
        (b"B: 2\r\nX-Acme-Relay:\r\n s3", b"B: 2\r\n"),
        # Not this field.
        (b"X-Acme-Relay-Too: s\r\n", b"X-Acme-Relay-Too: s\r\n"),
        (b"A: 1\r\n X-Acme-Relay: s\r\n", b"A: 1\r\n X-Acme-Relay: s\r\n"),
        (b"", b""),
    ],
)
def test_the_field_is_taken_off_and_nothing_else(before: bytes, after: bytes, file: Path) -> None:
    tenant = make_tenant(file)

    assert Secrets([tenant]).remove(before, [tenant]) == after


def test_other_tenants_keep_theirs(file: Path) -> None:
    tenant, other = make_tenant(file), make_tenant(file, "other", header="X-Other")

    assert (
        Secrets([tenant, other]).remove(b"X-Acme-Relay: s\r\n", [other]) == b"X-Acme-Relay: s\r\n"
    )


def test_the_name_is_no_expression() -> None:
    assert make_pattern("X.").sub(b"", b"XY: 1\r\n") == b"XY: 1\r\n"


@pytest.mark.parametrize("size", [100, 3 * INLINE_OCTETS])
async def test_it_is_not_stored_and_the_size_is_right(
    tmp_path: Path,
    store: Store,
    find_queued: Callable[[], Awaitable[dict[str, Delivery]]],
    size: int,
) -> None:
    tenant = {"name": "acme", "domains": ["acme.example"], "networks": ["192.0.2.0/24"]}
    tables = {"tenant": [tenant | {"header": "X-Acme-Relay"}]}
    desk = make_desk(make_config(tmp_path, tables=tables), store)
    body = b"\r\n" + b"x" * 62 + b"\r\n" + (b"y" * 62 + b"\r\n") * (size // 64)
    async with visit(desk) as client:
        await client.open_transaction()
        content = b"A: 1\r\nX-Acme-Relay: s3cret\r\nB: 2\r\n" + body
        message_id = read_id(await client.send_data(content))

    stored = b"".join(await read_parts(store, message_id))
    assert split_trace(stored)[1] == b"A: 1\r\nB: 2\r\n" + body
    assert (await find_queued())["y.test"].size == len(stored)


async def test_it_is_taken_off_the_end_of_a_message_that_has_none(
    tmp_path: Path, store: Store, find_queued: Callable[[], Awaitable[dict[str, Delivery]]]
) -> None:
    tenant = {"name": "acme", "domains": ["acme.example"], "networks": ["192.0.2.0/24"]}
    tables = {"tenant": [tenant | {"header": "X-Acme-Relay"}]}
    desk = make_desk(make_config(tmp_path, tables=tables), store)
    async with visit(desk) as client:
        await client.open_transaction()
        message_id = read_id(await client.send_chunks(b"A: 1\r\nX-Acme-Relay: s3cret", size=9))

    stored = b"".join(await read_parts(store, message_id))
    assert split_trace(stored)[1] == b"A: 1\r\n"
    delivery = (await find_queued())["y.test"]
    assert (delivery.size, delivery.newline) == (len(stored), True)


# -- what it proves


@pytest.mark.parametrize(
    ("head", "proves"),
    [
        (b"X-Acme-Relay: %b\r\n", True),
        (b"A: 1\r\nx-acme-RELAY:%b\r\nB: 2\r\n", True),
        (b"X-Acme-Relay:\r\n\t%b\r\n", True),
        (b"X-Acme-Relay: %b \r\n", True),
        (b"X-Acme-Relay: %bx\r\n", False),
        (b"X-Acme-Relay: x%b\r\n", False),
        (b"X-Acme-Relay: %b %b\r\n", False),
        (b"X-Acme-Relay:\r\n", False),
        (b"X-Acme-Relay-: %b\r\n", False),
        (b"Subject: X-Acme-Relay: %b\r\n", False),
        # Twice: one of them may be somebody else's guess.
        (b"X-Acme-Relay: %b\r\nX-Acme-Relay: %b\r\n", False),
        (b"X-Acme-Relay: %b\r\nX-Acme-Relay: guess\r\n", False),
        (b"X-Acme-Relay: guess\r\nX-Acme-Relay: %b\r\n", False),
    ],
)
def test_the_secret_once_and_whole_is_proof(head: bytes, proves: bool, file: Path) -> None:
    tenant = make_tenant(file)
    head = head.replace(b"%b", SECRET)

    assert Secrets([tenant]).find(head, [tenant]) is (tenant if proves else None)


def test_a_secret_in_other_case_is_another(file: Path) -> None:
    tenant = make_tenant(file)
    head = b"X-Acme-Relay: %b\r\n"

    assert Secrets([tenant]).find(head % SECRET.upper(), [tenant]) is None


def test_a_secret_is_no_proof_where_none_is_asked_for(file: Path) -> None:
    tenant = make_tenant(file, proof=("dkim",))

    assert Secrets([tenant]).find(b"X-Acme-Relay: %b\r\n" % SECRET, [tenant]) is None


def test_of_several_tenants_the_one_whose_secret_it_is(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(NEXT)
    acme = make_tenant(file)
    other = make_tenant(tmp_path / "other", "other")
    secrets = Secrets([acme, other])

    assert secrets.find(b"X-Acme-Relay: %b\r\n" % NEXT, [acme, other]) is other
    assert secrets.find(b"X-Acme-Relay: %b\r\n" % NEXT, [acme]) is None


# -- rotation


async def test_old_and_new_secret_are_valid_during_rotation(
    file: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    tenant = make_tenant(file)
    secrets = Secrets([tenant])
    nursery.start_soon(secrets.run)

    def is_valid(secret: bytes) -> bool:
        return secrets.find(b"X-Acme-Relay: %b\r\n" % secret, [tenant]) is tenant

    assert (is_valid(SECRET), is_valid(NEXT)) == (True, False)

    file.write_bytes(NEXT + b"\n" + SECRET + b"\n")
    await trio.sleep(REFRESH + 1)
    assert (is_valid(SECRET), is_valid(NEXT)) == (True, True)

    file.write_bytes(NEXT)
    await trio.sleep(REFRESH)
    assert (is_valid(SECRET), is_valid(NEXT)) == (False, True)


@pytest.mark.parametrize("broken", ["gone", "empty", "short"])
def test_a_file_that_goes_bad_changes_nothing_and_is_reported(
    file: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    tenant = make_tenant(file)
    secrets = Secrets([tenant])
    if broken == "gone":
        file.unlink()
    else:
        file.write_bytes(b"" if broken == "empty" else b"guess-me\n" + SECRET)

    with caplog.at_level(logging.ERROR):
        secrets.refresh()

    assert secrets.find(b"X-Acme-Relay: %b\r\n" % SECRET, [tenant]) is tenant
    assert secrets.find(b"X-Acme-Relay: guess-me\r\n", [tenant]) is None
    assert "tenant acme: header_secret_file" in caplog.text
    assert "guess-me" not in caplog.text
    assert SECRET.decode() not in caplog.text
