"""A provider blocks every address of ours: its mail waits, an event says so, and nothing is sent anyway."""

from pathlib import Path

import pytest
import trio

from tests.kit.fleet import open_fleet
from tests.kit.receiver import BLOCKED, block_all, open_receiver, say_yes
from tests.kit.redis import Server

pytestmark = pytest.mark.heavy

BEFORE, COUNT = 300, 60


async def test_mail_waits_until_the_block_is_over(server: Server, tmp_path: Path) -> None:
    tables = {
        "reputation": {"quarantine": ["3s", "6s"], "probes": 1, "floor": 0.0},
        "site": [{"name": "here", "domains": ["y.test"]}, {"name": "there", "domains": ["z.test"]}],
    }
    async with open_receiver() as receiver, open_receiver() as other:
        routes = {"y.test": [receiver.make_host()], "z.test": [other.make_host()]}
        async with open_fleet(server, tmp_path, routes=routes, tables=tables) as fleet:
            await fleet.post(BEFORE)
            await receiver.wait_until(lambda: receiver.count_taken() == BEFORE)
            receiver.judge = block_all(BLOCKED)
            await fleet.post(COUNT)
            first = [(await fleet.wait_for_events("quarantined", source=name))[0] for name in "abc"]
            (event, *_) = await fleet.wait_for_events("all-quarantined", site="here")
            assert event["pool"] == "default"
            # Of another site nothing is said.
            await fleet.post(20, b"bob@z.test")
            await other.wait_until(lambda: other.count_taken() == 20, seconds=5)
            # Each source finds out that it is still so, with a message at a time.
            await fleet.wait_for_events("quarantined", 6)
            refused = receiver.find(taken=False)
            ledger = (await fleet.first.store.read_ledger())["ledger"]
            assert ledger["bounced"] == 0
            assert ledger["queued"] == COUNT
            lifted = trio.current_time()
            receiver.judge = say_yes
            await fleet.wait_for_events("released", 1, seconds=40)
            await fleet.finish(seconds=60)
            took = trio.current_time() - lifted
            print(f"{len(refused)} refused in all; delivered {took:.1f} s after")  # noqa: T201
            assert receiver.count_taken() == BEFORE + COUNT
    assert all(event["count"] == 1 for event in first)
    # What was under way when the block was met, and a probe of each source.
    assert len(refused) <= 3 * 2 * 5 + 3
