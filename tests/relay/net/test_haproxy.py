import ipaddress
import os
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import HostUnreachable, SourceUnusable
from relay.net.haproxy import HaproxyEgress, make_header
from relay.net.proxy import Proxy
from tests.kit.egress import HeaderProxy, find_program, open_haproxy, open_sink, running
from tests.kit.ports import find_free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is Linux")

OURS = "127.0.0.21"


def make_egress(server: HeaderProxy, source: str = OURS) -> HaproxyEgress:
    return HaproxyEgress(source, Proxy(server.address, server.port))


async def test_mail_leaves_from_the_address_that_the_proxy_is_told() -> None:
    async with open_sink() as sink, running(HeaderProxy()) as server:
        for source in (OURS, "127.0.0.22"):
            stream = await make_egress(server, source).connect("127.0.0.1", sink.port)

            assert await stream.receive() == b"220 sink.test\r\n"
            await stream.send(b"EHLO a.out.test\r\n")
            assert await stream.receive() == b"250 yes\r\n"
            stream.close()

        assert sink.clients == [OURS, "127.0.0.22"]


async def test_ipv6() -> None:
    async with open_sink("::1") as sink, running(HeaderProxy()) as server:
        stream = await make_egress(server, "::1").connect("::1", sink.port)

        assert await stream.receive() == b"220 sink.test\r\n"
        stream.close()
        assert len(server.headers[0]) == 16 + 36


async def test_a_host_of_another_family_is_not_asked_for() -> None:
    async with running(HeaderProxy()) as server:
        with pytest.raises(HostUnreachable, match="another family"):
            await make_egress(server).connect("::1", 25)

        assert server.headers == []


def test_the_header_octet_by_octet() -> None:
    assert make_header("192.0.2.1", "198.51.100.2", 25) == bytes.fromhex(
        "0d0a0d0a000d0a515549540a 21 11 000c c0000201 c6336402 0000 0019"
    )


PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


@given(pair=PAIRS, port=st.integers(0, 65535))
def test_a_header_says_what_was_asked(
    pair: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address], port: int
) -> None:
    header = make_header(str(pair[0]), str(pair[1]), port)

    size = 4 if pair[0].version == 4 else 16
    addresses = header[16:]
    assert int.from_bytes(header[14:16]) == len(addresses) == 2 * size + 4
    assert addresses[:size] == pair[0].packed
    assert addresses[size : 2 * size] == pair[1].packed
    assert addresses[2 * size :] == b"\0\0" + port.to_bytes(2)


async def test_a_proxy_that_is_not_there_is_the_sources_fault() -> None:
    egress = HaproxyEgress(OURS, Proxy("127.0.0.1", find_free_port()))

    for call in (egress.check, lambda: egress.connect("127.0.0.1", 25)):
        with pytest.raises(SourceUnusable, match="cannot be reached"):
            await call()


async def test_a_host_that_the_proxy_cannot_reach() -> None:
    async with running(HeaderProxy()) as server:
        port = find_free_port()

        with pytest.raises(HostUnreachable, match=f"no word from 127.0.0.1 port {port} through"):
            await make_egress(server).connect("127.0.0.1", port)


async def test_an_address_that_the_proxy_lacks_cannot_be_told_from_that() -> None:
    async with open_sink() as sink, running(HeaderProxy()) as server:
        await make_egress(server, "192.0.2.1").check()

        with pytest.raises(HostUnreachable, match=r"or the proxy cannot send from 192\.0\.2\.1"):
            await make_egress(server, "192.0.2.1").connect("127.0.0.1", sink.port)
        assert sink.clients == []


async def test_a_host_that_greets_late_may(autojump_clock: trio.testing.MockClock) -> None:
    async with open_sink(late=True) as sink, running(HeaderProxy()) as server:
        with trio.fail_after(29):  # the pool's patience with connecting
            stream = await make_egress(server).connect("127.0.0.1", sink.port)
        sink.greet.set()

        assert await stream.receive() == b"220 sink.test\r\n"
        stream.close()


async def test_a_deadline_is_the_callers(autojump_clock: trio.testing.MockClock) -> None:
    async with running(HeaderProxy(silent=True)) as server:
        with trio.move_on_after(5) as scope:
            await make_egress(server).connect("127.0.0.1", 25)

        assert scope.cancelled_caught
        assert trio.current_time() == 5


async def test_checking_asks_for_no_host() -> None:
    async with running(HeaderProxy()) as server:
        await make_egress(server).check()

        await trio.testing.wait_all_tasks_blocked()
        assert server.headers == []


@pytest.mark.skipif(
    find_program("haproxy") is None or os.geteuid() != 0,
    reason="haproxy is not installed, or we are not root (it binds addresses of others)",
)
async def test_with_haproxy(tmp_path: Path) -> None:
    async with open_sink() as sink:
        with open_haproxy(tmp_path) as port:
            egress = HaproxyEgress(OURS, Proxy("127.0.0.1", port))
            await egress.check()
            stream = await egress.connect("127.0.0.1", sink.port)

            assert await stream.receive() == b"220 sink.test\r\n"
            stream.close()
            assert sink.clients == [OURS]
            with pytest.raises(HostUnreachable, match="no word from"):
                await egress.connect("127.0.0.1", find_free_port())
