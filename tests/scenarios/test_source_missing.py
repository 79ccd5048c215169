"""A source whose address is not on this machine: its share goes through the others."""

from pathlib import Path

import pytest

from relay.errors import SourceUnusable
from relay.net.connect import bind_source
from tests.kit.inbox import Inbox
from tests.kit.peer import SMALL
from tests.kit.redis import Server
from tests.kit.works import SOURCES, open_works
from workers.hosts import Host

MISSING = "203.0.113.77"  # RFC 5737: nobody has it


def test_missing_is_missing() -> None:
    with pytest.raises(SourceUnusable):
        bind_source(MISSING)


async def test_its_share_goes_through_the_others(server: Server, tmp_path: Path) -> None:
    addresses = {"a": SOURCES["a"], "gone": MISSING, "b": SOURCES["b"]}
    with Inbox() as inbox:
        host = Host("mx.test", "127.0.0.1", inbox.port)
        async with open_works(
            server,
            tmp_path,
            routes={"y.test": [host]},
            addresses=addresses,
            weights={"a": 1, "gone": 5, "b": 1},
        ) as works:
            for number in range(20):
                await works.post(b"bob@y.test", content=b"X-Mark: %d\r\n" % number + SMALL)
            await works.wait_for(delivered=20)
            # Not one is tried from there while it rests.
            for number in range(20, 30):
                await works.post(b"bob@y.test", content=b"X-Mark: %d\r\n" % number + SMALL)
            await works.wait_for(delivered=30, queued=0, bounced=0, unknown=0)
            await works.finish()

        (suspended,) = works.read_events("suspended")
        assert suspended["source"] == "gone"
        assert MISSING in suspended["text"]
        assert works.read_events("deferred") == []
        delivered = works.read_events("delivered")
        assert {event["attempt"] for event in delivered} == {1}
        assert {event["source"] for event in delivered} == {"a", "b"}
        assert inbox.clients.keys() == {SOURCES["a"], SOURCES["b"]}
        assert sorted(inbox.arrived.values()) == [1] * 30
        works.check()


async def test_mail_waits_while_no_source_is_left(server: Server, tmp_path: Path) -> None:
    with Inbox() as inbox:
        host = Host("mx.test", "127.0.0.1", inbox.port)
        async with open_works(
            server, tmp_path, routes={"y.test": [host]}, addresses={"gone": MISSING}
        ) as works:
            for _ in range(5):
                await works.post(b"bob@y.test")
            await works.wait_for_event("suspended")
            await works.finish()

        assert works.read_events("deferred") == []
        audit = works.check()
        assert audit.queued == 5
        attempts = [slip.attempts for shard in audit.shards for slip in shard.deliveries.values()]
        assert attempts == [0] * 5
        assert not inbox.arrived
