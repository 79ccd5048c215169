import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
import trustme

from relay.errors import PeerClosed, TlsFailed
from relay.net.stream import Stream


def make_pair() -> tuple[Stream, Stream]:
    one, two = socket.socketpair()
    return Stream(one), Stream(two)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Stream, Stream]]:
    one, two = make_pair()
    yield one, two
    one.close()
    two.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.test").configure_cert(context)
    return context


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def start_tls(
    pair: tuple[Stream, Stream], client: ssl.SSLContext, server: ssl.SSLContext, name: str
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: pair[1].start_tls(server, server_side=True))
        await pair[0].start_tls(client, server_hostname=name)


async def test_octets_go_both_ways(pair: tuple[Stream, Stream]) -> None:
    await pair[0].send(b"hello")
    await pair[1].send(b"world")

    assert await pair[1].receive() == b"hello"
    assert await pair[0].receive(2) == b"wo"
    assert await pair[0].receive() == b"rld"
    assert pair[0].protocol == ""


async def test_receive_waits_until_something_comes(
    pair: tuple[Stream, Stream], autojump_clock: trio.testing.MockClock
) -> None:
    async def send_later() -> None:
        await trio.sleep(100)
        await pair[0].send(b"late")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_later)
        assert await pair[1].receive() == b"late"
    assert trio.current_time() >= 100


async def test_the_end_is_told_for_ever(pair: tuple[Stream, Stream]) -> None:
    await pair[0].send(b"x")
    pair[0].close()
    pair[0].close()

    assert [await pair[1].receive() for _ in range(3)] == [b"x", b"", b""]
    with pytest.raises(PeerClosed):
        await pair[1].send(b"y")


async def test_a_reset_is_told(pair: tuple[Stream, Stream]) -> None:
    await pair[1].send(b"never read")
    pair[0].close()

    with pytest.raises(PeerClosed, match="connection lost"):
        await pair[1].receive()


@pytest.mark.parametrize("tls", [False, True])
async def test_much_is_sent_while_the_other_side_is_slow(
    tls: bool,
    pair: tuple[Stream, Stream],
    client_context: ssl.SSLContext,
    server_context: ssl.SSLContext,
) -> None:
    if tls:
        await start_tls(pair, client_context, server_context, "mx.test")
    octets = bytes(range(256)) * 8000
    received = bytearray()

    async def read() -> None:
        while len(received) < len(octets):
            await trio.lowlevel.checkpoint()
            received.extend(await pair[1].receive(10_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await pair[0].send(octets)

    assert received == octets


async def test_a_peer_that_does_not_read_leaves_the_deadline_to_the_caller(
    pair: tuple[Stream, Stream], autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(60) as scope:
        await pair[0].send(bytes(4 << 20))

    assert scope.cancelled_caught


async def test_closing_wakes_up_who_waits(pair: tuple[Stream, Stream]) -> None:
    async def wait() -> None:
        with pytest.raises(PeerClosed):
            await pair[0].receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        pair[0].close()


# -- TLS


async def test_tls_in_both_directions_and_its_end(
    pair: tuple[Stream, Stream], client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    await start_tls(pair, client_context, server_context, "mx.test")

    await pair[0].send(b"hello")
    assert await pair[1].receive(3) == b"hel"
    assert await pair[1].receive() == b"lo"  # was inside OpenSSL already
    assert pair[0].protocol == pair[1].protocol
    assert pair[0].protocol.startswith("TLSv1.3 TLS_")
    await pair[1].send(b"bye")
    assert await pair[0].receive() == b"bye"  # and the tickets: who leaves them unread resets
    pair[0].close()
    assert await pair[1].receive() == b""


async def test_a_session_that_breaks_breaks_no_other(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    """With OpenSSL 3.4 or newer what has failed on one connection was raised on the next."""
    one, other = make_pair(), make_pair()
    try:
        for both_ends in (one, other):
            await start_tls(both_ends, client_context, server_context, "mx.test")
        one[0].abort()
        for _ in range(3):
            with contextlib.suppress(PeerClosed):
                await one[1].send(b"x")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect, other[1], b"hello")
                await trio.testing.wait_all_tasks_blocked()
                await other[0].send(b"hello")
        await other[1].send(b"bye")
        await expect(other[0], b"bye")
    finally:
        for stream in (*one, *other):
            stream.close()


async def expect(stream: Stream, octets: bytes) -> None:
    assert await stream.receive() == octets


async def test_a_certificate_for_another_name_is_not_accepted(
    pair: tuple[Stream, Stream], client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    with pytest.RaisesGroup(TlsFailed, TlsFailed, allow_unwrapped=False) as caught:
        await both(pair, client_context, server_context, "other.test")

    texts = sorted(str(error) for error in caught.value.exceptions)
    assert any("certificate not accepted: Hostname mismatch" in text for text in texts)


async def both(
    pair: tuple[Stream, Stream], client: ssl.SSLContext, server: ssl.SSLContext, name: str
) -> None:
    """Shake hands on both sides; raise what either raises."""
    errors: list[Exception] = []

    async def serve() -> None:
        try:
            await pair[1].start_tls(server, server_side=True)
            await pair[1].receive()  # TLS 1.3: the client's alert comes after our handshake
        except (TlsFailed, PeerClosed) as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            await pair[0].start_tls(client, server_hostname=name)
        except (TlsFailed, PeerClosed) as error:
            errors.append(error)
            pair[0].close()
    raise ExceptionGroup("both sides", errors)


async def test_what_waits_is_not_sent_after_an_abort() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(server.getsockname())
        stream, (theirs, _) = Stream(ours), server.accept()
    with theirs:
        with trio.move_on_after(0.1):
            await stream.send(bytes(64 << 20))  # more than the two kernels take
        stream.abort()
        stream.abort()  # as close, more than once
        with pytest.raises(PeerClosed):
            await stream.send(b"x")
        with pytest.raises(ConnectionResetError):
            while theirs.recv(65536):
                pass
