"""Whom a message goes to, and that it is nobody real unless somebody said so."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.address import find_domain
from workers.replay.addresses import Addressing, find_addresses, lead_away

HEAD = (
    b"Return-Path: <bounce@news.example.com>\r\n"
    b'From: "Doe, Ann (ann@home.example)" <ann@example.com>\r\n'
    b"To: Bob <bob@Example.org>, team: c@x-y.example, d@x.y.example;\r\n"
    b"Cc: bob@Example.org\r\n"
)


def test_recipients_are_led_to_test_domains_that_keep_apart_what_was() -> None:
    envelope = Addressing().address(HEAD)

    assert envelope is not None
    assert envelope.sender == b"bounce@news-example-com.test"
    bob, c, d = [one.address for one in envelope.recipients]
    assert bob == b"bob@example-org.test"
    assert c != d
    assert {find_domain(one).rpartition(".")[2] for one in (bob, c, d)} == {"test"}  # type: ignore[union-attr]


def test_delivery_fields_say_better_to_whom_it_went() -> None:
    envelope = Addressing().address(b"Delivered-To: list@example.net\r\n" + HEAD)

    assert envelope is not None
    assert [one.address for one in envelope.recipients] == [b"list@example-net.test"]


def test_real_addresses_need_to_be_asked_for() -> None:
    envelope = Addressing(real_senders=True, real_recipients=True).address(HEAD)

    assert envelope is not None
    assert envelope.sender == b"bounce@news.example.com"
    assert [one.address for one in envelope.recipients] == [
        b"bob@Example.org", b"c@x-y.example", b"d@x.y.example",
    ]  # fmt: skip


def test_others_can_be_given() -> None:
    fixed = Addressing(b"me@acme.example", (b"sink@lab.example",)).address(HEAD)
    moved = Addressing(b"@acme.example", (b"@lab.example",)).address(HEAD)

    assert fixed is not None
    assert moved is not None
    assert (fixed.sender, fixed.recipients[0].address) == (b"me@acme.example", b"sink@lab.example")
    assert moved.sender == b"bounce=news.example.com@acme.example"
    assert moved.recipients[0].address == b"bob=Example.org@lab.example"


def test_a_bounce_has_no_sender_and_a_message_for_nobody_no_envelope() -> None:
    null = Addressing().address(b"Return-Path: <>\r\nTo: a@b.example\r\n")

    assert null is not None
    assert null.sender == b""
    assert Addressing().address(b"Subject: x\r\n") is None


def test_an_internationalised_address_says_so() -> None:
    envelope = Addressing().address("To: jörg@bücher.example\r\n".encode())

    assert envelope is not None
    assert envelope.smtputf8
    assert find_domain(envelope.recipients[0].address).endswith(".test")  # type: ignore[union-attr]


@pytest.mark.parametrize("kept", [b"a@b.test", b"a@test"])
def test_what_is_a_test_domain_stays_one(kept: bytes) -> None:
    assert lead_away(kept, "test") == kept


_LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
_DOMAIN = st.lists(_LABEL, min_size=2, max_size=4).map(".".join)


@settings(deadline=None)
@given(_DOMAIN, _DOMAIN)
def test_two_domains_stay_two(one: str, other: str) -> None:
    first, second = (lead_away(f"a@{name}".encode(), "test") for name in (one, other))

    assert (first == second) == (one == other)
    assert find_domain(first).endswith(".test")  # type: ignore[union-attr]


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_octets_break_the_search(value: bytes) -> None:
    for address in find_addresses(value):
        assert b"\n" not in address
        assert b" " not in address
