"""Workers are killed, and the store, while one source is blocked and another paced: neither is forgotten.

What is known of a source is in the store, and nowhere else.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.errors import StoreUnavailable
from relay.store.standing import Standing, Standings
from tests.kit.receiver import BLOCKED, Receiver, open_receiver, say_yes
from tests.kit.redis import Server, open_server
from tests.kit.worker import open_worker
from tests.kit.works import SOURCES, Works, open_works

THROTTLED = "450 4.7.1 Error: too much mail from 127.0.0.12"
TABLES = '[reputation]\nsilence = "2s"\n'
pytestmark = pytest.mark.heavy


@pytest.fixture
def server() -> Iterator[Server]:
    with open_server() as server:
        yield server


def judge(client: str, step: str, sender: bytes) -> str:
    """Block a, throttle b."""
    answers = {SOURCES["a"]: BLOCKED, SOURCES["b"]: THROTTLED}
    return answers.get(client, "") if step == "RCPT" else ""


@contextmanager
def open_workers(
    server: Server, base: Path, name: str, count: int, receiver: Receiver
) -> Iterator[list[Any]]:
    """Run worker processes with all sources; their end is a SIGKILL."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                open_worker(
                    server, base / f"{name}{number}", routes={"y.test": receiver.port},
                    addresses=SOURCES, claim="2s", retry=["1s"], tables=TABLES,
                )
            )
            for number in range(count)
        ]  # fmt: skip


async def read_both(works: Works, site: str) -> tuple[Standing | None, Standing | None]:
    found = await Standings(works.store.link, works.config).read([site], works.pool.desk.now())
    return found.get((site, "a")), found.get((site, "b"))


async def wait_for_store(works: Works) -> None:
    """Wait until the link has found it again."""
    with trio.fail_after(10):
        while True:
            try:
                await works.store.read_ledger()
            except StoreUnavailable:
                await trio.sleep(0.05)
            else:
                return


async def wait_for_both(works: Works, site: str) -> tuple[Standing, Standing]:
    """Wait until a is in quarantine and b is paced."""
    with trio.fail_after(20):
        while True:
            a, b = await read_both(works, site)
            if a is not None and a.quarantine and b is not None and b.pace:
                return a, b
            await trio.sleep(0.05)


@pytest.mark.parametrize("also_store", [False, True], ids=["workers", "workers and store"])
async def test_pace_and_quarantine_are_there_when_all_were_killed(
    server: Server, tmp_path: Path, also_store: bool
) -> None:
    async with open_receiver() as receiver:
        site = f"127.0.0.1:{receiver.port}"
        routes = {"y.test": [receiver.make_host()]}
        async with open_works(
            server, tmp_path, routes=routes, addresses=SOURCES, running=False, bell=False
        ) as works:
            with open_workers(server, tmp_path, "before", 2, receiver):
                with trio.fail_after(30):
                    while any(receiver.count_taken(one) < 10 for one in SOURCES.values()):
                        await works.post_many(10)
                        await trio.sleep(0.2)
                receiver.judge = judge
                await works.post_many(60)
                a, b = await wait_for_both(works, site)
            await trio.sleep(0.1)  # what the dead had sent is here by now
            killed = trio.current_time()
            receiver.judge = say_yes
            if also_store:
                await trio.to_thread.run_sync(server.kill)
                await trio.to_thread.run_sync(server.start)
                await wait_for_store(works)
            now_a, now_b = await read_both(works, site)
            assert now_a is not None
            assert now_b is not None
            assert a.quarantine is not None
            assert now_a.quarantine is not None
            assert now_a.quarantine.until >= a.quarantine.until
            assert (now_b.pace, now_b.why) == (b.pace, b.why)
            assert now_b.pace is not None
            with open_workers(server, tmp_path, "after", 1, receiver):
                await works.post_many(100)
                await works.wait_for(queued=0, bounced=0, seconds=40)
            span = trio.current_time() - killed
            from_b = receiver.count_taken(SOURCES["b"], since=killed)
            print(f"b at {now_b.pace:.2f}/s: {from_b} in {span:.1f} s")  # noqa: T201
            assert not receiver.find(SOURCES["a"], since=killed)
            assert receiver.count_taken(SOURCES["c"], since=killed) > 0
            assert from_b <= now_b.pace * (span + 2) * 4
            works.check(leftover=True)
