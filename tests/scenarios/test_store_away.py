"""The store is gone for a while, killed or hung, with messages between the dot and its answer.

What the hosts took is settled when the store is back and not sent again, also when the claims
have run out meanwhile; what is on hold goes on by itself; senders are asked to come back.
"""

import os
import signal
import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from relay.model import Delivery
from relay.store.keys import find_shard
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.family import find_role, wait_for_role
from tests.kit.gateway import Gateway
from tests.kit.inbox import Inbox
from tests.kit.peer import SMALL
from tests.kit.redis import Server, open_server
from tests.kit.works import Works, open_works
from workers.hosts import Host

# Claims run out after a second; the store is away for three.
CLAIM, AWAY = 1.0, 3.0


@pytest.fixture
def server() -> Iterator[Server]:
    with open_server() as server:
        yield server


class Gate:
    """Holds answers back until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.open = self._open.set

    def __call__(self) -> None:
        assert self._open.wait(30)


def stop_and_go(server: Server) -> tuple[Callable[[], None], Callable[[], None]]:
    assert server.process is not None
    process = server.process
    return (
        lambda: process.send_signal(signal.SIGSTOP),
        lambda: process.send_signal(signal.SIGCONT),
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_delivered_and_not_settled_is_settled_later(
    server: Server, tmp_path: Path, how: str
) -> None:
    gate = Gate()
    go_away, come_back = (server.kill, server.start) if how == "killed" else stop_and_go(server)
    tables = {"store": {"timeout": "500ms"}}
    with Inbox() as inbox:
        host = Host("mx.test", "127.0.0.1", inbox.port)
        async with open_works(
            server, tmp_path, routes={"y.test": [host]}, claim=CLAIM, tables=tables
        ) as works:
            for number in range(8):  # taken: it may have as many sessions
                await post(works, number)
                await works.wait_for(delivered=number + 1)
            inbox.pause = gate
            for number in range(8, 16):
                await post(works, number)
            with trio.fail_after(10):
                while inbox.waiting < 8:  # noqa: ASYNC110 - they are threads
                    await trio.sleep(0.01)

            go_away()
            gate.open()
            await trio.sleep(AWAY)
            assert len(inbox.arrived) == 16
            await trio.to_thread.run_sync(come_back)
            # Another worker looks for what the dead have left before we can say that we live.
            assert await reclaim_as_another(server, works) == []

            await works.wait_for(delivered=16, queued=0, unknown=0)
            # Two more rounds of reclaim, in which nothing may turn up again.
            await trio.sleep(CLAIM)
            # Mail that comes now goes as ever.
            await post(works, 16)
            await works.wait_for(delivered=17)
            await works.finish()
    assert sorted(inbox.arrived.values()) == [1] * 17
    check(server)


async def reclaim_as_another(server: Server, works: Works) -> list[bytes]:
    link = Link(server.url, timeout=10)
    found = await Store(link, works.config).reclaim(find_shard("y.test"))
    await link.aclose()
    return found


async def post(works: Works, number: int) -> Delivery:
    content = b"X-Mark: %d\r\n" % number + SMALL
    return await works.post(b"bob@y.test", content=content)


def send(session: smtplib.SMTP, mark: int) -> int:
    """Send a message; return the code that decided."""
    session.rset()
    code = session.mail("s@acme.example")[0]
    if code == 250:
        session.rcpt("r@d1.load.test")
        code = session.data(f"X-Mark: {mark}\r\n\r\nhello\r\n")[0]
    return code


def connect(gateway: Gateway) -> smtplib.SMTP:
    session = smtplib.SMTP("127.0.0.1", gateway.port, "client.test", timeout=60)
    session.ehlo()
    return session


def insist(session: smtplib.SMTP, mark: int) -> set[int]:
    """Send until the message is accepted; return the other answers."""
    deadline = time.monotonic() + 20
    codes = set()
    while (code := send(session, mark)) != 250:
        codes.add(code)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return codes


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as inbox:
        yield inbox


@pytest.fixture
def gateway(inbox: Inbox) -> Iterator[Gateway]:
    """All of it, at work: one message has gone through."""
    with Gateway({"*.load.test": inbox.port}, store='timeout = "500ms"') as gateway:
        with connect(gateway) as session:
            assert send(session, 1) == 250
        assert inbox.wait(1)
        yield gateway


@pytest.mark.slow
def test_hung_store(inbox: Inbox, gateway: Gateway) -> None:
    (store,) = find_role(gateway.pid, "store")
    codes: list[int] = []
    with connect(gateway) as caught, connect(gateway) as next_one:
        os.kill(store, signal.SIGSTOP)
        # Sent to a store that does not answer: nobody knows, so it is asked until it does.
        sending = threading.Thread(target=lambda: codes.append(send(caught, 2)))
        sending.start()
        time.sleep(3)  # by now it is known, and said at MAIL
        assert send(next_one, 3) == 451
        os.kill(store, signal.SIGCONT)
        sending.join()
        assert codes == [250]
        assert insist(next_one, 3) <= {451}

    assert inbox.wait(3)
    assert gateway.wait_ledger(3).is_closed
    assert set(inbox.arrived.values()) == {1}, inbox.arrived


@pytest.mark.slow
def test_killed_store(inbox: Inbox, gateway: Gateway) -> None:
    (store,) = find_role(gateway.pid, "store")
    with connect(gateway) as session:
        os.kill(store, signal.SIGKILL)
        assert insist(session, 2) <= {451}
    assert wait_for_role(gateway.pid, "store", 1) != [store]

    assert inbox.wait(2)
    assert gateway.wait_ledger(2).is_closed
    assert set(inbox.arrived.values()) == {1}, inbox.arrived
