"""A provider limits our netblock: all addresses of the same /24 slow down, at that site only."""

from pathlib import Path

import trio

from tests.kit.fleet import open_fleet
from tests.kit.receiver import open_receiver, say_yes
from tests.kit.redis import Server
from tests.kit.works import SOURCES

ANSWER = (
    "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP "
    "Netblock. To protect our users from spam, mail sent from your IP Netblock has been temporarily "
    "rate limited. - gsmtp"
)
# Two neighbours, and one that has nothing to do with them.
ADDRESSES = {"a": SOURCES["a"], "b": SOURCES["b"], "far": "127.0.1.11"}
RATE = 60.0


def judge(client: str, step: str, sender: bytes) -> str:
    return ANSWER if step == "." and client == SOURCES["a"] else ""


async def test_neighbours_slow_down_and_nobody_else(server: Server, tmp_path: Path) -> None:
    tables = {
        # The name tells whose words these are.
        "site": [
            {"name": "google", "domains": ["y.test"], "tls": "none"},
            {"name": "elsewhere", "domains": ["z.test"]},
        ],
    }
    async with open_receiver() as receiver, open_receiver() as other:
        routes = {"y.test": [receiver.make_host()], "z.test": [other.make_host()]}
        crews = (("a", "b"), ("b", "far"))  # b is at both: both have to hear of it
        async with open_fleet(
            server, tmp_path, routes=routes, addresses=ADDRESSES, crews=crews, tables=tables
        ) as fleet:
            async with fleet.send_steadily(b"bob@y.test", b"bob@z.test", rate=RATE):
                await receiver.wait_until(
                    lambda: all(receiver.count_taken(one) >= 20 for one in ADDRESSES.values())
                )
                receiver.judge = judge
                (at_a,) = await fleet.wait_for_events("slowed", source="a")
                (at_b,) = await fleet.wait_for_events("slowed", source="b")
                receiver.judge = say_yes
                start = trio.current_time()
                await trio.sleep(3)
                span = trio.current_time() - start
            await fleet.finish()
            for source in ("a", "b"):
                assert (await fleet.read_standing("google", source)).pace is not None
                assert (await fleet.read_standing("elsewhere", source)).pace is None
            assert (await fleet.read_standing("google", "far")).pace is None
            assert {event["site"] for event in fleet.read_events("slowed")} == {"google"}
            assert "Netblock" in at_b["text"]
            # At once: both by one report.
            assert abs(at_a["time"] - at_b["time"]) < 1
            refused = receiver.find(taken=False)
            there = other.count_taken(since=start) / span
            print(f"{len(refused)} refused; elsewhere {there:.0f}/s")  # noqa: T201
            assert {one.client for one in refused} == {SOURCES["a"]}
            assert there > 0.8 * RATE / 2
