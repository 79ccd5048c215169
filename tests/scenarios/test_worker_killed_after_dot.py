"""kill -9 of a worker between the final dot and its answer: what the configuration says is done."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from relay.model import Delivery
from relay.store.keys import find_shard, make_key
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.worker import open_worker
from tests.kit.works import SOURCES, Works, open_works


@asynccontextmanager
async def open_killed(
    server: Server, base: Path, policy: str
) -> AsyncIterator[tuple[Works, ScriptedHost, Delivery]]:
    """Works that have not begun, and a message whose worker died with the dot out."""
    addresses = {"a": SOURCES["a"]}
    settings = {"retry": ["1s"], "claim": "1s", "unknown_outcome": policy}
    async with open_host(".1 silence") as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(
            server, base, running=False, routes=routes, addresses=addresses, **settings
        ) as works:
            with open_worker(
                server, base / "w", routes={"y.test": host.port}, addresses=addresses, **settings
            ) as worker:
                delivery = await works.post()
                await host.wait_for(1)
                worker.kill()
                worker.wait()
            # It is claimed by somebody who is dead, and its attempt is open.
            key = make_key(find_shard("y.test"), "attempts")
            assert await works.store.link.call("HEXISTS", key, delivery.id)
            works.check()
            yield works, host, delivery


async def test_retry_sends_it_again_and_counts_it(server: Server, tmp_path: Path) -> None:
    async with open_killed(server, tmp_path, "retry") as (works, host, delivery):
        await works.run_until(delivered=1, queued=0, unknown=1)
        works.check()
        story = b"".join(await works.store.read_story(delivery.message_id))
        assert b"between the final dot and its answer" in story
        (event,) = works.read_events("delivered")
        assert event["attempt"] == 2
        assert len(host.messages) == 2


async def test_hold_waits_for_an_operator(server: Server, tmp_path: Path) -> None:
    async with open_killed(server, tmp_path, "hold") as (works, host, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(works.run)
            await works.wait_for(queued=1, unknown=1)
            (event,) = await works.wait_for_event("unknown")
            assert event["wait"] > 4 * 86400
            assert len(host.messages) == 1
            await works.hurry("y.test")
            await works.wait_for(delivered=1, queued=0, unknown=1)
            nursery.cancel_scope.cancel()
        works.check()
        assert len(host.messages) == 2


async def test_assume_delivered_ends_it(server: Server, tmp_path: Path) -> None:
    async with open_killed(server, tmp_path, "assume-delivered") as (works, host, _):
        await works.run_until(delivered=1, queued=0, unknown=1)
        works.check()
        assert len(host.messages) == 1
