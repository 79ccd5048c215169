"""Block lists: those that answer, those that do not, and those that list everybody."""

from typing import Any

import pytest

from relay.config.schema import Source
from tests.kit.nameserver import REFUSED, open_nameserver
from tests.workers.doctor.place import ANY, GOOD, SIX, A, levels, make_resolver, open_resolver
from workers.doctor.blocklist import check_blocklists

_A = "11.0.0.127.bl.test"
_SIX = "1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test"
_TEST_SIX = "2.0.0.0.0.0.f.7.f.f.f.f." + "0." * 20 + "bl.test"


async def ask(changes: dict[str, Any], source: Source = A) -> tuple[str, str]:
    zone = {name: found for name, found in (GOOD | changes).items() if found is not None}
    async with open_resolver(zone) as resolver:
        (found,) = await check_blocklists(source, ["BL.test."], resolver)
    assert (found.check, found.source) == ("dnsbl", source.name)
    return found.level, found.text


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, "ok", "not on bl.test"),
        ({_A: {"A": ["127.0.0.2"]}}, "error", "listed on bl.test (127.0.0.2)"),
        (
            {_A: {"A": ["127.0.0.10", "127.0.0.4"], "TXT": ['"Spam, see https://bl.test/?x"']}},
            "error",
            "(127.0.0.4, 127.0.0.10): Spam, see https://bl.test/?x",
        ),
        ({_A: {"TXT": ['"no address"']}}, "ok", "not on bl.test"),
        # It does not answer us.
        (
            {_A: {"A": ["127.255.255.254"]}},
            "notice",
            "does not answer us (it says 127.255.255.254)",
        ),
        ({_A: {"A": ["127.0.0.2", "127.255.255.252"]}}, "notice", "does not answer us"),
        ({_A: {"A": ["192.0.2.80"]}}, "notice", "does not answer us (it says 192.0.2.80)"),
        ({"2.0.0.127.bl.test": {"A": ["127.255.255.254"]}}, "notice", "does not answer us"),
        ({_A: REFUSED}, "skipped", "bl.test could not be asked"),
        ({"2.0.0.127.bl.test": REFUSED}, "skipped", "bl.test could not be asked"),
        ({_A: {"A": ["127.0.0.2"]}, "1.0.0.127.bl.test": REFUSED}, "skipped", "not be asked"),
        # It is no more.
        ({"*.bl.test": {"A": ["127.0.0.2"]}}, "warning", "lists everybody"),
        ({"*.bl.test": {"A": ["192.0.2.80"]}}, "notice", "does not answer us"),
        ({"2.0.0.127.bl.test": None}, "notice", "no entry to test it with for IPv4"),
    ],
)
async def test_what_a_list_says(changes: dict[str, Any], level: str, text: str) -> None:
    found = await ask(changes)

    assert found[0] == level, found
    assert text in found[1]


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, "notice", "for IPv6"),
        ({_TEST_SIX: {"A": ["127.0.0.2"]}}, "ok", "not on bl.test"),
        ({_SIX: {"A": ["127.0.0.3"]}}, "error", "listed on bl.test (127.0.0.3)"),
    ],
)
async def test_of_ipv6(changes: dict[str, Any], level: str, text: str) -> None:
    found = await ask(changes, SIX)

    assert found[0] == level, found
    assert text in found[1]


async def test_lists_are_told_in_their_order_and_none_asks_nobody() -> None:
    zone = GOOD | {"11.0.0.127.b2.test": {"A": ["127.0.0.2"]}}
    async with open_nameserver(zone) as server:
        resolver = make_resolver(server)
        found = await check_blocklists(A, ["bl.test", "b2.test"], resolver)
        assert levels(found) == [("dnsbl", "ok"), ("dnsbl", "error")]
        server.queries.clear()

        assert await check_blocklists(A, [], resolver) == []
        assert levels(await check_blocklists(ANY, ["bl.test"], resolver)) == [("dnsbl", "skipped")]
        assert server.queries == []
