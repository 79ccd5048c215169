"""Lanes: sessions opened, kept, given up; and what that means for what waits."""

from pathlib import Path

import pytest
import trio

from relay.store.keys import find_shard, make_key
from tests.kit.peer import ScriptedHost, find_refusing_host, open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


async def test_one_connection_carries_many_messages(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, connections=1) as works:
            for _ in range(20):
                await works.post()
            await works.wait_for(delivered=20)
            works.check()
        assert host.sessions == 1
        assert len(host.messages) == 20


async def test_a_session_ends_after_its_number_of_messages(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        settings = {"connections": 1, "messages_per_connection": 3}
        async with open_works(server, tmp_path, routes=routes, **settings) as works:
            for _ in range(7):
                await works.post()
            await works.wait_for(delivered=7)
        assert [message.session for message in host.messages] == [1, 1, 1, 2, 2, 2, 3]


async def test_the_host_s_own_limit_opens_a_new_session(server: Server, tmp_path: Path) -> None:
    async with open_host(offers=("PIPELINING", "LIMITS MAILMAX=2")) as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, connections=1) as works:
            for _ in range(5):
                await works.post()
            await works.wait_for(delivered=5)
        assert [message.session for message in host.messages] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_connections_than_allowed(server: Server, tmp_path: Path, limit: int) -> None:
    async with open_host(". wait") as host:
        host.gate.set()
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, connections=limit) as works:
            for number in range(1, 4):  # taken: as many sessions are earned
                await works.post()
                await works.wait_for(delivered=number)
            host.gate = trio.Event()
            for _ in range(10):
                await works.post()
            # The first in each session waits; the others wait for them, and for nothing else.
            await host.wait_for(3 + limit)
            await trio.sleep(0.1)
            assert host.sessions == limit
            assert len(host.messages) == 3 + limit
            host.gate.set()
            await works.wait_for(delivered=13)
        assert host.sessions == limit


async def test_a_source_works_up_from_one_session(server: Server, tmp_path: Path) -> None:
    async with open_host(". wait") as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            for _ in range(10):
                await works.post()
            await host.wait_for(1)
            await trio.sleep(0.1)
            assert host.sessions == 1
            host.gate.set()
            await works.wait_for(delivered=10)


async def test_an_idle_session_says_quit(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, idle="300ms") as works:
            await works.post()
            await host.wait_for(1)
            start = trio.current_time()
            await host.wait_until(lambda: host.ends == ["quit"])
            assert 0.2 < trio.current_time() - start < 2


@pytest.mark.parametrize("fault", ["eof", "reset", "421 4.4.2 idle for too long"])
async def test_a_kept_session_that_has_ended_costs_no_attempt(
    server: Server, tmp_path: Path, fault: str
) -> None:
    async with open_host(f"MAIL2 {fault}") as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, idle="5s") as works:
            await works.post()
            await works.wait_for(delivered=1)
            await works.post()
            await works.wait_for(delivered=2)
            works.check()
            assert works.read_events("deferred") == []
            assert [event["attempt"] for event in works.read_events("delivered")] == [1, 1]
        assert host.sessions == 2


async def test_when_no_host_will_one_is_deferred_and_the_others_wait(
    server: Server, tmp_path: Path
) -> None:
    routes = {"y.test": [find_refusing_host(), find_refusing_host("other.test")]}
    settings = {"routes": routes, "connections": 1, "retry": ["1h"]}
    async with open_works(server, tmp_path, running=False, **settings) as works:
        for _ in range(10):
            await works.post()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(works.run)
            (rest,) = await works.wait_for_event("resting")
            await works.wait_for_event("deferred")
            await trio.sleep(0.2)
            await works.finish()
        audit = works.check()
        (event,) = works.read_events("deferred")
    assert event["recipients"][0]["status"] == "4.4.1"
    assert 3200 < event["wait"] < 4000
    # Somebody looks a quarter of the first wait later, or sooner, and nobody before.
    assert rest["source"] == "a"
    assert 0 < rest["wait"] <= 900
    assert len(works.read_events("resting")) == 1
    attempts = [slip.attempts for shard in audit.shards for slip in shard.deliveries.values()]
    assert sorted(attempts) == [0] * 9 + [1]


async def test_a_host_that_wants_no_further_session_defers_nothing(
    server: Server, tmp_path: Path
) -> None:
    script = """
        CONNECT2  421 4.7.0 one connection at a time, please
        CONNECT3  554 5.7.0 I said one
        CONNECT4  421 4.7.0 one
        CONNECT5  421 4.7.0 one
        CONNECT6  421 4.7.0 one
        .4        wait
    """
    async with open_host(script) as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, connections=5) as works:
            for number in range(1, 4):  # taken: it may have more sessions
                await works.post()
                await works.wait_for(delivered=number)
            for _ in range(7):
                await works.post()
            # Up to four more are tried at once, and refused; nobody asks again.
            await host.wait_until(lambda: host.sessions >= 2)
            await trio.sleep(0.1)
            host.gate.set()
            await works.wait_for(delivered=10)
            works.check()
            assert works.read_events("deferred") == []
        assert host.sessions <= 5
        assert {message.session for message in host.messages} == {1}


async def test_the_second_host_takes_over(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        routes = {"y.test": [find_refusing_host(), host.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post()
            await works.wait_for(delivered=1)
            assert works.read_events("deferred") == []


async def test_an_envelope_that_cannot_be_said_is_returned(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()], "acme.example": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post(b"b c@y.test")
            await works.post(b"good@y.test")
            await works.wait_for(delivered=1, bounced=1)
            await works.wait_for(delivered=1, book="notices")
            works.check()
        notice = next(message for message in host.messages if not message.sender)
        assert b"5.6.0" in notice.content


@pytest.mark.parametrize(
    ("policy", "recorded"), [("retry", True), ("hold", False), ("assume-delivered", False)]
)
async def test_an_attempt_is_on_record_early_only_where_that_loses_nothing(
    server: Server, tmp_path: Path, policy: str, recorded: bool
) -> None:
    """A worker that dies now has sent nothing; ``reclaim`` believes the record."""
    async with open_host("RCPT silence") as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "unknown_outcome": policy}
        async with open_works(server, tmp_path, **settings) as works:
            delivery = await works.post()
            await host.wait_until(lambda: len(host.commands) > 2)
            key = make_key(find_shard("y.test"), "attempts")
            assert (await works.store.link.call("HGET", key, delivery.id) is not None) is recorded


# -- stopping


async def start_and_block(host: ScriptedHost, works, count: int) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    for _ in range(count):
        await works.post()
    await host.wait_for(1)
    await trio.sleep(0.1)  # until the others are claimed, and wait for the one connection


async def test_stopping_finishes_what_is_begun_and_returns_the_rest(
    server: Server, tmp_path: Path
) -> None:
    async with open_host(".1 wait") as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, connections=1) as works:
            await start_and_block(host, works, 8)
            works.stop.set()
            await trio.sleep(0.1)
            host.gate.set()
            await works.finish()
            assert len(host.messages) == 1
            audit = works.check()
            await works.wait_for(delivered=1, queued=7, unknown=0)
            # At once: nobody has to wait for a lease to end, and no attempt was made.
            assert not any(shard.claims for shard in audit.shards)
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.wait_for(delivered=8, seconds=3)


async def test_stopping_does_not_wait_for_ever(server: Server, tmp_path: Path) -> None:
    async with open_host(".1 silence") as host:
        routes = {"y.test": [host.make_host()]}
        settings = {"routes": routes, "grace": "300ms", "connections": 1}
        async with open_works(server, tmp_path, **settings) as works:
            await start_and_block(host, works, 3)
            start = trio.current_time()
            await works.finish()
            assert trio.current_time() - start < 3
            await works.wait_for(queued=3)
            works.check()


async def test_idle_sessions_end_at_once_when_stopping(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, idle="1h") as works:
            await works.post()
            await works.wait_for(delivered=1)
            await works.finish()
            await host.wait_until(lambda: host.ends == ["quit"])
