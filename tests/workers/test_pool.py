"""The pool: nobody waits for somebody else, everything claimed is ended, sources share by weight."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import workers.postmaster
from relay.store.keys import SHARDS, find_shard, make_key, make_queue
from tests.kit.messages import find_domains, make_deliveries
from tests.kit.nameserver import SILENT, open_nameserver
from tests.kit.peer import DeadHost, ScriptedHost, find_refusing_host, open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, Works, open_works
from workers.berth import DEPTH


async def post_many(works: Works, addresses: list[bytes]) -> None:
    """Accept many messages at once."""

    async def post(address: bytes) -> None:
        async with slots:
            await works.post(address)

    slots = trio.CapacityLimiter(100)
    async with trio.open_nursery() as nursery:
        for address in addresses:
            nursery.start_soon(post, address)


# -- what messages ask of TLS


async def test_a_notice_that_asks_for_requiretls_goes_without_and_its_message_does_not(
    server: Server, tmp_path: Path
) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post(b"bob@y.test", tls="required")
            await works.post(b"ann@y.test", sender=b"", notice=True, tls="required")
            await works.wait_for(book="notices", delivered=1)
            (event, *_) = await works.wait_for_event("deferred")
            assert event["recipients"][0]["address"] == "bob@y.test"
            assert (await works.store.read_ledger())["ledger"]["delivered"] == 0
        assert [message.recipients for message in host.messages] == [(b"ann@y.test",)]


# -- sources


async def test_sources_share_by_weight(server: Server, tmp_path: Path) -> None:
    """About: a source that has as much in hand as it may have lets the others go first."""
    weights = {"a": 5, "b": 3, "c": 2}
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        settings = {"routes": routes, "weights": weights, "addresses": SOURCES}
        async with open_works(server, tmp_path, **settings) as works:
            await post_many(works, [b"bob@y.test"] * 300)
            await works.wait_for(delivered=300)
        shares = Counter(message.client for message in host.messages)
    wanted = {"127.0.0.11": 150, "127.0.0.12": 90, "127.0.0.13": 60}
    assert all(abs(shares[client] - share) <= 18 for client, share in wanted.items()), shares


async def test_a_source_whose_address_is_gone_rests_and_others_do_its_work(
    server: Server, tmp_path: Path
) -> None:
    addresses = {"a": "127.0.0.11", "gone": "192.0.2.77", "c": "127.0.0.13"}
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, addresses=addresses) as works:
            await post_many(works, [b"bob@y.test"] * 60)
            await works.wait_for(delivered=60)
            works.check()
            (event,) = works.read_events("suspended")
            assert event["source"] == "gone"
            assert "192.0.2.77" in event["text"]
            # No attempt was made, so none is counted.
            assert works.read_events("deferred") == []
        shares = Counter(message.client for message in host.messages)
    assert set(shares) == {"127.0.0.11", "127.0.0.13"}
    assert min(shares.values()) >= 20


async def test_without_any_source_messages_wait_and_lose_no_attempt(
    server: Server, tmp_path: Path
) -> None:
    addresses = {"gone": "192.0.2.77"}
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, addresses=addresses) as works:
            await works.post()
            await works.wait_for_event("suspended")
            await works.finish()
            works.check()
            assert works.read_events("deferred") == []
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.hurry("y.test")
            await works.wait_for(delivered=1)
            (event,) = works.read_events("delivered")
            assert event["attempt"] == 1


async def test_each_pool_sends_from_its_own_sources(server: Server, tmp_path: Path) -> None:
    tables = {"pool": {"default": {"a": 1}, "other": {"b": 1}}}
    async with open_host() as host:
        settings = {"routes": {"*": [host.make_host()]}, "addresses": SOURCES, "tables": tables}
        async with open_works(server, tmp_path, **settings) as works:
            for pool in ("default", "other"):
                await works.post(f"bob@{pool}.test".encode(), pool=pool)
            await works.wait_for(delivered=2)
        senders = {message.recipients[0]: message.client for message in host.messages}
    assert senders == {b"bob@default.test": "127.0.0.11", b"bob@other.test": "127.0.0.12"}


# -- nobody waits for somebody else

BACKLOG = 1000


@asynccontextmanager
async def open_backlog(
    server: Server, base: Path, down: Any, host: ScriptedHost, **settings: Any
) -> AsyncIterator[Works]:
    """A pool with a backlog for a domain that is down, at work on it."""
    routes = {"down.test": [down], "y.test": [host.make_host()]}
    async with open_works(server, base, running=False, routes=routes, **settings) as works:
        await post_many(works, [b"bob@down.test"] * BACKLOG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(works.run)
            await trio.sleep(0.5)
            yield works
            nursery.cancel_scope.cancel()


async def check_delay(works: Works, host: ScriptedHost) -> None:
    for number in range(1, 4):
        start = trio.current_time()
        await works.post()
        await host.wait_for(number)
        assert trio.current_time() - start < 2


async def test_a_site_that_refuses_delays_nobody_else(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        down = find_refusing_host()
        async with open_backlog(server, tmp_path, down, host, retry=["1h"]) as works:
            await check_delay(works, host)


async def test_a_site_that_drops_packets_delays_nobody_else(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        with DeadHost() as dead:
            async with open_backlog(server, tmp_path, dead.host, host) as works:
                await check_delay(works, host)


async def test_a_site_that_says_nothing_delays_nobody_else(server: Server, tmp_path: Path) -> None:
    async with open_host() as host, open_host("CONNECT silence") as silent:
        async with open_backlog(server, tmp_path, silent.make_host(), host) as works:
            await check_delay(works, host)


async def test_a_domain_without_working_dns_delays_nobody_else(
    server: Server, tmp_path: Path
) -> None:
    async with open_nameserver({"down.test": SILENT}) as names, open_host() as host:
        dns = {"nameservers": [f"{names.address}:{names.port}"], "timeout": "5s"}
        routes = {"y.test": [host.make_host()]}
        settings = {"routes": routes, "tables": {"dns": dns}}
        async with open_works(server, tmp_path, running=False, **settings) as works:
            await post_many(works, [b"bob@down.test"] * 200)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works.run)
                await trio.sleep(0.3)
                await check_delay(works, host)
                nursery.cancel_scope.cancel()
        assert ("down.test", "MX") in names.queries


# -- everything arrives


async def test_two_thousand_messages_to_two_hundred_domains(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        async with open_works(server, tmp_path, routes={"*": [host.make_host()]}) as works:
            await post_many(works, [b"bob@d%d.test" % (n % 200) for n in range(2000)])
            await works.wait_for(delivered=2000, queued=0, seconds=60)
            works.check()
        arrived = Counter(message.recipients for message in host.messages)
    assert len(arrived) == 200
    assert set(arrived.values()) == {10}


@pytest.mark.parametrize("in_flight", [1, 7, 150])
async def test_little_room_starves_no_shard(server: Server, tmp_path: Path, in_flight: int) -> None:
    tables = {"pool": {"default": {"a": 1}, "other": {"a": 1}}}
    domains = find_domains(SHARDS)
    async with open_host() as host:
        routes = {"*": [host.make_host()]}
        settings = {"routes": routes, "tables": tables, "in_flight": in_flight}
        async with open_works(server, tmp_path, **settings) as works:
            await trio.sleep(0.2)  # every shard has been looked at, and is asleep
            for domain in domains:
                await works.post(b"bob@" + domain.encode())
                await works.post(b"eve@" + domain.encode(), pool="other")
            await works.wait_for(delivered=2 * SHARDS, seconds=4)


# -- waking up


async def test_an_idle_worker_hears_the_bell(server: Server, tmp_path: Path) -> None:
    tables = {"pool": {"default": {"a": 1}, "other": {"a": 1}}}
    async with open_host() as host:
        routes = {"*": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, tables=tables) as works:
            delays = []
            for number, domain in enumerate(find_domains(8), 1):
                await trio.sleep(0.05)
                start = trio.current_time()
                pool = ("default", "other")[number % 2]
                await works.post(b"bob@" + domain.encode(), pool=pool)
                await host.wait_for(number)
                delays.append(trio.current_time() - start)
    # All but one, for a machine that is busy with something else.
    assert sorted(delays)[-2] < 0.1


async def test_without_the_bell_it_looks_from_time_to_time(server: Server, tmp_path: Path) -> None:
    async with open_host() as host:
        settings = {"routes": {"*": [host.make_host()]}, "claim": "1s"}
        async with open_works(server, tmp_path, bell=False, **settings) as works:
            await trio.sleep(0.2)
            start = trio.current_time()
            await works.post()
            await host.wait_for(1)
            assert 0.1 < trio.current_time() - start < 1.5


# -- ends


async def test_a_message_whose_time_is_over_is_not_tried_again(
    server: Server, tmp_path: Path
) -> None:
    async with open_host() as host:
        routes = {"*": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, expire="1h") as works:
            await works.post(accepted=time.time() - 3700)
            await works.wait_for(bounced=1)
            await works.wait_for(delivered=1, book="notices")
            works.check()
        assert [message.sender for message in host.messages] == [b""]


async def test_deliveries_on_their_way_between_shards_are_brought_home(
    server: Server, tmp_path: Path
) -> None:
    """The ingress died between `accept` and `enqueue`: the outbox has it."""
    here, there = find_domains(2)
    async with open_host() as host:
        routes = {"*": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, running=False) as works:
            deliveries = make_deliveries(here, there, size=5, accepted=time.time())
            forward, works.store.forward = works.store.forward, _nothing  # type: ignore[method-assign]
            await works.store.accept(deliveries, b"{}", b"hello")
            works.store.forward = forward  # type: ignore[method-assign]
            assert await works.store.read_outbox(find_shard(here))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works.run)
                await works.wait_for(delivered=2, seconds=15)
                nursery.cancel_scope.cancel()


async def _nothing(_: object) -> None:
    pass


async def test_stopping_while_a_claim_is_under_way_leaves_nothing_claimed(
    server: Server, tmp_path: Path
) -> None:
    async with open_host() as host:
        routes = {"*": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, running=False) as works:
            await post_many(works, [b"bob@d%d.test" % n for n in range(200)])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works.run)
                for _ in range(3):  # claims are sent, none is answered yet
                    await trio.lowlevel.checkpoint()
                await works.finish()
            audit = works.check()
    assert not any(shard.claims for shard in audit.shards)


async def test_a_path_found_after_the_stop_begins_no_session(
    server: Server, tmp_path: Path
) -> None:
    zone = {"y.test": {"MX": ["10 mx.y.test."]}, "mx.y.test": {"A": ["192.0.2.1"]}}
    async with open_nameserver(zone) as names:
        names.gate = trio.Event()
        dns = {"nameservers": [f"{names.address}:{names.port}"], "timeout": "5s"}
        async with open_works(server, tmp_path, tables={"dns": dns}) as works:
            await works.post()
            with trio.fail_after(5):
                while not names.queries:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            works.stop.set()
            await trio.sleep(0.1)
            names.gate.set()
            start = trio.current_time()
            await works.finish()
            assert trio.current_time() - start < 2
            assert works.read_events("deferred") == []  # nothing was tried
            audit = works.check()
    assert not any(shard.claims for shard in audit.shards)


async def test_a_fault_of_ours_with_one_message_does_not_stop_the_others(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(workers.postmaster, "make_notice", explode)
    async with open_host("RCPT1 550 5.1.1 no") as host:
        routes = {"*": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, expire="1h") as works:
            await works.post(accepted=time.time() - 3700)  # ends in the pool
            await works.post(b"refused@y.test")  # ends in a lane
            await works.post(b"x" * 10 + b" y@y.test")  # ends in a lane, before anything is said
            await trio.sleep(0.3)
            await works.post(b"good@y.test")
            await works.wait_for(delivered=1, queued=3)


async def test_what_ends_wakes_the_feeder_that_waits_now(server: Server, tmp_path: Path) -> None:
    """The one that claimed it has gone: its lane was empty, and news of more made another."""
    async with open_host(". wait") as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, connections=1) as works:
            await works.post_many(DEPTH)
            await host.wait_for(1)
            with trio.fail_after(5):
                while any(feeder.site for feeder in works.pool.list_feeders()):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            await works.post()
            with trio.fail_after(5):
                while not any(f._waits_for_room for f in works.pool.list_feeders()):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            host.gate.set()
            await works.wait_for(delivered=DEPTH + 1, seconds=5)


async def test_a_site_is_found_without_waiting_for_a_policy(server: Server, tmp_path: Path) -> None:
    """A policy may take half a minute: look-ups of others' sites must not wait for it."""
    zone = {
        "y.test": {"MX": ["10 mx.y.test."]},
        "mx.y.test": {"A": ["192.0.2.1"]},
        "_mta-sts.y.test": SILENT,
    }
    async with open_nameserver(zone) as nameserver:
        tables = {"dns": {"nameservers": [str(nameserver.endpoint)], "timeout": "30s"}}
        async with open_works(server, tmp_path, tables=tables) as works:
            await works.post(b"bob@y.test")
            with trio.fail_after(5):
                while not await _find_sites(works, "y.test"):  # noqa: ASYNC110 - the store tells nobody
                    await trio.sleep(0.01)
            assert await _find_sites(works, "y.test") == {"mx.y.test"}


async def _find_sites(works: Works, domain: str) -> set[str]:
    """Return the sites that a domain's queues are known to have."""
    queue = make_queue("acme", domain)
    site = await works.store.link.call("GET", make_key(find_shard(domain), "site", queue))
    return {site.decode()} if site else set()
