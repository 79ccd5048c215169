"""kill -9 of a worker before the final dot: another sends the message, once."""

from pathlib import Path

import pytest
import trio

from relay.model import Delivery
from relay.store.keys import find_shard, make_key
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.worker import open_worker
from tests.kit.works import SOURCES, Works, open_works

CLAIM = "1s"


@pytest.mark.parametrize(
    ("step", "policy"),
    [("CONNECT", "retry"), ("RCPT", "retry"), ("RCPT", "hold"), ("RCPT", "assume-delivered")],
)
async def test_another_sends_it_once(
    server: Server, tmp_path: Path, step: str, policy: str
) -> None:
    addresses = {"a": SOURCES["a"]}
    settings = {"retry": ["1s"], "claim": CLAIM, "unknown_outcome": policy}
    async with open_host(f"{step}1 silence") as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(
            server, tmp_path, running=False, routes=routes, addresses=addresses, **settings
        ) as works:
            with open_worker(
                server,
                tmp_path / "w",
                routes={"y.test": host.port},
                addresses=addresses,
                **settings,
            ) as worker:
                delivery = await works.post()
                await host.wait_until(lambda: host.counts[step] == 1)
                if policy == "retry" and step == "RCPT":
                    await wait_for_attempt(works, delivery)
                worker.kill()
                worker.wait()
            await works.run_until(delivered=1, queued=0)
            works.check()
            # With `retry` the attempt is on record when the envelope goes out, to save a round
            # trip: it may be called unknown although nothing was sent, and is sent all the same.
            early = policy == "retry" and step == "RCPT"
            await works.wait_for(unknown=int(early))
            story = b"".join(await works.store.read_story(delivery.message_id))
            assert (b'"reclaimed"' in story) is not early
        assert len(host.messages) == 1


async def wait_for_attempt(works: Works, delivery: Delivery) -> None:
    """It is sent to the store together with the envelope; the host may be quicker."""
    key = make_key(find_shard(delivery.domain), "attempts")
    with trio.fail_after(5):
        while not await works.store.link.call("HEXISTS", key, delivery.id):  # noqa: ASYNC110
            await trio.sleep(0.01)
