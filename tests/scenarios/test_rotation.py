"""Weighted shares over all workers, whichever of them is fastest; who does not come stalls nobody."""

import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

import workers.rounds
from relay.store.suspension import Suspension, Suspensions
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.worker import open_worker
from tests.kit.works import SOURCES, Works, make_config, open_works

WEIGHTS = {"a": 5, "b": 2, "c": 3}
COUNT = 1000


def count_shares(host: ScriptedHost) -> dict[str, int]:
    by_address = Counter(message.client for message in host.messages)
    return {name: by_address[address] for name, address in SOURCES.items()}


@pytest.mark.parametrize("crews", [["a", "b", "c"], ["abc"], ["ab", "c"]], ids="-".join)
async def test_shares_hold_over_all_workers(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crews: list[str]
) -> None:
    monkeypatch.setattr(workers.rounds, "ANNOUNCE", 0.1)
    async with open_host() as host, AsyncExitStack() as stack:
        routes = {"y.test": [host.make_host()]}
        config = make_config(tmp_path, routes=routes, weights=WEIGHTS, addresses=SOURCES)
        works = [
            await stack.enter_async_context(
                open_works(server, tmp_path, config=config, names=tuple(crew))
            )
            for crew in crews
        ]
        with trio.fail_after(5):
            while not all(one.pool.desk.find_weights("default") == WEIGHTS for one in works):  # noqa: ASYNC110
                await trio.sleep(0.02)
        suspensions = Suspensions(works[0].store.link)
        await suspensions.suspend(Suspension(tenant="acme"))
        await trio.sleep(0.1)
        await works[0].post_many(COUNT)
        await suspensions.resume(Suspension(tenant="acme"))
        await works[0].wait_for(delivered=COUNT, queued=0)
        works[0].check()
    shares = count_shares(host)
    assert all(
        abs(shares[name] - COUNT * weight / 10) <= COUNT * 0.02 for name, weight in WEIGHTS.items()
    ), shares


async def test_a_source_that_does_not_take_its_turn_stalls_nobody(
    server: Server, tmp_path: Path
) -> None:
    """Its process hangs. A second later the others pass it over; what it held comes back."""
    ours = {name: SOURCES[name] for name in "ab"}
    async with open_host() as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "addresses": ours, "claim": "2s"}
        async with open_works(server, tmp_path, names=("a",), **settings) as works:
            with open_worker(
                server,
                tmp_path / "w",
                routes={"y.test": host.port},
                addresses=ours,
                names=("b",),
                claim="2s",
            ) as process:
                await wait_for_both(works, host)
                process.send_signal(signal.SIGSTOP)
                before = len(host.messages)
                start = trio.current_time()
                await works.post_many(200)
                # All but what the other had in hand when it hung, or takes to its grave.
                await host.wait_for(before + 100, seconds=3)
                assert trio.current_time() - start < 3
                await host.wait_for(before + 200, seconds=10)
                assert trio.current_time() - start < 8
                await works.wait_for(queued=0, bounced=0)
                process.send_signal(signal.SIGCONT)
                await trio.sleep(0.2)
                process.kill()
                process.wait()
            await works.finish()
            works.check(leftover=True)
    assert {message.client for message in host.messages[-50:]} == {SOURCES["a"]}


async def wait_for_both(works: Works, host: ScriptedHost) -> None:
    """Post until both sources send."""
    deadline = time.monotonic() + 10
    while {message.client for message in host.messages} != {SOURCES["a"], SOURCES["b"]}:
        assert time.monotonic() < deadline
        await works.post_many(10)
        await works.wait_for(queued=0)
