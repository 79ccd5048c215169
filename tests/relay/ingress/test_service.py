"""The ingress process on a real port with a real store: the clock is real, the waits are short.

Clients have addresses of 127.0.0.0/8 as they please (Linux).
"""

import contextlib
import dataclasses
import datetime as dt
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from relay.config import Config
from relay.errors import StartError
from relay.events import EventLog, decode_event
from relay.ingress import service as service_module
from relay.ingress.desk import furnish
from relay.ingress.service import IngressService, serve
from relay.net.certificates import load_certificates
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.balancer import Balancer
from tests.kit.egress import find_program, open_from
from tests.kit.pairs import issue, join_chain, write_pair
from tests.kit.ports import find_free_port
from tests.kit.redis import Server, open_server
from tests.kit.visit import Client, make_config, read_id, read_parts

LOOPBACK = [
    {"name": "acme", "domains": ["acme.example"], "networks": ["127.0.0.0/8"]},
]


@pytest.fixture
def port() -> int:
    return find_free_port()


def make(base: Path, port: int, *, networks: str = "127.0.0.0/8", **ingress: object) -> Config:
    tenants = [{"name": "acme", "domains": ["acme.example"], "networks": [networks]}]
    return make_config(base, tables={"tenant": tenants}, listen=[f"127.0.0.1:{port}"], **ingress)


@contextlib.asynccontextmanager
async def run(config: Config, store: Store) -> AsyncIterator[IngressService]:
    """Run the service until the block ends, then stop it as an operator would."""
    service = IngressService(config, store, EventLog(config.log.events))
    tls = load_certificates(config.ingress.tls)
    service.furniture = furnish(config, store.link, service.events, service, tls=tls)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run)
            await wait_until_listening(config.ingress.listen[0].port)
            # Signals must have a receiver, too: without one SIGTERM would end the test run.
            await trio.testing.wait_all_tasks_blocked()
            yield service
            if not service.stopping:
                os.kill(os.getpid(), signal.SIGTERM)


async def wait_until_listening(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.aclose()
            return
        await trio.sleep(0.01)


@contextlib.asynccontextmanager
async def call(port: int, address: str = "127.0.0.1") -> AsyncIterator[Client]:
    """Connect from an address."""
    stream = await open_from(address, "127.0.0.1", port)
    async with stream:
        yield Client(stream, None)  # type: ignore[arg-type]  # it is on the other side


async def test_a_message_comes_in_through_the_port(tmp_path: Path, port: int, store: Store) -> None:
    async with run(make(tmp_path, port), store), call(port) as client:
        assert await client.read_reply() == b"220 gw.example.net ESMTP outgate\r\n"
        await client.open_transaction()
        read_id(await client.send_data(b"x\r\n"))
        assert await client.say(b"QUIT") == b"221 2.0.0 gw.example.net closing\r\n"
        assert await client.read_end() == b""

    assert (await store.read_ledger())["ledger"]["accepted"] == 1


async def no_sessions(service: IngressService) -> None:
    for _ in range(1000):
        if not service._sessions:
            return
        await trio.sleep(0.005)
    raise AssertionError("sessions do not end")


async def test_connections_that_are_gone_at_once_do_no_harm(
    tmp_path: Path, port: int, store: Store
) -> None:
    async with run(make(tmp_path, port), store) as service:
        for _ in range(50):
            sock = socket.create_connection(("127.0.0.1", port))
            # Closing with this is a reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        await no_sessions(service)
        async with call(port) as client:
            assert (await client.read_reply())[:3] == b"220"


async def test_an_orderly_stop_finishes_the_message_under_way(
    tmp_path: Path, port: int, store: Store
) -> None:
    async with run(make(tmp_path, port), store) as service:
        async with call(port) as busy, call(port) as idle:
            for client in (busy, idle):
                await client.read_reply()
            await busy.open_transaction()
            await busy.say(b"DATA")

            os.kill(os.getpid(), signal.SIGTERM)
            assert await idle.read_end() == b"421 4.3.2 Service going down, try again\r\n"
            assert service.stopping
            with pytest.raises(OSError, match="refused"):
                async with call(port):
                    pass

            read_id(await busy.say(b"x\r\n."))
            assert await busy.read_end() == b"421 4.3.2 Service going down, try again\r\n"

    assert (await store.read_ledger())["ledger"]["accepted"] == 1


async def test_a_sender_that_does_not_finish_is_left_behind(
    tmp_path: Path, port: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_GRACE", 0.1)
    async with run(make(tmp_path, port), store), call(port) as client:
        await client.read_reply()
        await client.open_transaction()
        await client.say(b"DATA")

        os.kill(os.getpid(), signal.SIGTERM)

        assert await client.read_end() == b""


async def test_over_the_memory_mark_mail_is_asked_to_wait(
    tmp_path: Path, port: int, store: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_LOOK", 0.01)
    async with run(make(tmp_path, port), store), call(port) as client:
        await client.read_reply()
        await client.say(b"EHLO me.test")
        with server.client() as redis:
            redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] * 1.1))
            try:
                reply = await mail_until(client, b"452")
            finally:
                redis.config_set("maxmemory", 0)
        assert reply == b"452 4.3.1 Out of space, try again later\r\n"
        await mail_until(client, b"250")


async def mail_until(client: Client, code: bytes) -> bytes:
    """Say MAIL until the reply has this code; the service looks at the store from time to time."""
    for _ in range(40):
        reply = await client.say(b"MAIL FROM:<a@acme.example>")
        if reply[:3] == code:
            return reply
        if reply[:3] == b"250":
            await client.say(b"RSET")
        await trio.sleep(0.05)
    raise AssertionError(reply)


async def test_without_the_store_mail_is_asked_to_come_back_and_then_taken(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_LOOK", 0.01)
    with open_server() as server:
        link = Link(server.url, timeout=1)
        config = make(tmp_path, port)
        try:
            async with run(config, Store(link, config)), call(port) as client:
                await client.read_reply()
                await client.say(b"EHLO me.test")
                await mail_until(client, b"250")
                await client.say(b"RSET")
                server.kill()
                assert await mail_until(client, b"451") == (
                    b"451 4.3.0 Cannot store messages now, try again later\r\n"
                )
                server.start()
                await mail_until(client, b"250")
                await client.say(b"RCPT TO:<b@y.test>")
                read_id(await client.send_data(b"x\r\n"))
        finally:
            await link.aclose()


async def test_a_port_that_is_taken_is_a_start_error_and_nothing_listens(
    tmp_path: Path, store: Store
) -> None:
    free, taken = find_free_port(), socket.create_server(("127.0.0.1", 0))
    config = make_config(
        tmp_path, listen=[f"127.0.0.1:{free}", f"127.0.0.1:{taken.getsockname()[1]}"]
    )
    with taken:
        service = IngressService(config, store, EventLog(config.log.events))
        with pytest.raises(StartError, match="another program has it"):
            await service.run()

    with pytest.raises(OSError, match="all attempts"):
        await trio.open_tcp_stream("127.0.0.1", free)


async def test_a_store_that_can_lose_mail_is_a_start_error(tmp_path: Path, port: int) -> None:
    with open_server(appendfsync="everysec") as server:
        config = make_config(
            tmp_path,
            tables={"tenant": LOOPBACK, "store": {"url": server.url}},
            listen=[f"127.0.0.1:{port}"],
        )
        with pytest.raises(StartError, match="appendfsync"):
            await serve(config)


async def test_a_session_that_fails_takes_no_other_with_it(
    tmp_path: Path, port: int, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    config = make(tmp_path, port)
    async with run(config, store) as service, call(port) as other:
        await other.read_reply()
        good = service.desk
        # A certificate is offered and then is not there: something that should never happen.
        settings = type(good.settings)("gw.example.net", starttls=True)
        desk = dataclasses.replace(good, settings=settings)
        service.furniture = dataclasses.replace(service.furniture, desk=desk)
        async with call(port) as client:
            await client.read_reply()
            await client.say(b"EHLO me.test")
            await client.send(b"STARTTLS\r\n")
            assert await client.read_end() == b""

        assert (await other.say(b"NOOP"))[:3] == b"250"
    assert "a session failed" in caplog.text


# -- certificates


async def shake_hands(client: Client, context: ssl.SSLContext) -> bytes:
    """Begin a session under TLS; return the certificate that came."""
    await client.read_reply()
    await client.say(b"EHLO me.test")
    await client.say(b"STARTTLS")
    await client.start_tls(context, "gw.example.net")
    assert isinstance(client.stream, trio.SSLStream)
    octets = client.stream.getpeercert(binary_form=True)
    assert isinstance(octets, bytes)
    return octets


async def test_certificates_change_under_load_and_no_session_notices(
    tmp_path: Path,
    port: int,
    store: Store,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
) -> None:
    pair = write_pair(tmp_path, authority.issue_cert("gw.example.net"))
    config = make(tmp_path, port, tls={"certificate": pair.certificate, "key": pair.key})
    seen: list[bytes] = []
    sent = 0
    renewed = trio.Event()

    async def send_through_all_of_it() -> None:
        nonlocal sent
        async with call(port) as client:
            await shake_hands(client, client_context)
            while not renewed.is_set():
                await client.open_transaction()
                read_id(await client.send_data(b"x\r\n"))
                sent += 1

    async def come_again_and_again() -> None:
        while not renewed.is_set():
            async with call(port) as client:
                seen.append(await shake_hands(client, client_context))

    async def find_shown() -> bytes:
        async with call(port) as client:
            return await shake_hands(client, client_context)

    async with run(config, store) as service, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(send_through_all_of_it)
            nursery.start_soon(come_again_and_again)
        shown = [await find_shown()]
        for _ in range(5):
            new = authority.issue_cert("gw.example.net")
            Path(pair.certificate).write_bytes(join_chain(new))
            os.kill(os.getpid(), signal.SIGHUP)
            await wait_for_event(service, "certificate-refused", len(shown))
            assert await find_shown() == shown[-1]  # half a pair: the old one
            write_pair(tmp_path, new)
            os.kill(os.getpid(), signal.SIGHUP)
            await wait_for_event(service, "certificate-loaded", len(shown) + 1)
            shown.append(await find_shown())
        renewed.set()

    assert len(set(shown)) == 6
    assert set(seen) <= set(shown)
    assert len(set(seen)) > 1
    assert sent >= 4
    assert (await store.read_ledger())["ledger"]["accepted"] == sent


async def wait_for_event(service: IngressService, name: str, count: int) -> None:
    """Wait until so many events of a name are in the log."""
    while True:
        service.events.flush()
        lines = Path(service.config.log.events).read_bytes().splitlines()
        if sum(decode_event(line)["event"] == name for line in lines) >= count:
            return
        await trio.sleep(0.005)


async def test_a_certificate_that_is_none_is_a_start_error_and_an_expired_one_is_not(
    tmp_path: Path,
    port: int,
    store: Store,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = dt.datetime.now(dt.UTC)
    pair = write_pair(tmp_path, issue(authority, "gw.example.net", now=now, days=-1))
    config = make(tmp_path, port, tls={"certificate": pair.certificate, "key": pair.key})
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    async with run(config, store) as service, call(port) as client:
        await wait_for_event(service, "certificate-expired", 1)
        await shake_hands(client, client_context)
        await client.open_transaction()
        read_id(await client.send_data(b"x\r\n"))
    assert "senders that verify it will not come; renew it" in caplog.text

    Path(pair.key).write_text("hello")
    with pytest.raises(StartError, match=r"ingress\.tls: expected a certificate chain and its key"):
        await serve(config)


# -- the crowd


async def test_who_comes_takes_the_place_of_who_was_idle_longest(
    tmp_path: Path, port: int, store: Store
) -> None:
    async with run(make(tmp_path, port, max_connections=2), store) as service:
        await no_sessions(service)
        async with call(port) as one, call(port) as two:
            for client in (one, two):
                assert (await client.read_reply())[:3] == b"220"
            await one.open_transaction()
            read_id(await one.send_data(b"x\r\n"))  # proven, so it stays

            async with call(port) as three:
                assert (await three.read_reply())[:3] == b"220"
                assert await two.read_end() == TOO_MANY
                assert (await one.say(b"NOOP"))[:3] == b"250"


TOO_MANY = b"421 4.3.2 Too many connections, try again later\r\n"


async def test_when_all_are_at_work_who_comes_is_told_so(
    tmp_path: Path,
    port: int,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(service_module, "_MINUTE", 0.01)
    async with run(make(tmp_path, port, max_connections=1), store), call(port) as busy:
        await busy.read_reply()
        await busy.open_transaction()

        async with call(port) as other:
            assert await other.read_end() == TOO_MANY

        read_id(await busy.send_data(b"x\r\n"))
        async with call(port) as other:
            assert (await other.read_reply())[:3] == b"220"
            assert await busy.read_end() == TOO_MANY
            await wait_until(lambda: " idle ones closed" in caplog.text)
    assert "too many connections: 1 turned away" in caplog.text


async def wait_until(role: Callable[[], bool]) -> None:
    while not role():  # noqa: ASYNC110 - it happens between others, and sets no event
        await trio.sleep(0.005)


async def test_a_client_with_many_connections_is_in_its_own_way_only(
    tmp_path: Path, port: int, store: Store
) -> None:
    async with (
        run(make(tmp_path, port, client_connections=2), store),
        call(port, "127.0.0.3") as other,
        call(port, "127.0.0.2") as one,
        call(port, "127.0.0.2") as two,
    ):
        for client in (other, one, two):
            await client.read_reply()

        async with call(port, "127.0.0.2") as three:
            await three.read_reply()
            assert await one.read_end() == TOO_MANY
            for client in (other, two, three):
                assert (await client.say(b"NOOP"))[:3] == b"250"


@pytest.mark.parametrize("networks", ["127.0.0.1/32", "127.0.0.0/8"], ids=["strangers", "known"])
async def test_idle_connections_do_not_keep_mail_out(
    networks: str, tmp_path: Path, port: int, store: Store
) -> None:
    async def hold(address: str) -> None:
        """Connect and say nothing; once told to go, come back a second later."""
        while True:
            async with call(port, address) as client:
                await client.read_end()
            await trio.sleep(1)

    config = make(tmp_path, port, networks=networks, max_connections=100)
    async with run(config, store) as service, trio.open_nursery() as idle:
        for number in range(300):
            idle.start_soon(hold, f"127.0.0.{2 + number % 200}")
        await wait_until(lambda: service.crowd.is_full)
        for _ in range(10):
            async with call(port) as client:
                assert (await client.read_reply())[:3] == b"220"
                await client.open_transaction()
                read_id(await client.send_data(b"x\r\n"))
        idle.cancel_scope.cancel()

    assert (await store.read_ledger())["ledger"]["accepted"] == 10


async def test_who_stalls_in_a_handshake_makes_room(
    tmp_path: Path, port: int, store: Store, authority: trustme.CA
) -> None:
    pair = write_pair(tmp_path, authority.issue_cert("gw.example.net"))
    tls = {"certificate": pair.certificate, "key": pair.key}
    config = make(tmp_path, port, max_connections=1, tls=tls)
    async with run(config, store) as service:
        await no_sessions(service)
        async with call(port) as stalled:
            await stalled.read_reply()
            await stalled.say(b"EHLO me.test")
            await stalled.say(b"STARTTLS")

            async with call(port) as client:
                assert (await client.read_reply())[:3] == b"220"
                await stalled.read_end()


async def test_a_client_over_its_rate_of_handshakes_is_told_so(
    tmp_path: Path,
    port: int,
    store: Store,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
) -> None:
    pair = write_pair(tmp_path, authority.issue_cert("gw.example.net"))
    tls = {"certificate": pair.certificate, "key": pair.key}
    config = make(tmp_path, port, client_handshakes="2/m burst 2", tls=tls)
    async with run(config, store):
        for _ in range(2):
            async with call(port) as client:
                await shake_hands(client, client_context)
        async with call(port) as client:
            await client.read_reply()
            await client.say(b"EHLO me.test")
            assert (await client.say(b"STARTTLS"))[:3] == b"421"
            assert await client.read_end() == b""
        async with call(port, "127.0.0.2") as client:
            await shake_hands(client, client_context)


@pytest.mark.parametrize(("files", "room"), [(100_000, 1000), (1024, 601), (100, 1)])
def test_files_that_do_not_suffice_are_told_of(
    files: int,
    room: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(service_module, "allow_files", lambda: files)

    assert service_module._find_room(make(tmp_path, 25, max_connections=1000)) == room

    told = f"ingress.max_connections is 1000, but there will be room for {room}"
    assert (told in caplog.text) == (room < 1000)


# -- balancers

BALANCER = "127.0.0.31"
SENDER = "127.0.0.41"  # the only address in a tenant's networks


def make_balanced(base: Path, port: int) -> Config:
    return make(base, port, networks=SENDER, proxies=[BALANCER])


async def send_one(client: Client) -> str:
    """Send a message; return its id."""
    assert (await client.read_reply())[:3] == b"220"
    await client.open_transaction()
    return read_id(await client.send_data(b"x\r\n"))


async def is_refused(client: Client) -> bool:
    """Try to send a message; say whether the client is nobody that may."""
    assert (await client.read_reply())[:3] == b"220"
    await client.say(b"EHLO me.test")
    return await client.say(b"MAIL FROM:<a@acme.example>") == b"550 5.7.1 Relaying denied\r\n"


@pytest.mark.skipif(find_program("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.parametrize("header", ["send-proxy", "send-proxy-v2"])
async def test_through_haproxy_a_client_is_who_it_is(
    header: str, tmp_path: Path, port: int, store: Store
) -> None:
    async with run(make_balanced(tmp_path, port), store) as service:
        balancer = Balancer(port, source=BALANCER, header=header)
        with balancer:
            async with call(balancer.port, SENDER) as client:
                message_id = await send_one(client)
            async with call(balancer.port, "127.0.0.42") as other:
                assert await is_refused(other)
            # A header of the client's own stands behind the balancer's.
            async with call(balancer.port, "127.0.0.42") as liar:
                await liar.send(f"PROXY TCP4 {SENDER} 127.0.0.1 1234 25\r\n".encode())
                await liar.read_reply()
                assert (await liar.read_reply())[:3] == b"500"
        await wait_for_event(service, "refused", 1)

    assert f"[{SENDER}]".encode() in b"".join(await read_parts(store, message_id))
    clients = {event["event"]: event["client"] for event in read_log(service) if "client" in event}
    assert clients == {"accepted": SENDER, "refused": "127.0.0.42"}


def read_log(service: IngressService) -> list[dict[str, object]]:
    service.events.flush()
    lines = Path(service.config.log.events).read_bytes().splitlines()
    return [decode_event(line) for line in lines]


async def test_who_is_no_balancer_cannot_say_whose_connection_it_is(
    tmp_path: Path, port: int, store: Store
) -> None:
    async with run(make_balanced(tmp_path, port), store), call(port, "127.0.0.42") as liar:
        await liar.send(f"PROXY TCP4 {SENDER} 127.0.0.1 1234 25\r\n".encode())
        assert (await liar.read_reply())[:3] == b"220"
        assert (await liar.read_reply())[:3] == b"500"
        await liar.say(b"EHLO me.test")
        assert await liar.say(b"MAIL FROM:<a@acme.example>") == b"550 5.7.1 Relaying denied\r\n"


async def test_a_header_and_commands_in_one_packet(tmp_path: Path, port: int, store: Store) -> None:
    async with run(make_balanced(tmp_path, port), store), call(port, BALANCER) as client:
        await client.send(f"PROXY TCP4 {SENDER} 127.0.0.1 1234 25\r\nEHLO me.test\r\n".encode())

        assert (await client.read_reply())[:3] == b"220"
        assert (await client.read_reply())[:3] == b"250"
        assert (await client.say(b"MAIL FROM:<a@acme.example>"))[:3] == b"250"


async def test_a_balancer_may_speak_for_itself(tmp_path: Path, port: int, store: Store) -> None:
    async with run(make_balanced(tmp_path, port), store), call(port, BALANCER) as client:
        await client.send(b"PROXY UNKNOWN\r\n")
        assert await is_refused(client)  # it is in nobody's networks


async def test_a_balancer_without_a_header_hears_nothing(
    tmp_path: Path,
    port: int,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(service_module, "_HEADER_TIME", 0.05)
    async with run(make_balanced(tmp_path, port), store) as service:
        async with call(port, BALANCER) as client:
            assert await client.read_end() == b""
        async with call(port, BALANCER) as client:
            await client.send(b"EHLO me.test\r\n")
            assert await client.read_end() == b""
        # It has looked whether we listen: nothing to tell of.
        async with call(port, BALANCER):
            pass
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert service.crowd.counts.headers == 2
        assert service._headers == 0


async def test_those_who_come_through_a_balancer_are_counted_by_who_they_are(
    tmp_path: Path, port: int, store: Store
) -> None:
    config = make(tmp_path, port, proxies=[BALANCER], client_connections=1)
    async with (
        run(config, store),
        call(port, BALANCER) as one,
        call(port, BALANCER) as two,
        call(port, BALANCER) as three,
    ):
        for client, address in ((one, "192.0.2.1"), (two, "192.0.2.2"), (three, "192.0.2.1")):
            await client.send(f"PROXY TCP4 {address} 127.0.0.1 1234 25\r\n".encode())
            assert (await client.read_reply())[:3] == b"220"
        assert await one.read_end() == TOO_MANY
        assert (await two.say(b"NOOP"))[:3] == b"250"


async def test_a_stop_does_not_wait_for_headers(tmp_path: Path, port: int, store: Store) -> None:
    async with run(make_balanced(tmp_path, port), store) as service, call(port, BALANCER) as client:
        await wait_until(lambda: service._headers == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await client.read_end() == b""
