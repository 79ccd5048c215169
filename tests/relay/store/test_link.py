"""The link when the connection, the server or the caller goes away at the wrong moment."""

import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from relay.config import Config
from relay.errors import StoreError, StoreUnavailable
from relay.store.keys import find_shard, make_key
from relay.store.link import Bell, Link
from relay.store.queue import Store
from relay.store.scripts import SCRIPTS
from tests.kit.audit import assert_sound
from tests.kit.messages import EVENT, Claims, make_delivery
from tests.kit.proxy import Proxy, open_proxy
from tests.kit.redis import Server, open_server


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may kill."""
    with open_server() as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with open_proxy(server.socket) as proxy:
        yield proxy


@pytest.fixture
async def shaky(proxy: Proxy) -> AsyncIterator[Link]:
    """A link through the proxy."""
    link = Link(proxy.url, timeout=5)
    yield link
    await link.aclose()


# -- what is known when there is no reply -----------------------------------------------------


async def test_refused_connection_means_not_executed(tmp_path: Path) -> None:
    link = Link(f"unix://{tmp_path}/nobody", timeout=5)

    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="does not answer") as caught:
            await link.call("PING")
        assert caught.value.executed is False

    await link.aclose()


async def test_closed_link_means_not_executed(server: Server) -> None:
    link = Link(server.url, timeout=5)
    await link.aclose()

    with pytest.raises(StoreUnavailable) as caught:
        await link.call("PING")

    assert caught.value.executed is False


@pytest.mark.parametrize("executed", [False, True])
async def test_cut_connection_means_nobody_knows(
    server: Server, proxy: Proxy, shaky: Link, *, executed: bool
) -> None:
    await shaky.call("PING")
    (proxy.cut_reply if executed else proxy.cut_request)(b"INCR")

    with pytest.raises(StoreUnavailable) as caught:
        await shaky.call("INCR", "n")

    assert caught.value.executed is True  # nobody can tell the two cases apart
    assert await shaky.call("GET", "n") == (b"1" if executed else None)


async def test_connection_cut_while_idle_is_replaced(proxy: Proxy, shaky: Link) -> None:
    await shaky.call("PING")
    proxy.cut_now()
    with pytest.raises(StoreUnavailable):
        await shaky.call("PING")

    assert await shaky.call("PING") == b"PONG"


async def test_refusal_while_loading_scripts_means_not_executed(
    server: Server, proxy: Proxy, shaky: Link
) -> None:
    proxy.cut_request(b"SCRIPT")

    with pytest.raises(StoreUnavailable) as caught:
        await shaky.call("INCR", "n")

    assert caught.value.executed is False
    assert await shaky.call("GET", "n") is None


# -- the lost reply ---------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("body", [b"hello", b"x" * 50_000, b"x" * 100_000], ids=len)
async def test_accept_with_a_lost_reply_is_one_message(
    server: Server, store: Store, proxy: Proxy, shaky: Link, config: Config, body: bytes, times: int
) -> None:
    proxy.cut_reply(SCRIPTS["accept"].digest, times=times)
    delivery = make_delivery(size=len(body))

    assert await Store(shaky, config).accept([delivery], EVENT, body) is False

    assert proxy.cuts == times
    assert len(await Claims(store).take()) == 1
    assert len(await store.read_story(delivery.message_id)) == 1
    with server.client() as client:
        assert assert_sound(client).total("ledger")["accepted"] == 1


@pytest.mark.parametrize("body", [b"hello", b"x" * 50_000, b"x" * 100_000], ids=len)
async def test_accept_with_a_lost_request_is_one_message(
    server: Server, store: Store, proxy: Proxy, shaky: Link, config: Config, body: bytes
) -> None:
    proxy.cut_request(SCRIPTS["accept"].digest)

    delivery = make_delivery(size=len(body))
    assert await Store(shaky, config).accept([delivery], EVENT, body) is True

    assert len(await Claims(store).take()) == 1
    assert await store.read_part(delivery, 0) == body


async def test_accept_is_refused_at_once_when_it_certainly_did_not_run(
    tmp_path: Path, config: Config
) -> None:
    link = Link(f"unix://{tmp_path}/nobody", timeout=5)

    with trio.fail_after(1), pytest.raises(StoreUnavailable):
        await Store(link, config).accept([make_delivery()], EVENT, b"hello")

    await link.aclose()


@pytest.mark.parametrize("script", ["settle", "bounce", "defer"])
async def test_end_of_a_claim_with_a_lost_reply_happens_once(
    server: Server, store: Store, proxy: Proxy, shaky: Link, config: Config, script: str
) -> None:
    await store.accept([make_delivery()], EVENT, b"hello")
    claim = await Claims(store).take_one()
    proxy.cut_reply(SCRIPTS[script].digest)
    behind = Store(shaky, config)

    if script == "defer":
        await behind.defer(claim, EVENT, wait=0)
    elif script == "bounce":
        await behind.bounce(claim, EVENT, delivered=0)
    else:
        await behind.settle(claim, EVENT)

    assert proxy.cuts == 1
    assert len(await store.read_story(claim.delivery.message_id)) == 2
    with server.client() as client:
        assert_sound(client)


async def test_claim_with_a_lost_reply_comes_back_by_its_lease(
    server: Server, store: Store, proxy: Proxy, shaky: Link, config: Config
) -> None:
    await store.accept([make_delivery()], EVENT, b"hello")
    proxy.cut_reply(SCRIPTS["claim"].digest)

    with pytest.raises(StoreUnavailable):
        await Claims(Store(shaky, config)).take()

    with server.client() as client:
        assert_sound(client)
        assert client.zcard(make_key(find_shard("a.test"), "claims")) == 1


# -- scripts and errors -----------------------------------------------------------------------


async def test_flushed_scripts_are_loaded_again(server: Server, store: Store, link: Link) -> None:
    await store.accept([make_delivery()], EVENT, b"hello")
    with server.client() as client:
        client.script_flush()

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(store.accept, [make_delivery()], EVENT, b"hello")

    with server.client() as client:
        assert assert_sound(client).total("ledger")["accepted"] == 51


async def test_error_of_one_call_is_its_own(link: Link) -> None:
    replies: list[object] = []

    async def call(*parts: str) -> None:
        try:
            replies.append(await link.call(*parts))
        except StoreError as error:
            replies.append(str(error))

    await link.call("SET", "k", "v")
    async with trio.open_nursery() as nursery:
        for parts in (("INCR", "k"), ("NONSENSE",), ("GET", "k")):
            nursery.start_soon(call, *parts)

    assert b"v" in replies
    assert any("INCR: value is not an integer" in str(reply) for reply in replies)
    assert any("unknown command" in str(reply) for reply in replies)


async def test_what_cannot_be_sent_does_not_stop_the_link(link: Link) -> None:
    with trio.fail_after(5):
        with pytest.raises(StoreError, match="cannot be sent"):
            await link.call("SET", "k", "\udc80")

        assert await link.call("PING") == b"PONG"


async def test_server_busy_with_somebody_elses_script_has_executed_nothing(
    own_server: Server,
) -> None:
    link = Link(own_server.url, timeout=5)
    await link.call("CONFIG", "SET", "lua-time-limit", 10)
    with socket.socket(socket.AF_UNIX) as other, trio.fail_after(10):
        other.connect(str(own_server.socket))
        other.sendall(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n")
        assert await wait_for_refusal(link) is False
        await link.call("SCRIPT", "KILL")
        while await link_is_refused(link):  # noqa: ASYNC110 - until the script has ended
            await trio.sleep(0.01)
    await link.aclose()


async def wait_for_refusal(link: Link) -> bool:
    """Call until the store refuses; return whether the call may have been executed."""
    while True:
        try:
            await link.call("GET", "k")
        except StoreUnavailable as error:
            return error.executed


async def link_is_refused(link: Link) -> bool:
    try:
        await link.call("PING")
    except StoreUnavailable:
        return True
    return False


async def test_bad_url() -> None:
    with pytest.raises(ValueError, match="expected redis://"):
        Link("http://example.net", timeout=1)


# -- many calls at once -----------------------------------------------------------------------


async def test_every_call_gets_its_own_reply(link: Link) -> None:
    replies: dict[int, bytes] = {}

    async def call(number: int) -> None:
        replies[number] = await link.call("ECHO", str(number))

    async with trio.open_nursery() as nursery:
        for number in range(2000):
            nursery.start_soon(call, number)

    assert replies == {number: str(number).encode() for number in range(2000)}


async def test_cancelled_calls_do_not_shift_replies(link: Link) -> None:
    replies: dict[int, bytes] = {}

    async def call(number: int) -> None:
        with trio.CancelScope() as scope:
            if number % 3 == 0:
                scope.cancel()
            replies[number] = await link.call("ECHO", str(number))

    async with trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(call, number)

    kept = {number: str(number).encode() for number in range(300) if number % 3}
    assert {number: replies[number] for number in kept} == kept
    assert await link.call("ECHO", "after") == b"after"


async def test_started_call_is_answered_without_anybody_waiting(
    server: Server, store: Store
) -> None:
    await store.accept([make_delivery()], EVENT, b"hello")
    claim = await Claims(store).take_one()

    pending = store.record_attempt(claim, EVENT)
    await store.link.call("PING")  # by now its reply is here

    assert await pending.wait() == 1


class Ticks(trio.abc.Instrument):
    """Counts the turns of the loop."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_pipelines_of_large_values_are_bounded(link: Link) -> None:
    """Twenty large values are not one write of 80 MB, with every reply after the last octet."""
    ticks = Ticks()
    trio.lowlevel.add_instrument(ticks)
    replied: set[int] = set()
    value = b"x" * (4 << 20)

    async def call(number: int) -> None:
        await link.call("SET", f"k{number}", value)
        replied.add(ticks.count)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(call, number)

    trio.lowlevel.remove_instrument(ticks)
    assert len(replied) > 10


async def test_server_killed_in_the_middle_of_many_calls(
    own_server: Server, config: Config
) -> None:
    link = Link(own_server.url, timeout=5)
    store = Store(link, config)
    accepted: list[str] = []
    unknown: list[str] = []
    deliveries = [make_delivery() for _ in range(200)]

    async def accept(delivery: object) -> None:
        try:
            await store.accept([delivery], EVENT, b"x" * 20_000)
            accepted.append(delivery.id)
        except StoreUnavailable:
            unknown.append(delivery.id)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number, delivery in enumerate(deliveries):
                nursery.start_soon(accept, delivery)
                if number == 100:
                    while len(accepted) < 20:
                        await trio.lowlevel.checkpoint()
                    own_server.kill()
                    await trio.to_thread.run_sync(own_server.start)
        assert len(accepted) + len(unknown) == 200
        claims = Claims(store)
        found: set[str] = set()
        while got := await claims.take():
            for claim in got:
                assert claim.delivery.id not in found
                found.add(claim.delivery.id)
                await store.settle(claim, EVENT)
        assert found >= set(accepted)
        await link.aclose()
    with own_server.client() as client:
        assert assert_sound(client).queued == 0


async def test_hung_server_is_reported_after_the_timeout(own_server: Server) -> None:
    link = Link(own_server.url, timeout=0.3)
    await link.call("PING")
    assert own_server.process is not None
    own_server.process.send_signal(signal.SIGSTOP)
    try:
        with trio.fail_after(5), pytest.raises(StoreUnavailable) as caught:
            await link.call("INCR", "n")
        assert caught.value.executed is True
    finally:
        own_server.process.send_signal(signal.SIGCONT)

    with trio.fail_after(5):
        assert await link.call("PING") == b"PONG"
        # It ran after all: what was sent is executed when the server goes on.
        assert await link.call("GET", "n") == b"1"
    await link.aclose()


async def test_server_that_is_still_loading_has_executed_nothing(tmp_path: Path) -> None:
    """What a server answers while it reads its files; a real one is too quick to be caught."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_loading, listener)
            link = Link(f"unix://{tmp_path}/sock", timeout=5)
            with trio.fail_after(5), pytest.raises(StoreUnavailable) as caught:
                await link.call("PING")
            assert caught.value.executed is False
            await link.aclose()
            nursery.cancel_scope.cancel()


async def answer_loading(listener: socket.socket) -> None:
    listener.setblocking(False)
    while True:
        await trio.lowlevel.wait_readable(listener)
        with listener.accept()[0] as peer:
            stream = trio.socket.from_stdlib_socket(peer)
            while octets := await stream.recv(1 << 20):
                # redis-py asks a command or two of its own first: it does not mind their failure.
                lines = octets.count(b"\r\nSCRIPT\r\n") or octets.count(b"*")
                await stream.send(b"-LOADING Redis is loading the dataset in memory\r\n" * lines)


# -- the bell ---------------------------------------------------------------------------------


async def test_bell_rings_also_after_the_server_was_restarted(own_server: Server) -> None:
    heard: list[str] = []
    lost: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bell(own_server.url, "og:wake", heard.append, lost=lost.append).run)
        with trio.fail_after(30):
            await ring_until(own_server, heard, "first")
            assert not lost
            own_server.kill()
            await trio.to_thread.run_sync(own_server.start)
            await ring_until(own_server, heard, "sécond")
            assert lost
        nursery.cancel_scope.cancel()


async def ring_until(server: Server, heard: list[str], text: str) -> None:
    with server.client() as client:
        while text not in heard:
            client.publish("og:wake", text)
            await trio.sleep(0.02)
