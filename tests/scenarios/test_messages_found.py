"""Somebody asks what became of a message and knows its Message-ID, or who it was for: it is found, while
the gateway works, and the figures over time have it, too.
"""

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from relay.config import load
from relay.store.embedded import find_url
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.gateway import Gateway
from tests.kit.sink import Sink, find_obstacle
from workers.admin.hearing import Hearing
from workers.admin.history import History, read_totals_of
from workers.admin.index import Index
from workers.admin.question import Question

pytestmark = pytest.mark.slow


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """Hosts that take, refuse and put off."""
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    with Sink() as good, Sink("-f", "RCPT") as bad, Sink("-r", "RCPT") as later:
        routes = {
            "good.test": good.port, "acme.example": good.port, "bad.test": bad.port,
            "later.test": later.port,
        }  # fmt: skip
        with Gateway(routes) as running:
            yield running


def send(gateway: Gateway, domain: str, sender: str = "Ann@acme.example") -> None:
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=30) as session:
        session.sendmail(
            sender,
            [f"Bob@{domain}"],
            f"Message-ID: <1@{domain}>\r\nSubject: x\r\n\r\nhello\r\n",
        )


async def begin(index: Index, gateway: Gateway) -> None:
    """Send until something is heard: publishers see within a second that somebody listens."""
    with trio.fail_after(60):
        while not (await index.search(Question(tenant="acme", outcome="delivered")))["messages"]:
            await trio.to_thread.run_sync(send, gateway, "good.test", "first@acme.example")
            await trio.sleep(0.5)


async def wait_for(index: Index, domain: str, outcome: str) -> dict[str, Any]:
    """Return the message to a domain once this has become of it."""
    question = Question(message_id=f"<1@{domain}>", sender="Ann@acme.example", outcome=outcome)
    with trio.fail_after(60):
        while not (found := (await index.search(question))["messages"]):  # noqa: ASYNC110
            await trio.sleep(0.1)
    (message,) = found
    assert isinstance(message, dict)
    return message


async def test_messages_are_found_while_they_are_on_their_way(gateway: Gateway) -> None:
    config = load(str(gateway.config))
    url = find_url(config)
    hearing, link = Hearing(url), Link(url, timeout=10)
    index, history = Index(config), History(config, read_totals_of(Store(link, config)))
    async with hearing.open() as heard, trio.open_nursery() as nursery:
        nursery.start_soon(hearing.run)
        nursery.start_soon(index.run, heard)
        await history.look()
        await begin(index, gateway)
        for domain in ("good.test", "bad.test", "later.test"):
            await trio.to_thread.run_sync(send, gateway, domain)

        good = await wait_for(index, "good.test", "delivered")
        bad = await wait_for(index, "bad.test", "bounced")
        later = await wait_for(index, "later.test", "queued")
        notice = await index.search(Question(sender="<>", recipient="@acme.example"))
        by_sender = await index.search(Question(sender="ann@acme.example"))
        await history.look()
        totals = await read_totals_of(Store(link, config))(0.0)
        nursery.cancel_scope.cancel()

    index.close()
    history.close()
    await link.aclose()
    assert (good["domains"], good["recipients"]) == (["good.test"], 1)
    assert good["sender"] == "Ann@acme.example"
    assert len(notice["messages"]) == 1
    assert {one["id"] for one in by_sender["messages"]} == {good["id"], bad["id"], later["id"]}
    assert totals.totals["accepted"] > 3
    assert totals.totals["bounced"] == 1
