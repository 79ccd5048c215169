import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from relay.errors import HostUnreachable, PeerClosed, SourceUnusable
from relay.net import connect as module
from relay.net.connect import bind_source, connect
from relay.net.egress import DirectEgress, Egress
from relay.net.haproxy import HaproxyEgress
from relay.net.proxy import Proxy
from relay.net.socks import SocksEgress
from relay.net.stream import Stream
from tests.kit.egress import HeaderProxy, SocksServer, open_sink, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is Linux")


@pytest.fixture
def server() -> socket.socket:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def test_a_connection_comes_from_the_source(server: socket.socket) -> None:
    stream = await connect("127.0.0.1", server.getsockname()[1], source="127.0.0.12")

    accepted, address = server.accept()
    with accepted:
        assert address[0] == "127.0.0.12"
        accepted.send(b"220")
        assert await stream.receive() == b"220"
    stream.close()


async def test_an_unspecified_source_leaves_it_to_the_kernel(server: socket.socket) -> None:
    stream = await connect("127.0.0.1", server.getsockname()[1], source="0.0.0.0")

    accepted, address = server.accept()
    accepted.close()
    assert address[0] == "127.0.0.1"
    stream.close()


async def test_a_source_that_is_not_ours_is_the_sources_fault(server: socket.socket) -> None:
    # RFC 5737: on no machine.
    with pytest.raises(SourceUnusable, match=r"cannot send from 192\.0\.2\.1: .*on this machine"):
        await connect("127.0.0.1", server.getsockname()[1], source="192.0.2.1")


async def test_a_host_that_refuses_is_the_hosts_fault(server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()

    with pytest.raises(HostUnreachable, match=f"127.0.0.1 port {port}: Connection refused"):
        await connect("127.0.0.1", port, source="127.0.0.11")


async def test_a_family_that_does_not_fit_is_no_crash() -> None:
    with pytest.raises(HostUnreachable):
        await connect("::1", 25, source="127.0.0.11")


async def test_a_host_that_does_not_answer_leaves_the_deadline_to_the_caller(
    server: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    server.listen(0)
    port = server.getsockname()[1]
    # Fill the backlog: from then on the kernel answers no SYN any more.
    fillers = [bind_source("127.0.0.1") for _ in range(4)]
    for filler in fillers:
        filler.connect_ex(("127.0.0.1", port))
    try:
        with trio.move_on_after(30) as scope:
            await connect("127.0.0.1", port, source="127.0.0.11")
    finally:
        for filler in fillers:
            filler.close()

    assert scope.cancelled_caught


async def test_two_connections_of_one_source_may_share_a_port_to_different_hosts() -> None:
    sock = bind_source("127.0.0.11")

    with sock:
        assert sock.getsockname() == ("127.0.0.11", 0)  # the port is chosen by connect()
        assert not sock.getblocking()


# -- keepalive -----------------------------------------------------------------------------------


def read_option(sock: socket.socket, name: str) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


def find_socket(stream: Stream) -> socket.socket:
    return stream._sock


def check_options(stream: Stream) -> None:
    """Probes are sent, and silence alone ends nothing before the longest wait of a session does."""
    sock = find_socket(stream)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    idle, interval, count = (
        read_option(sock, name) for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    )
    assert idle <= 120, "many forget a connection after four minutes"
    assert interval <= 120
    # RFC 5321 §4.5.3.2.6: so long may the answer to the final dot take.
    assert idle + count * interval > 600
    assert read_option(sock, "TCP_USER_TIMEOUT") == 0


WAYS: dict[str, tuple[type, Callable[[Any], Egress]]] = {
    "socks": (SocksServer, lambda s: SocksEgress("127.0.0.21", Proxy(s.address, s.port))),
    "haproxy": (HeaderProxy, lambda s: HaproxyEgress("127.0.0.21", Proxy(s.address, s.port))),
}


@pytest.mark.parametrize("way", WAYS)
async def test_connections_to_proxies_are_kept_alive(way: str) -> None:
    make_server, make_egress = WAYS[way]
    async with open_sink() as sink, running(make_server()) as server:
        stream = await make_egress(server).connect("127.0.0.1", sink.port)
        check_options(stream)
        stream.close()


async def test_connections_are_kept_alive() -> None:
    async with open_sink() as sink:
        stream = await DirectEgress("127.0.0.21").connect("127.0.0.1", sink.port)
        check_options(stream)
        stream.close()


async def test_a_system_that_has_no_such_times_uses_its_own(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "TCP_KEEPIDLE")
    stream = await connect("127.0.0.1", server.getsockname()[1], source="127.0.0.1")
    assert find_socket(stream).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    stream.close()


def forget(sock: socket.socket) -> None:
    """Let the kernel forget a connection without a word, as a host that starts anew does.

    Linux: a socket in repair mode is closed silently (https://criu.org/TCP_connection). Needs
    CAP_NET_ADMIN.
    """
    repair = 19
    try:
        sock.setsockopt(socket.IPPROTO_TCP, repair, 1)
    except PermissionError:
        pytest.skip("only root may let the kernel forget a connection")
    sock.close()


async def test_a_host_that_has_forgotten_us_is_noticed_while_nothing_is_sent(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._KEEPALIVE, "TCP_KEEPIDLE", 1)
    stream = await connect("127.0.0.1", server.getsockname()[1], source="127.0.0.11")
    forget(server.accept()[0])
    with trio.fail_after(20), pytest.raises(PeerClosed, match="reset"):
        await stream.receive()
    stream.close()
