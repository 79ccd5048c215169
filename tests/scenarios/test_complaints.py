"""A receiver complains about a message, and another finds out late that nobody has that address.

The message went through a whole gateway; the report comes back to it as mail, to a mailbox domain of
ours. Forged and repeated ones count for nobody, and the mailbox is no way through.
"""

import json
from collections.abc import Iterator

import pytest
import trio

from relay.store.feedback import Complaint, LateBounce, Signal, take_signals
from relay.store.link import Link
from tests.kit.audit import assert_sound
from tests.kit.console import Console
from tests.kit.gateway import Gateway
from tests.kit.letters import make_letter, post
from tests.kit.reports import make_arf, make_bounce
from tests.kit.shelf import Shelf

pytestmark = pytest.mark.slow

MAILBOX = "fbl@feedback.example.net"
# What strangers may do is asked of a client that is in no tenant's networks.
TENANT = """\
[[tenant]]
name = "far"
domains = ["far.example"]
networks = ["192.0.2.0/24"]
[feedback]
domains = ["feedback.example.net"]
"""


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf() as shelf:
        yield shelf


def read_signals(console: Console) -> list[Signal]:
    """Take the signals that wait, as a worker does."""

    async def take() -> list[Signal]:
        url = json.loads((console.state / "store/connection.json").read_bytes())["url"]
        link = Link(url, timeout=10)
        try:
            return await take_signals(link, 100)
        finally:
            await link.aclose()

    return trio.run(take)


def cut_head(octets: bytes) -> bytes:
    return octets[: octets.index(b"\r\n\r\n") + 2]


def test_a_complaint_is_told_counted_and_explained(shelf: Shelf) -> None:
    with Gateway({"y.test": shelf.port}, tables=TENANT) as gateway:
        console = Console(gateway)
        answer = post(gateway.port, make_letter("one"), "bob@y.test", "eve@y.test")
        gateway.wait_ledger(2)
        (taken,) = shelf.messages["one"]
        (delivered,) = console.wait_for_events("delivered")
        head = cut_head(taken.octets)
        complaint = make_arf(head, recipient="bob@y.test")
        bounce = make_bounce(head, ["eve@y.test"])
        forged = make_arf(head.replace(answer.id.encode(), answer.id[:12].encode() + b"0" * 10
                                       + answer.id[22:].encode()))  # fmt: skip
        for report in (complaint, complaint, bounce, forged):
            assert post(gateway.port, report, MAILBOX, sender="").code == 250

        site = f"127.0.0.1:{shelf.port}"
        assert delivered["site"] == site
        way = (answer.id, "acme", delivered["source"], site)
        assert read_signals(console) == [
            Complaint(*way, "bob@y.test", "abuse"),
            LateBounce(*way, "eve@y.test", "5.1.1", "550 5.1.1 no such user"),
        ]
        events = console.wait_for_events("feedback", count=4)
        assert [event["counted"] for event in events] == [True, False, True, False]
        assert events[3]["text"] == "its message is not known, or not any more"
        said = " ".join(console.call("explain", answer.id).out.split())
        assert "feedback complaint (abuse) of <bob@y.test>, sent from source" in said
        assert "late bounce (failed) for <eve@y.test>: 5.1.1" in said
        assert said.count("feedback ") == 2
        # Of the reports nothing is left but that.
        assert gateway.read_ledger().accepted == 2
        with console.open_store() as client:
            assert_sound(client)


def test_the_mailbox_is_no_way_through(shelf: Shelf) -> None:
    with Gateway({"y.test": shelf.port}, tables=TENANT) as gateway:
        for people in ([MAILBOX, "bob@y.test"], ["bob@y.test", MAILBOX], ["bob@y.test"]):
            for sender in ("", "who@elsewhere.test", "news@far.example"):
                answer = post(gateway.port, make_letter("two"), *people, sender=sender)
                assert (answer.code, answer.text[:6]) == (550, "5.7.1 "), (people, sender)
        # Nor for the tenant, whose mail would go on without the report.
        mixed = post(gateway.port, make_letter("two"), "bob@y.test", MAILBOX)
        assert (mixed.code, mixed.text[:6]) == (452, "4.5.3 ")
        assert gateway.read_ledger().accepted == 0
    assert not shelf.messages
