"""At a site that takes less than there is: tenants and priorities take turns, and none waits for ever."""

from collections.abc import Callable
from pathlib import Path

import trio

from relay.config import Config
from relay.store.keys import SHARDS
from tests.kit.messages import find_domains
from tests.kit.peer import Received, ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.works import make_config, open_works

BULK = 5000


def configure(base: Path, host: ScriptedHost, rate: str) -> Config:
    tenants = [
        {"name": name, "domains": [f"{name}.example"], "networks": ["127.0.0.0/8"]}
        for name in ("acme", "other")
    ]
    site = {"name": "slow", "domains": ["*"], "rate": rate, "connections": 4}
    return make_config(
        base,
        routes={"*": [host.make_host()]},
        tables={"tenant": tenants, "site": [site]},
    )


def count(host: ScriptedHost, matches: Callable[[Received], bool]) -> int:
    return sum(map(matches, host.messages))


async def test_a_campaign_does_not_keep_another_tenant_s_three_messages(
    server: Server, tmp_path: Path
) -> None:
    def is_other(message: Received) -> bool:
        return message.sender == b"o@other.example"

    async with open_host() as host:
        config = configure(tmp_path, host, "50/s")
        async with open_works(server, tmp_path, config=config) as works:
            await works.post_many(BULK, priority="bulk")
            await host.wait_for(60)  # the burst is over, the rate rules
            start = trio.current_time()
            await works.post_many(3, sender=b"o@other.example", tenant="other")
            await host.wait_until(lambda: count(host, is_other) == 3)
            assert trio.current_time() - start < 1.5
            assert len(host.messages) < 300
            await works.finish()
            works.check()


async def test_the_urgent_pass_the_bulk_which_is_not_starved(
    server: Server, tmp_path: Path
) -> None:
    """Of one tenant, and each turn is a message: 16 to 4 to 1 while all three wait."""

    def has(priority: str) -> Callable[[Received], bool]:
        return lambda message: message.sender == priority.encode() + b"@acme.example"

    async with open_host() as host:
        config = configure(tmp_path, host, "60/s")
        async with open_works(server, tmp_path, config=config, running=False) as works:
            for priority in ("bulk", "", "urgent"):
                sender = priority.encode() + b"@acme.example"
                await works.post_many(150, priority=priority, sender=sender)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works.run)
                await host.wait_for(110)
                await works.finish()
                nursery.cancel_scope.cancel()
            works.check()
        urgent, normal, bulk = (count(host, has(one)) for one in ("urgent", "", "bulk"))
    assert urgent > 2 * normal > 0, (urgent, normal, bulk)
    assert normal > bulk > 0, (urgent, normal, bulk)


async def test_a_message_that_is_urgent_is_first(server: Server, tmp_path: Path) -> None:
    def is_urgent(message: Received) -> bool:
        return message.sender == b"u@acme.example"

    async with open_host() as host:
        config = configure(tmp_path, host, "20/s")
        async with open_works(server, tmp_path, config=config) as works:
            await works.post_many(1000, priority="bulk")
            await host.wait_for(25)
            before = len(host.messages)
            await works.post(sender=b"u@acme.example", priority="urgent")
            await host.wait_until(lambda: count(host, is_urgent) == 1)
            # Behind what was in hand already, and what came in the turns of the rate since.
            assert len(host.messages) - before < 30
            await works.finish()
            works.check()


async def test_queues_of_a_site_take_turns(server: Server, tmp_path: Path) -> None:
    """One domain's thousands do not keep another domain at the same site."""

    def is_small(message: Received) -> bool:
        return message.recipients[0].endswith(b"@small.test")

    async with open_host() as host:
        config = configure(tmp_path, host, "50/s")
        async with open_works(server, tmp_path, config=config) as works:
            await works.post_many(2000, b"bob@big.test")
            await host.wait_for(60)
            start = trio.current_time()
            await works.post_many(3, b"bob@small.test")
            await host.wait_until(lambda: count(host, is_small) == 3)
            assert trio.current_time() - start < 1.5
            await works.finish()
            works.check()


async def test_a_tenant_with_many_domains_gets_no_more_than_one_with_one(
    server: Server, tmp_path: Path
) -> None:
    """Its queues are in many shards, and each is a lane."""
    domains = find_domains(SHARDS)
    async with open_host() as host:
        config = configure(tmp_path, host, "60/s")
        async with open_works(server, tmp_path, config=config, running=False) as works:
            for domain in domains:
                await works.post_many(20, b"bob@" + domain.encode())
            sender, small = b"o@other.example", b"bob@" + domains[0].encode()
            await works.post_many(150, small, sender=sender, tenant="other")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(works.run)
                await host.wait_for(120)
                await works.finish()
                nursery.cancel_scope.cancel()
            works.check()
        other = count(host, lambda message: message.sender == sender)
    assert 0.4 < other / len(host.messages) < 0.6
