"""SIGTERM to a worker process with slow peers: what was begun ends, the rest is given back at once."""

import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from relay.config import read
from relay.store.keys import find_shard, make_key
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.audit import Audit, check
from tests.kit.inbox import Inbox
from tests.kit.messages import EVENT, make_delivery
from tests.kit.redis import Server
from tests.kit.worker import open_worker

pytestmark = pytest.mark.slow

BEGUN, ALL = 5, 20


class Held:
    """A worker with BEGUN messages between the dot and its answer, and the others behind them."""

    def __init__(self, server: Server, inbox: Inbox, process: subprocess.Popen[bytes]) -> None:
        self.server = server
        self.inbox = inbox
        self.process = process
        self.answer = threading.Event()

    def count_claims(self) -> int:
        with self.server.client() as client:
            return int(client.zcard(make_key(find_shard("y.test"), "claims")))

    def wait(self) -> None:
        assert self.answer.wait(30)

    def audit(self) -> Audit:
        return check(self.server)


def wait_until(true: Callable[[], bool], what: str, *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
async def held(server: Server, link: Link, tmp_path: Path) -> AsyncIterator[Held]:
    store = Store(link, read({}, base=tmp_path, environment={}))
    with (
        Inbox() as inbox,
        open_worker(
            server,
            tmp_path,
            routes={"y.test": inbox.port},
            addresses={"a": "127.0.0.11"},
            connections=BEGUN,
            retry=["1s"],
            grace="20s",
        ) as process,
    ):
        held = Held(server, inbox, process)
        try:
            for mark in range(BEGUN):  # taken: it may have as many sessions
                await post(store, mark)
            wait_until(lambda: len(inbox.arrived) == BEGUN, "the first have arrived")
            wait_until(lambda: held.count_claims() == 0, "the first are settled")
            inbox.pause = held.wait
            for mark in range(BEGUN, BEGUN + ALL):
                await post(store, mark)
            wait_until(lambda: inbox.waiting == BEGUN, "messages are begun")
            wait_until(lambda: held.count_claims() == ALL, "all are claimed")
            yield held
        finally:
            held.answer.set()


async def post(store: Store, mark: int) -> None:
    delivery = make_delivery("y.test", accepted=time.time(), size=20)
    await store.accept([delivery], EVENT, b"X-Mark: %d\r\n\r\nhello\r\n" % mark)


async def test_first_signal_finishes_what_was_begun(held: Held) -> None:
    held.process.send_signal(signal.SIGTERM)

    wait_until(lambda: held.count_claims() == BEGUN, "the others are given back at once")
    assert held.process.poll() is None
    held.answer.set()
    assert held.process.wait(15) == 0
    assert held.audit().total("ledger") == {
        "accepted": BEGUN + ALL,
        "delivered": 2 * BEGUN,
        "queued": ALL - BEGUN,
    }
    assert sorted(held.inbox.arrived.values()) == [1] * (2 * BEGUN)


@pytest.mark.alone
async def test_second_signal_leaves_at_once(held: Held) -> None:
    held.process.send_signal(signal.SIGTERM)
    wait_until(lambda: held.count_claims() == BEGUN, "the others are given back")

    began = time.monotonic()
    held.process.send_signal(signal.SIGTERM)

    assert held.process.wait(5) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2
    # What was begun is in the store, claimed, its attempt open: reclaim decides about it.
    assert held.count_claims() == BEGUN
    assert held.audit().queued == ALL
