import socket
import sys

import pytest
import trio
import trio.testing

from relay.errors import HostUnreachable, SourceUnusable
from relay.net.connect import bind_source, connect

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
