"""A provider has something against one tenant's name: it waits on every source, the others' mail flows."""

from pathlib import Path

import pytest
import trio

from tests.kit.fleet import open_fleet
from tests.kit.receiver import open_receiver
from tests.kit.redis import Server
from tests.kit.works import SOURCES

pytestmark = pytest.mark.heavy

ANSWER = (
    "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your DKIM "
    "domain [acme.example]. To protect our users from spam, mail sent from your domain has been "
    "temporarily rate limited. - gsmtp"
)
TENANTS = [
    {"name": "acme", "domains": ["acme.example"], "networks": ["127.0.0.0/8"]},
    {"name": "globex", "domains": ["globex.example"], "networks": ["127.0.0.0/8"]},
]
OURS, THEIRS = b"alice@acme.example", b"gus@globex.example"
RATE = 40.0
SESSIONS = 5  # of each source and worker, at most
GLOBEX = {"tenant": "globex", "sender": THEIRS}


def judge(client: str, step: str, sender: bytes) -> str:
    return ANSWER if step == "." and sender == OURS else ""


async def test_it_waits_everywhere_and_others_do_not(server: Server, tmp_path: Path) -> None:
    tables = {
        "tenant": TENANTS,
        # The name tells whose words these are.
        "site": [
            {"name": "google", "domains": ["y.test"], "tls": "none"},
            {"name": "elsewhere", "domains": ["z.test"]},
        ],
    }
    async with open_receiver() as receiver, open_receiver() as other:
        routes = {"y.test": [receiver.make_host()], "z.test": [other.make_host()]}
        async with open_fleet(
            server, tmp_path, routes=routes, tables=tables, connections=SESSIONS
        ) as fleet:
            async with (
                fleet.send_steadily(b"bob@y.test", rate=RATE),
                fleet.send_steadily(b"bob@y.test", rate=RATE, **GLOBEX),
            ):
                await receiver.wait_until(
                    lambda: all(receiver.count_taken(one) >= 20 for one in SOURCES.values())
                )
                await fleet.post(200)  # much is in hand when the first answer comes
                receiver.judge = judge
                (event, *_) = await fleet.wait_for_events("put-off")
                assert (event["tenant"], event["site"]) == ("acme", "google")
                assert event["wait"] >= 59
                start = trio.current_time()
                await trio.sleep(5)
                span = trio.current_time() - start
                # To another site it goes as ever.
                await fleet.post(20, b"bob@z.test")
                await other.wait_until(lambda: other.count_taken() == 20, seconds=5)
            refused = receiver.find(taken=False)
            lasted = refused[-1].time - refused[0].time
            theirs = [one for one in receiver.find(taken=True, since=start) if one.sender == THEIRS]
            print(  # noqa: T201
                f"{len(refused)} refused within {lasted:.2f} s; the other's: {len(theirs) / span:.0f}/s"
            )
            assert lasted < 20  # of the minute; a busy machine may stand still for seconds
            # In each session of three sources of two workers one, and one while it was heard of; not all
            # that was in hand.
            assert len(refused) <= 2 * 3 * SESSIONS * 2
            assert len(theirs) > 0.9 * RATE * span - RATE
            assert not fleet.read_events("slowed")
            assert not fleet.read_events("quarantined")
            ledger = (await fleet.first.store.read_ledger())["ledger"]
            assert ledger["bounced"] == 0
            for one in fleet.works:
                await one.finish()
            fleet.first.check(leftover=True)
