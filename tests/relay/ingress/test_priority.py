"""The class of a message: from its header, from its sender, from its tenant."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.schema import PriorityRule, Tenant
from relay.config.units import Priority
from relay.ingress.priority import find_priority
from relay.model import Delivery
from relay.store.queue import INLINE_OCTETS, Store
from tests.kit.visit import (
    TENANTS,
    make_config,
    make_desk,
    read_id,
    read_parts,
    split_trace,
    visit,
)


def make_tenant(
    priority: Priority = "normal", header: str = "", **rules: tuple[Priority, tuple[str, ...]]
) -> Tenant:
    return Tenant(
        name="acme",
        domains=("acme.example",),
        priority=priority,
        priority_header=header,
        priority_rule=tuple(PriorityRule(senders=s, priority=p) for p, s in rules.values()),
    )


ALL = make_tenant(
    "urgent",
    "X-Acme-Priority",
    first=("normal", ("boss@lists.acme.example",)),
    lists=("bulk", ("news@acme.example", "*@lists.acme.example")),
    rest=("normal", ("*@acme.example",)),
)


# -- which of the three decides


@pytest.mark.parametrize(
    ("sender", "head", "priority"),
    [
        (b"a@other.example", b"", "urgent"),
        (b"a@acme.example", b"", "normal"),
        (b"news@acme.example", b"", "bulk"),
        (b"a@lists.acme.example", b"", "bulk"),
        (b"boss@lists.acme.example", b"", "normal"),
        (b"a@lists.acme.example", b"X-Acme-Priority: urgent\r\n", "urgent"),
        (b"a@acme.example", b"X-Acme-Priority: bulk\r\n", "bulk"),
        (b"a@other.example", b"X-Acme-Priority: normal\r\n", "normal"),
        (b"news@acme.example", b"X-Acme-Priority: whenever\r\n", "bulk"),
        (b"a@other.example", b"X-Acme-Priority:\r\n", "urgent"),
        (b"a@acme.example", b"X-Acme-Priority: ?\r\nX-Acme-Priority: bulk\r\n", "bulk"),
        (b"a@acme.example", b"X-Acme-Priority: urgent\r\nX-Acme-Priority: bulk\r\n", "urgent"),
    ],
)
def test_header_comes_before_rules_and_rules_before_the_tenant(
    sender: bytes, head: bytes, priority: Priority
) -> None:
    assert find_priority(ALL, sender, head + b"Subject: x\r\n\r\nbody\r\n") == priority


@pytest.mark.parametrize(
    ("sender", "priority"),
    [
        (b"News@ACME.example", "bulk"),
        (b"news@acme.example.", "bulk"),
        (b"news@sub.acme.example", "urgent"),
        (b"news2@acme.example", "normal"),
        (b"x@a@lists.acme.example", "bulk"),
        ("grüße@lists.acme.example".encode(), "bulk"),
        (b"\xff\xfe@lists.acme.example", "bulk"),
        (b"*@acme.example", "normal"),
        (b"a@[192.0.2.1]", "urgent"),
        (b"nobody", "urgent"),
        (b"", "urgent"),
    ],
)
def test_rule_fits_an_address_or_a_whole_domain(sender: bytes, priority: Priority) -> None:
    assert find_priority(ALL, sender, b"") == priority


def test_domain_in_utf_8_is_the_one_in_a_labels() -> None:
    tenant = make_tenant(rule=("bulk", ("*@xn--bcher-kva.example",)))

    assert find_priority(tenant, "a@bücher.example".encode(), b"") == "bulk"


def test_header_that_is_not_configured_says_nothing() -> None:
    assert find_priority(make_tenant(), b"a@acme.example", b"X-Acme-Priority: bulk\r\n") == "normal"


@given(
    st.lists(st.sampled_from([b"P", b":", b" ", b"\r\n", b"\r", b"\n", b"bulk", b"\xff", b"\0"]))
)
def test_whatever_arrives_has_a_class(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)

    assert find_priority(make_tenant(header="P"), octets, octets) in ("urgent", "normal", "bulk")


# -- on its way in


@pytest.mark.parametrize(
    ("header", "priority"),
    [(b"", ""), (b"X-P: normal\r\n", ""), (b"X-P: Urgent\r\n", "urgent"), (b"x-p: bulk\r\n", "bulk")],
)  # fmt: skip
@pytest.mark.parametrize("size", [100, 2 * INLINE_OCTETS])
async def test_delivery_has_the_class_and_the_message_keeps_its_header(
    header: bytes,
    priority: str,
    size: int,
    tmp_path: Path,
    store: Store,
    find_queued: Callable[[], Awaitable[dict[str, Delivery]]],
) -> None:
    tenant = {**TENANTS[0], "priority_header": "X-P"}
    desk = make_desk(make_config(tmp_path, tables={"tenant": [tenant]}), store)
    content = b"Subject: x\r\n" + header + b"\r\n" + (b"y" * 62 + b"\r\n") * (size // 64)
    async with visit(desk) as client:
        await client.open_transaction()
        await client.say(b"RCPT TO:<c@z.test>")
        message_id = read_id(await client.send_data(content))

    assert split_trace(b"".join(await read_parts(store, message_id)))[1] == content
    queued = await find_queued()
    assert {d: queued[d].priority for d in queued} == {"y.test": priority, "z.test": priority}


async def test_class_of_a_message_is_not_that_of_the_next(
    tmp_path: Path, store: Store, find_queued: Callable[[], Awaitable[dict[str, Delivery]]]
) -> None:
    rules = [{"senders": ["*@acme.example"], "priority": "bulk"}]
    tenant = {**TENANTS[0], "priority_header": "X-P", "priority_rule": rules}
    desk = make_desk(make_config(tmp_path, tables={"tenant": [tenant]}), store)
    async with visit(desk) as client:
        for recipient, head in ((b"b@one.test", b"X-P: urgent\r\n"), (b"b@two.test", b"")):
            await client.open_transaction(recipient=recipient)
            read_id(await client.send_data(head + b"\r\nbody\r\n"))

    queued = await find_queued()
    assert {d: queued[d].priority for d in queued} == {"one.test": "urgent", "two.test": "bulk"}
