"""A provider blocks one of our addresses while three send to it, from two workers.

That address is silent there within moments, on every worker; nothing bounces, the others go on, and
when the block is lifted it comes back by itself.
"""

from pathlib import Path

import pytest
import trio

from tests.kit.fleet import Fleet, open_fleet
from tests.kit.receiver import BLOCKED, Receiver, block, open_receiver, say_yes
from tests.kit.redis import Server
from tests.kit.works import SOURCES

pytestmark = pytest.mark.heavy

BAD = SOURCES["a"]
RATE = 60.0  # messages a second
BURST = 300
SESSIONS = 10  # of each source and worker, at most
SILENT_WITHIN = 5.0  # s
ANSWERS = {
    "RCPT": "550 5.7.1 Unfortunately, messages from [127.0.0.11] weren't sent. Please contact your "
    "Internet service provider since part of their network is on our block list (S3140).",
    ".": "550 5.7.1 [127.0.0.11      18] Our system has detected that this message is likely suspicious "
    "due to the very low reputation of the sending IP address. To best protect our users from spam, "
    "the message has been blocked. - gsmtp",
    "CONNECT": "554 5.7.1 Service unavailable; Client host [127.0.0.11] blocked using "
    "zen.spamhaus.org; https://www.spamhaus.org/query/ip/127.0.0.11",
}


async def wait_until_all_send(receiver: Receiver, count: int) -> None:
    await receiver.wait_until(
        lambda: all(receiver.count_taken(address) >= count for address in SOURCES.values())
    )


@pytest.mark.parametrize("step", ANSWERS)
async def test_it_is_silent_everywhere_and_nobody_else_is(
    server: Server, tmp_path: Path, step: str
) -> None:
    async with open_receiver() as receiver:
        # A session has few messages, so that a block at the greeting is met soon.
        site = {"name": "here", "domains": ["y.test"], "messages_per_connection": 10}
        routes = {"y.test": [receiver.make_host()]}
        async with open_fleet(
            server, tmp_path, routes=routes, tables={"site": [site]}, connections=SESSIONS
        ) as fleet:
            async with fleet.send_steadily(b"bob@y.test", rate=RATE):
                await wait_until_all_send(receiver, 30)
                before = trio.current_time()
                await trio.sleep(3)
                await fleet.post(BURST)  # much is claimed for it when it is blocked
                start = trio.current_time()
                receiver.judge = block(BAD, ANSWERS[step], step)
                await receiver.wait_until(lambda: bool(receiver.find(BAD, taken=False)))
                await trio.sleep(SILENT_WITHIN + 2)
                end = trio.current_time()
            await fleet.finish()
            refused = receiver.find(BAD, taken=False)
            lasted = receiver.find(BAD)[-1].time - refused[0].time
            print(f"{step}: {len(refused)} refused, silent after {lasted:.3f} s")  # noqa: T201
            assert lasted < SILENT_WITHIN
            # What was under way: a message in each session of both workers, not all that they held.
            assert len(refused) <= 2 * SESSIONS
            found = fleet.read_events("quarantined")
            assert [event["source"] for event in found] == ["a"]
            assert (await fleet.read_standing("here", "a")).quarantine is not None
            assert_others_unharmed(receiver, before, start, end)


def assert_others_unharmed(receiver: Receiver, before: float, start: float, end: float) -> None:
    for address in (SOURCES["b"], SOURCES["c"]):
        earlier = [t for t in receiver.find(address, taken=True, since=before) if t.time < start]
        later = [t for t in receiver.find(address, taken=True, since=start) if t.time < end]
        rate = len(earlier) / (start - before)
        print(f"{address}: {rate:.0f}/s before, {len(later) / (end - start):.0f}/s after")  # noqa: T201
        assert len(later) / (end - start) > 0.9 * rate
        assert not receiver.find(address, taken=False)


async def probe(fleet: Fleet, receiver: Receiver) -> None:
    """Meet the block, probe it, and meet it again."""
    receiver.judge = block(BAD, BLOCKED)
    first, second = (await fleet.wait_for_events("quarantined", 2, seconds=60))[:2]
    assert (first["source"], second["source"]) == ("a", "a")
    assert (first["count"], second["count"]) == (1, 2)
    assert second["until"] - second["time"] > first["until"] - first["time"]


async def test_it_is_probed_with_single_messages_and_comes_back(
    server: Server, tmp_path: Path
) -> None:
    tables = {
        "reputation": {"quarantine": ["2s", "4s"], "probes": 2, "floor": 0.0},
        "site": [{"name": "here", "domains": ["y.test"]}],
    }
    async with open_receiver() as receiver:
        routes = {"y.test": [receiver.make_host()]}
        async with open_fleet(server, tmp_path, routes=routes, tables=tables) as fleet:
            await fleet.post(BURST)
            async with fleet.send_steadily(b"bob@y.test", rate=RATE):
                await wait_until_all_send(receiver, 50)
                await probe(fleet, receiver)
                lifted = trio.current_time()
                refused = receiver.find(BAD, taken=False)
                receiver.judge = say_yes
                (released,) = await fleet.wait_for_events("released", seconds=60)
                print(f"free again {trio.current_time() - lifted:.1f} s after the lifting")  # noqa: T201
                assert released["source"] == "a"
                probes = receiver.count_taken(BAD, since=lifted)
                assert probes <= 3
                await receiver.wait_until(
                    lambda: receiver.count_taken(BAD, since=lifted) >= probes + 10, seconds=60
                )
            await fleet.finish()
        # Between the end of the first quarantine and the second: one message asked.
        later = [one for one in refused if one.time - refused[0].time > 1.5]
        assert len(later) == 1, [one.time - refused[0].time for one in refused]
