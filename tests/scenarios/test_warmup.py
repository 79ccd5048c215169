"""A new address among three warm ones: exactly its allowance leaves from it, the rest at once from others."""

import time
from pathlib import Path

import pytest
import trio

from relay.store.standing import DAY
from tests.kit.fleet import open_fleet
from tests.kit.receiver import open_receiver
from tests.kit.redis import Server
from tests.kit.works import SOURCES

NEW = "127.0.0.14"
ADDRESSES = {**SOURCES, "new": NEW}
ALLOWANCE = 10
COUNT = 300


@pytest.fixture
def day() -> None:
    """Enough of the day (UTC) is left: at midnight there is a new allowance."""
    left = DAY - time.time() % DAY
    if left < 60:
        time.sleep(left + 1)


def make_tables() -> dict[str, object]:
    sources = [
        {"name": name, "address": address, "ehlo": f"{name}.out.test"}
        | ({"warmup": "short"} if name == "new" else {})
        for name, address in ADDRESSES.items()
    ]
    return {
        "source": sources,
        "warmup": {"short": {"days": [ALLOWANCE, 20]}},
        "site": [{"name": "here", "domains": ["y.test"]}],
    }


@pytest.mark.usefixtures("day")
async def test_today_s_allowance_is_exact_over_two_workers(server: Server, tmp_path: Path) -> None:
    """Much more is wanted at once than it may have, and then again, steadily."""
    async with open_receiver() as receiver:
        routes = {"y.test": [receiver.make_host()]}
        crews = (tuple(ADDRESSES), tuple(ADDRESSES))
        async with open_fleet(
            server, tmp_path, routes=routes, addresses=ADDRESSES, crews=crews, tables=make_tables()
        ) as fleet:
            start = trio.current_time()
            await fleet.post(COUNT)
            await fleet.first.wait_for(delivered=COUNT, queued=0)
            took = trio.current_time() - start
            async with fleet.send_steadily(b"bob@y.test", rate=40):
                await trio.sleep(3)
            await fleet.finish(seconds=5)
            warmup = (await fleet.read_standing("here", "new")).warmup
            counts = receiver.count_by_client()
            print(f"{COUNT} in {took:.1f} s; {counts}")  # noqa: T201
            assert counts[NEW] == ALLOWANCE
            assert warmup is not None
            assert (warmup.day, warmup.allowance, warmup.used) == (1, ALLOWANCE, ALLOWANCE)
            # The others share what it could not carry.
            rest = fleet.posted - ALLOWANCE
            assert all(counts[address] > 0.6 * rest / 3 for address in SOURCES.values())
            # Nobody waited for it: each delivery was its first attempt, soon after it was accepted.
            assert {event["attempt"] for event in fleet.read_events("delivered")} == {1}
            assert not fleet.read_events("deferred")


@pytest.mark.usefixtures("day")
async def test_a_message_that_it_could_not_deliver_was_of_today_s(
    server: Server, tmp_path: Path
) -> None:
    """Refused ones count: the receiver has seen them. Nothing is lost to overflow."""
    refused = 0

    def judge(client: str, step: str, sender: bytes) -> str:
        nonlocal refused
        if client == NEW and step == "RCPT" and refused < 4:
            refused += 1
            return "450 4.2.1 the mailbox is busy"
        return ""

    async with open_receiver(judge) as receiver:
        routes = {"y.test": [receiver.make_host()]}
        crews = (tuple(ADDRESSES), tuple(ADDRESSES))
        async with open_fleet(
            server, tmp_path, routes=routes, addresses=ADDRESSES, crews=crews, tables=make_tables()
        ) as fleet:
            await fleet.post(100)
            await fleet.finish()
            assert len(receiver.find(NEW)) == ALLOWANCE
            assert receiver.count_taken(NEW) == ALLOWANCE - 4
