"""PTR, the way back, and EHLO."""

from typing import Any

import pytest

from relay.config.schema import Source
from tests.kit.nameserver import SERVFAIL
from tests.workers.doctor.place import ANY, GOOD, INSIDE, SIX, A, levels, open_resolver
from workers.doctor.pointer import check_pointer

_PTR = "11.0.0.127.in-addr.arpa"
_SIX = "1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"


@pytest.mark.parametrize(
    ("changes", "ptr", "ehlo", "text"),
    [
        ({}, "ok", "ok", "a.out.test, and back"),
        ({_PTR: {"PTR": ["z.test.", "A.Out.Test."]}}, "ok", "ok", "a.out.test, and back"),
        ({_PTR: None}, "error", "ok", "has no name"),
        ({_PTR: {"PTR": ["z.test."]}}, "error", "warning", "z.test, which does not lead back"),
        (
            {_PTR: {"PTR": ["z.test."]}, "z.test": {"A": ["127.0.0.12"]}},
            "error",
            "warning",
            "z.test, which does not lead back",
        ),
        (
            {_PTR: {"PTR": ["z.test."]}, "z.test": {"A": ["127.0.0.11"]}},
            "ok",
            "warning",
            "the address is called z.test",
        ),
        ({"a.out.test": {"A": ["127.0.0.12"]}}, "error", "warning", "leads to 127.0.0.12"),
        ({"a.out.test": {"AAAA": ["::1"]}}, "error", "error", "no address of this family"),
        ({"a.out.test": None}, "error", "error", "no address of this family"),
        # Who does not answer has not said no.
        ({_PTR: SERVFAIL}, "skipped", "ok", "nobody could say which name it has"),
        ({"a.out.test": SERVFAIL}, "skipped", "skipped", "nobody could say where that leads"),
        (
            {_PTR: {"PTR": ["no.test.", "a.out.test."]}, "a.out.test": SERVFAIL},
            "skipped",
            "skipped",
            "nobody could say",
        ),
    ],
)
async def test_what_is_found(changes: dict[str, Any], ptr: str, ehlo: str, text: str) -> None:
    zone = {name: found for name, found in (GOOD | changes).items() if found is not None}
    async with open_resolver(zone) as resolver:
        found = await check_pointer(A, resolver)

    assert levels(found) == [("ptr", ptr), ("ehlo", ehlo)]
    assert any(text in one.text for one in found), found
    assert all(one.source == "a" and one.subject == "a (127.0.0.11)" for one in found)
    assert all(bool(one.advice) == (one.level in ("error", "warning")) for one in found)


async def test_of_ipv6() -> None:
    zone = {_SIX: {"PTR": ["six.out.test."]}, "six.out.test": {"AAAA": ["2001:0DB8::11"]}}
    async with open_resolver(zone) as resolver:
        assert levels(await check_pointer(SIX, resolver)) == [("ptr", "ok"), ("ehlo", "ok")]


@pytest.mark.parametrize("source", [ANY, INSIDE])
async def test_of_an_address_that_nobody_knows_nothing_is_asked(source: Source) -> None:
    async with open_resolver({"any.out.test": SERVFAIL}) as resolver:
        found = await check_pointer(source, resolver)

    assert levels(found) == [("ptr", "skipped"), ("ehlo", "skipped")]
    assert "not known here" in found[0].text


async def test_an_address_literal_is_no_name() -> None:
    literal = Source(name="a", address="127.0.0.11", ehlo="[127.0.0.11]")
    async with open_resolver(GOOD) as resolver:
        _, ehlo = await check_pointer(literal, resolver)

    assert (ehlo.level, "source.ehlo" in ehlo.advice) == ("warning", True)
