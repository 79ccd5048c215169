import pytest
import trio
import trio.testing

from relay.errors import HostUnreachable, PeerClosed, SourceUnusable
from relay.net.proxy import PATIENCE, Proxy, require_family
from tests.kit.egress import HeaderProxy, running
from tests.kit.ports import find_free_port


async def test_a_proxy_is_found_by_name() -> None:
    async with running(HeaderProxy()) as server:
        (await Proxy("localhost", server.port).open()).close()


async def test_a_proxy_may_have_an_ipv6_address() -> None:
    async with running(HeaderProxy(address="::1")) as server:
        (await Proxy("::1", server.port).open()).close()


async def test_a_proxy_that_is_not_there_is_the_sources_fault() -> None:
    proxy = Proxy("127.0.0.1", find_free_port())

    with pytest.raises(SourceUnusable, match=f"the proxy {proxy} cannot be reached: .* refused"):
        await proxy.open()


async def test_a_name_that_does_not_exist_is_the_sources_fault() -> None:
    # No name can have two dots in a row: this one never gets to a name server.
    with pytest.raises(SourceUnusable, match=r"the proxy no\.\.where\.invalid port 1080 cannot be"):
        await Proxy("no..where.invalid", 1080).open()


async def test_what_fails_with_a_proxy_is_the_proxys(
    autojump_clock: trio.testing.MockClock,
) -> None:
    proxy = Proxy("127.0.0.1", 1080)
    with pytest.raises(SourceUnusable, match="hung up: gone"):
        with proxy.blame(1):
            raise PeerClosed("gone")
    with pytest.raises(SourceUnusable, match="did not answer within 10 s"):
        with proxy.blame(PATIENCE):
            await trio.sleep_forever()

    assert trio.current_time() == PATIENCE


async def test_a_deadline_of_the_caller_stays_the_callers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with trio.move_on_after(1) as scope:
        with Proxy("127.0.0.1", 1080).blame(PATIENCE):
            await trio.sleep_forever()

    assert scope.cancelled_caught


def test_a_host_of_another_family_cannot_be_reached() -> None:
    require_family("192.0.2.1", "198.51.100.1", 25)
    require_family("2001:db8::1", "2001:db8::2", 25)
    with pytest.raises(HostUnreachable, match="cannot connect to 2001:db8::2 port 25 from"):
        require_family("0.0.0.0", "2001:db8::2", 25)
