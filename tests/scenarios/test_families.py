"""IPv4 and IPv6 sources: each tries the addresses that it can reach, and nothing is deferred."""

import socket
from pathlib import Path

import pytest

from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, open_works
from workers.hosts import Host


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine's loopback")

BOTH = {"six": "::1", "four": SOURCES["a"]}


@pytest.mark.parametrize(
    ("address", "client"), [("127.0.0.1", SOURCES["a"]), ("::1", "::1")], ids=["IPv4", "IPv6"]
)
async def test_who_can_reach_the_host_has_all_of_it(
    server: Server, tmp_path: Path, address: str, client: str
) -> None:
    async with open_host(address=address) as host:
        settings = {"addresses": BOTH, "routes": {"y.test": [find_target(host)]}}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post_many(40)
            await works.wait_for(delivered=40, queued=0, bounced=0, seconds=5)
            await works.finish()
            works.check()
            assert works.read_events("deferred") == []
            assert {event["attempt"] for event in works.read_events("delivered")} == {1}
    assert {message.client for message in host.messages} == {client}


async def test_hosts_of_both_families_are_met_by_both(server: Server, tmp_path: Path) -> None:
    async with open_host() as four, open_host(address="::1") as six:
        routes = {"y.test": [find_target(four), find_target(six)]}
        async with open_works(server, tmp_path, addresses=BOTH, routes=routes) as works:
            await works.post_many(40)
            await works.wait_for(delivered=40, queued=0, bounced=0)
            await works.finish()
            works.check()
            assert works.read_events("deferred") == []
    assert {message.client for message in four.messages} == {SOURCES["a"]}
    assert {message.client for message in six.messages} == {"::1"}


async def test_when_no_source_reaches_the_host_it_is_deferred(
    server: Server, tmp_path: Path
) -> None:
    async with open_host() as host:
        routes = {"y.test": [find_target(host)]}
        settings = {"addresses": {"six": "::1"}, "routes": routes, "retry": ["1h"]}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post()
            (event,) = await works.wait_for_event("deferred")
            assert event["wait"] > 3000
            await works.wait_for(queued=1, bounced=0)
            await works.finish()
            works.check()
        assert host.sessions == 0


def find_target(host: ScriptedHost) -> Host:
    """Return a host as a route names it."""
    return Host(host.name, f"[{host.address}]" if ":" in host.address else host.address, host.port)
