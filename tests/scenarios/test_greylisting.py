"""A host that says "come back later": the same source does, and is let in."""

from pathlib import Path

from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, open_works


async def test_a_greylisted_message_comes_back_from_the_same_source(
    server: Server, tmp_path: Path
) -> None:
    async with open_host("\n".join(f"RCPT{n} 451 4.7.1 greylisted" for n in (1, 2, 3))) as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "addresses": SOURCES}
        async with open_works(server, tmp_path, **settings) as works:
            for number in range(3):
                await works.post(b"r%d@y.test" % number)
            deferred = await works.wait_for_event("deferred", 3)
            await works.wait_for(delivered=3, queued=0)
            works.check()
            delivered = works.read_events("delivered")
    first = {event["id"]: event["source"] for event in deferred}
    assert {event["id"]: event["source"] for event in delivered} == first
    assert set(first.values()) == set(SOURCES)
    assert {event["attempt"] for event in delivered} == {2}
    assert all(0.9 <= event["wait"] <= 1.1 for event in deferred)


async def test_one_greylisted_recipient_holds_up_only_itself(
    server: Server, tmp_path: Path
) -> None:
    async with open_host("RCPT2 450 4.2.0 greylisted") as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            await works.post(b"a@y.test", b"b@y.test", b"c@y.test")
            await works.wait_for(delivered=2, queued=1)
            await works.wait_for(delivered=3, queued=0)
            works.check()
        assert [m.recipients for m in host.messages] == [
            (b"a@y.test", b"c@y.test"),
            (b"b@y.test",),
        ]
