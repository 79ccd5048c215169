"""A retry that wants a certain source waits for it; when that source is gone, another has it."""

from pathlib import Path

import pytest
import trio

import relay.store.gate
import workers.desk
import workers.rounds
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, make_config, open_works

TWO = {name: SOURCES[name] for name in "ab"}


@pytest.fixture(autouse=True)
def quick_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was not heard of for half a second is gone."""
    monkeypatch.setattr(workers.rounds, "ANNOUNCE", 0.1)
    monkeypatch.setattr(relay.store.gate, "PRESENCE", 0.5)


async def test_greylisting_holds_over_two_workers(server: Server, tmp_path: Path) -> None:
    """The one that did not try it leaves it alone."""
    async with open_host("\n".join(f"RCPT{n} 451 4.7.1 greylisted" for n in range(1, 9))) as host:
        config = make_config(tmp_path, routes={"y.test": [host.make_host()]}, addresses=TWO)
        async with (
            open_works(server, tmp_path, config=config, names=("a",)) as one,
            open_works(server, tmp_path, config=config, names=("b",)) as other,
        ):
            await trio.sleep(0.3)  # they have heard of each other
            for number in range(8):
                await one.post(b"r%d@y.test" % number)
            await one.wait_for(delivered=8, queued=0)
            await one.finish()
            await other.finish()
            one.check()
            other.events.flush()  # they share a log
            deferred, delivered = one.read_events("deferred"), one.read_events("delivered")
    first = {event["id"]: event["source"] for event in deferred}
    assert {event["id"]: event["source"] for event in delivered} == first
    assert set(first.values()) == {"a", "b"}


async def test_when_the_source_is_gone_another_has_it(server: Server, tmp_path: Path) -> None:
    async with open_host("RCPT1 451 4.7.1 greylisted") as host:
        config = make_config(
            tmp_path, routes={"y.test": [host.make_host()]}, addresses=TWO, claim="1s"
        )
        async with open_works(server, tmp_path, config=config, names=("b",)) as gone:
            await gone.post()
            await gone.wait_for_event("deferred")
            await gone.finish()
        async with open_works(server, tmp_path, config=config, names=("a",)) as works:
            await works.wait_for(delivered=1, queued=0, seconds=5)
            await works.finish()
            works.check()
            (event,) = works.read_events("delivered")
    assert (event["source"], event["attempt"]) == ("a", 2)


async def test_a_blocked_source_s_message_goes_from_another(server: Server, tmp_path: Path) -> None:
    reply = "554 5.7.1 Service unavailable; client host [127.0.0.12] blocked using zen.spamhaus.org"
    script = f"MAIL1 {reply.replace('554 5', '450 4')}"
    async with open_host(script) as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "addresses": TWO}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post()
            (deferred,) = await works.wait_for_event("deferred")
            assert deferred["recipients"][0]["blame"] == "source"
            await works.wait_for(delivered=1, queued=0)
            (delivered,) = works.read_events("delivered")
            await works.finish()
            works.check()
    assert {deferred["source"], delivered["source"]} == {"a", "b"}
