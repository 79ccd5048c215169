import ipaddress
import socket
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import HostUnreachable, SourceUnusable
from relay.net.proxy import PATIENCE, Proxy
from relay.net.socks import SocksEgress
from tests.kit.egress import (
    SILENCE,
    SocksServer,
    find_program,
    open_dante,
    open_microsocks,
    open_sink,
    pack_address,
    running,
)
from tests.kit.ports import find_free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is Linux")

OURS = "127.0.0.21"
# Public, so that "not allowed" is no matter of course. Nobody connects to it: the answer is a
# script's.
PUBLIC = "203.0.114.1"


def make_socks(server: SocksServer, source: str = OURS, **login: str) -> SocksEgress:
    return SocksEgress(source, Proxy(server.address, server.port), **login)


async def try_connect(egress: SocksEgress, address: str = "127.0.0.1", port: int = 25) -> None:
    """Connect, and close should it work."""
    (await egress.connect(address, port)).close()


def make_reply(code: int, kind: int = 1, rest: bytes = bytes(6)) -> bytes:
    return bytes([5, code, 0, kind]) + rest


# -- it works ----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [False, True])
async def test_mail_leaves_from_the_proxys_address(split: bool) -> None:
    async with open_sink() as sink, running(SocksServer(OURS, split=split)) as server:
        stream = await make_socks(server).connect("127.0.0.1", sink.port)

        assert await stream.receive() == b"220 sink.test\r\n"
        await stream.send(b"EHLO a.out.test\r\n")
        assert await stream.receive() == b"250 yes\r\n"
        stream.close()

        assert sink.clients == [OURS]
        assert sink.lines == [b"EHLO a.out.test"]
        assert server.asked == [("127.0.0.1", sink.port)]
        assert server.offered == [b"\0"]


async def test_ipv6_on_all_sides() -> None:
    async with open_sink("::1") as sink:
        async with running(SocksServer("::1", address="::1")) as server:
            stream = await make_socks(server, "::1").connect("::1", sink.port)

            assert await stream.receive() == b"220 sink.test\r\n"
            stream.close()
            assert server.asked == [("::1", sink.port)]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_the_family_is_the_sources_not_the_proxys(address: str) -> None:
    other = {"127.0.0.1": "::1", "::1": "127.0.0.1"}[address]
    async with open_sink(address) as sink:
        async with running(SocksServer(address, address=other)) as server:
            await try_connect(make_socks(server, address), address, sink.port)
            with pytest.raises(HostUnreachable, match="another family"):
                await try_connect(make_socks(server, address), other, sink.port)

            assert len(server.offered) == 1  # the proxy is not asked for what cannot be


@pytest.mark.parametrize(
    "kind",
    [pack_address("127.0.0.21"), pack_address("::ffff:127.0.0.21"), b"\3\x09proxy.lan", b"\3\0"],
)
async def test_what_follows_the_proxys_reply_belongs_to_the_host(kind: bytes) -> None:
    reply = b"\5\0\0" + kind + b"\0\x19"
    async with running(SocksServer(says={"connect": reply + b"220 hello\r\n"})) as server:
        stream = await make_socks(server).connect("127.0.0.1", 25)

        assert await stream.receive() == b"220 hello\r\n"
        stream.close()


# -- user and password -------------------------------------------------------------------------


async def test_the_user_decides_the_address() -> None:
    users = {"a": ("alpha", "127.0.0.22"), "b": ("bêta", "127.0.0.23")}
    async with open_sink() as sink, running(SocksServer(users=users)) as server:
        for user, (password, source) in users.items():
            egress = make_socks(server, source, user=user, password=password)
            await try_connect(egress, port=sink.port)

        await trio.testing.wait_all_tasks_blocked()
        assert sink.clients == ["127.0.0.22", "127.0.0.23"]
        assert server.offered == [b"\2", b"\2"]


async def test_a_refused_password_is_the_sources_fault_and_is_not_shown() -> None:
    async with running(SocksServer(users={"a": ("alpha", OURS)})) as server:
        egress = make_socks(server, user="a", password="s3cret")

        for action in (try_connect, SocksEgress.check):
            with pytest.raises(SourceUnusable, match="refuses user 'a' or its password") as caught:
                await action(egress)
            assert "s3cret" not in str(caught.value)
        assert "s3cret" not in repr(egress)
        assert server.asked == []


async def test_a_proxy_that_wants_a_password_of_a_source_without() -> None:
    async with running(SocksServer(users={"a": ("alpha", OURS)})) as server:
        with pytest.raises(SourceUnusable, match="lets nobody in without a password"):
            await try_connect(make_socks(server))


async def test_a_proxy_that_does_not_ask_who_we_are_is_no_good_for_a_source_with_a_user() -> None:
    async with running(SocksServer()) as server:
        with pytest.raises(SourceUnusable, match="lets nobody in with user and password"):
            await try_connect(make_socks(server, user="a", password="alpha"))


@given(name=st.text(min_size=1, max_size=60), password=st.text(min_size=1, max_size=60))
@settings(max_examples=20, deadline=None)
def test_any_user_and_password_arrive_as_they_are(name: str, password: str) -> None:
    async def main() -> None:
        async with running(SocksServer(users={name: (password, OURS)})) as server:
            await make_socks(server, user=name, password=password).check()

    trio.run(main)


# -- whose fault it is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
    ],
)
async def test_the_host_is_the_trouble(code: int, words: str) -> None:
    async with running(SocksServer(says={"connect": make_reply(code)})) as server:
        with pytest.raises(HostUnreachable, match=f"{PUBLIC} port 25: .*{words}"):
            await try_connect(make_socks(server), PUBLIC)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "general failure"),
        (2, "not allowed by its rules"),
        (7, "it cannot CONNECT"),
        (8, "does not know this kind of address"),
        (9, "does not speak SOCKS5"),
        (255, "does not speak SOCKS5"),
    ],
)
async def test_the_proxy_is_the_trouble(code: int, words: str) -> None:
    async with running(SocksServer(says={"connect": make_reply(code)})) as server:
        with pytest.raises(SourceUnusable, match=words):
            await try_connect(make_socks(server), PUBLIC)


@pytest.mark.parametrize(
    ("code", "address"),
    [
        (2, "127.0.0.1"),
        (2, "10.0.0.1"),
        (1, "255.255.255.255"),
        (1, "0.0.0.0"),
        (1, "224.0.0.1"),
        (1, "169.254.1.1"),
    ],
)
async def test_an_address_without_hosts_makes_no_source_rest(code: int, address: str) -> None:
    async with running(SocksServer(says={"connect": make_reply(code)})) as server:
        with pytest.raises(HostUnreachable):
            await try_connect(make_socks(server), address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "fd00::1"])
async def test_an_address_inside_may_have_hosts(address: str) -> None:
    source = {4: "10.0.0.5", 6: "fd00::5"}[ipaddress.ip_address(address).version]
    async with running(SocksServer(says={"connect": make_reply(1)})) as server:
        with pytest.raises(SourceUnusable, match="general failure"):
            await try_connect(make_socks(server, source), address)


async def test_a_failure_needs_no_address_after_its_code() -> None:
    async with running(SocksServer(says={"connect": b"\5\5\0\0"})) as server:
        with pytest.raises(HostUnreachable, match="connection refused"):
            await try_connect(make_socks(server))


async def test_a_host_that_refuses_the_proxy() -> None:
    async with running(SocksServer()) as server:
        with pytest.raises(HostUnreachable, match="connection refused"):
            await try_connect(make_socks(server), port=find_free_port())


async def test_a_proxy_that_has_lost_the_address_is_the_sources_fault() -> None:
    async with running(SocksServer("192.0.2.1")) as server:  # RFC 5737: on no machine
        with pytest.raises(SourceUnusable, match="general failure"):
            await try_connect(make_socks(server, "192.0.2.1"))


@pytest.mark.parametrize("step", ["method", "password", "connect"])
@pytest.mark.parametrize("said", [b"", b"\5", b"HTTP/1.1 400 Bad Request\r\n", b"220 mx\r\n"])
async def test_a_proxy_that_goes_away_or_talks_nonsense(step: str, said: bytes) -> None:
    users = {"a": ("alpha", OURS)}
    async with running(SocksServer(users=users, says={step: said})) as server:
        egress = make_socks(server, user="a", password="alpha")
        with pytest.raises(SourceUnusable, match=f"the proxy 127.0.0.1 port {server.port} "):
            await try_connect(egress)


@pytest.mark.parametrize("step", ["method", "connect"])
@pytest.mark.parametrize("said", [b"\4\0\0\0", b"HTTP/1.1 400 Bad Request\r\n", b"220 mx\r\n"])
async def test_what_is_no_socks_proxy_is_named_so(step: str, said: bytes) -> None:
    async with running(SocksServer(says={step: said})) as server:
        with pytest.raises(SourceUnusable, match="does not speak SOCKS5: it says b'"):
            await try_connect(make_socks(server))


@pytest.mark.parametrize("step", ["method", "password"])
async def test_a_proxy_that_says_nothing_is_the_sources_fault(
    step: str, autojump_clock: trio.testing.MockClock
) -> None:
    users = {"a": ("alpha", OURS)}
    async with running(SocksServer(users=users, says={step: SILENCE})) as server:
        with pytest.raises(SourceUnusable, match="did not answer within 10 s"):
            await make_socks(server, user="a", password="alpha").check()

        assert trio.current_time() == PATIENCE


async def test_how_long_a_host_may_take_is_the_callers_to_say(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(SocksServer(says={"connect": SILENCE})) as server:
        with trio.move_on_after(30) as scope:
            await try_connect(make_socks(server))

        assert scope.cancelled_caught
        assert trio.current_time() == 30


# -- which address it says it uses -------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reported"),
    [
        (OURS, "0.0.0.0"),  # does not say
        (OURS, "::"),
        ("0.0.0.0", "127.0.0.99"),  # we do not mind
        (PUBLIC, PUBLIC),
        (PUBLIC, f"::ffff:{PUBLIC}"),
        (PUBLIC, "10.0.0.5"),  # NAT: it knows no better
        (PUBLIC, "100.64.0.5"),
    ],
)
async def test_reported_addresses_that_are_in_order(source: str, reported: str) -> None:
    reply = b"\5\0\0" + pack_address(reported) + b"\0\x19"
    async with running(SocksServer(says={"connect": reply})) as server:
        await try_connect(make_socks(server, source))


@pytest.mark.parametrize(
    ("source", "reported"),
    [
        (OURS, "127.0.0.22"),
        (PUBLIC, "203.0.114.2"),
        ("10.0.0.5", PUBLIC),
        (PUBLIC, "2a00::1"),
    ],
)
async def test_a_proxy_that_leaves_from_another_address_is_refused(
    source: str, reported: str
) -> None:
    reply = b"\5\0\0" + pack_address(reported) + b"\0\x19"
    async with running(SocksServer(says={"connect": reply})) as server:
        with pytest.raises(SourceUnusable, match=f"connects from {reported}, not from {source}"):
            await try_connect(make_socks(server, source))


async def test_a_real_connection_from_another_address_is_given_up() -> None:
    async with open_sink() as sink, running(SocksServer("127.0.0.22")) as server:
        with pytest.raises(SourceUnusable, match=r"from 127\.0\.0\.22, not from 127\.0\.0\.21"):
            await try_connect(make_socks(server), port=sink.port)

        await trio.testing.wait_all_tasks_blocked()
        assert sink.lines == []


# -- anything at all ---------------------------------------------------------------------------

ANSWERS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        make_reply, st.integers(0, 255), st.sampled_from([0, 1, 3, 4, 255]), st.binary(max_size=300)
    ),
    st.builds(lambda rest: b"\5\0" + rest, st.binary(max_size=20)),
)


@given(step=st.sampled_from(["method", "password", "connect"]), said=ANSWERS)
@settings(max_examples=150, deadline=None)
def test_whatever_a_proxy_says_is_a_stream_or_an_error_of_ours(step: str, said: bytes) -> None:
    async def main() -> None:
        server = SocksServer(users={"a": ("alpha", OURS)}, says={step: said})
        async with running(server):
            try:
                stream = await make_socks(server, user="a", password="alpha").connect(PUBLIC, 25)
            except (SourceUnusable, HostUnreachable):
                return
            # Only a whole reply is a connection; and of what follows nothing is lost.
            size = {1: 10, 4: 22, 3: 7 + said[4]}[said[3]]
            got = b""
            while more := await stream.receive():
                got += more
            stream.close()
            assert step == "connect"
            assert said[:2] == b"\5\0"
            assert got == said[size:]

    trio.run(main)


async def test_a_cancelled_connect_leaves_no_socket_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(SocksServer(says={"connect": SILENCE})) as server:
        with trio.move_on_after(1):
            await make_socks(server).connect("127.0.0.1", 25)
    # pytest's filterwarnings=error: a socket that was not closed fails the run.


# -- programs of others ------------------------------------------------------------------------


@pytest.mark.skipif(find_program("microsocks") is None, reason="microsocks is not installed")
async def test_with_microsocks() -> None:
    async with open_sink() as sink:
        with open_microsocks(OURS, "a", "alpha") as port:
            egress = SocksEgress(OURS, Proxy("127.0.0.1", port), "a", "alpha")
            await egress.check()
            stream = await egress.connect("127.0.0.1", sink.port)

            assert await stream.receive() == b"220 sink.test\r\n"
            stream.close()
            assert sink.clients == [OURS]
            with pytest.raises(HostUnreachable, match="connection refused"):
                await try_connect(egress, port=find_free_port())
            with pytest.raises(SourceUnusable, match="refuses user 'a'"):
                await SocksEgress(OURS, egress.proxy, "a", "beta").check()


@pytest.mark.skipif(find_program("microsocks") is None, reason="microsocks is not installed")
async def test_with_microsocks_that_lacks_the_address() -> None:
    with open_microsocks("192.0.2.1") as port:
        egress = SocksEgress("192.0.2.1", Proxy("127.0.0.1", port))
        await egress.check()  # it cannot be seen before a host is asked for

        with pytest.raises(SourceUnusable, match="general failure"):
            await try_connect(egress)


@pytest.mark.skipif(find_program("danted") is None, reason="dante-server is not installed")
async def test_with_dante(tmp_path: Path) -> None:
    async with open_sink() as sink:
        with open_dante(OURS, tmp_path) as port:
            egress = SocksEgress(OURS, Proxy("127.0.0.1", port))
            await egress.check()
            await try_connect(egress, port=sink.port)

            assert sink.clients == [OURS]
            with pytest.raises(SourceUnusable, match=f"connects from {OURS}, not from 127.0.0.22"):
                await try_connect(SocksEgress("127.0.0.22", egress.proxy), port=sink.port)
            with pytest.raises(HostUnreachable, match="connection refused"):
                await try_connect(egress, port=find_free_port())
            with pytest.raises(HostUnreachable, match="not allowed by its rules"):
                await try_connect(egress, "127.0.0.99", sink.port)


async def test_a_listener_that_is_no_proxy_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def hang_up() -> None:
                await trio.lowlevel.wait_readable(listener)
                listener.accept()[0].close()

            with pytest.raises(SourceUnusable, match="hung up"):
                await SocksEgress(OURS, Proxy("127.0.0.1", port)).check()
