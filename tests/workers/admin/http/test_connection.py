"""HTTP as it arrives: requests one after another, limits, clients that go or do not listen."""

import datetime as dt
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relay.net.listen import open_listener
from relay.net.stream import Stream
from workers.admin.http import connection as module
from workers.admin.http.connection import MOST_BODY, Connection
from workers.admin.http.server import Server

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HALF = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"
BIG = 64 << 20


class Echo:
    """An application that says what it was asked; some paths behave differently."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.gone = trio.Event()
        self.begun = trio.Event()
        self.leave = trio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.begun.set()
        body = (await receive())["body"]
        if scope["path"].startswith("/bug"):
            raise RuntimeError("a bug")
        if scope["path"] == "/denied":
            raise PermissionError(13, "Permission denied", "/etc/secret")
        if scope["path"] == "/both":
            raise ExceptionGroup(
                "", [ConnectionResetError("not the client's"), OSError(28, "full")]
            )
        if scope["path"] == "/wait":
            await self.leave.wait()
        if scope["path"] == "/gone":
            assert (await receive())["type"] == "http.disconnect"
            self.gone.set()
            return
        content = b"x" * BIG if scope["path"] == "/big" else scope["path"].encode() + body
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content[:-1], "more_body": True})
        if scope["path"] == "/half":
            raise OSError(5, "Input/output error")
        await send({"type": "http.response.body", "body": content[-1:]})


@asynccontextmanager
async def serve(most: int = 100) -> AsyncIterator[tuple[Echo, int, trio.Event]]:
    echo, stop = Echo(), trio.Event()
    with open_listener("127.0.0.1", 0) as listener:
        async with trio.open_nursery() as nursery:
            server = Server(echo, most=most)  # type: ignore[arg-type]
            nursery.start_soon(server.run, [listener], stop)
            with trio.fail_after(60):
                yield echo, listener.getsockname()[1], stop
            stop.set()


async def talk(port: int, octets: bytes) -> bytes:
    """Send, and return all that comes until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(octets)
        return b"".join([part async for part in stream])


async def wait_served(port: int) -> None:
    """Ask until somebody has time for us."""
    while not (await talk(port, LAST)).endswith(b"/b"):  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.02)


async def read_answer(stream: trio.SocketStream, body: bytes) -> bytes:
    """Read until an answer has ended with a body."""
    octets = b""
    while not octets.endswith(b"\r\n\r\n" + body):
        part = await stream.receive_some()
        assert part, octets
        octets += part
    return octets


async def test_requests_come_one_after_another_over_one_connection() -> None:
    async with serve() as (echo, port, _):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for path in (b"/one", b"/two%20three?x=1"):
                await stream.send_all(GET % path)
                assert (await read_answer(stream, path.partition(b"?")[0].replace(b"%20", b" ")))[
                    :15
                ] == b"HTTP/1.1 200 \r\n"
    assert [scope["path"] for scope in echo.scopes] == ["/one", "/two three"]
    assert echo.scopes[1]["query_string"] == b"x=1"
    assert echo.scopes[0]["client"][0] == "127.0.0.1"


async def test_requests_that_do_not_wait_for_answers_get_them_in_order() -> None:
    async with serve() as (_, port, _):
        last = LAST
        said = await talk(port, GET % b"/a" + last)
    assert said.count(b"HTTP/1.1 200") == 2
    assert said.index(b"\r\n\r\n/a") < said.index(b"\r\n\r\n/b")


async def test_a_body_arrives_whole() -> None:
    body = b"b" * MOST_BODY
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    async with serve() as (_, port, _):
        assert (await talk(port, head % len(body) + body)).endswith(b"/p" + body)


async def test_who_waits_for_leave_to_send_gets_it() -> None:
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with serve() as (_, port, _):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await stream.send_all(b"hi")
            await read_answer(stream, b"/phi")


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY + 1), b"413"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (MOST_BODY + 1), b"413"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1000\r\n%b\r\n" % (b"x" * 4096) * 17,
            b"413",
        ),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 100_000, b"431"),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
async def test_what_is_too_long_or_no_http_is_refused(octets: bytes, status: bytes) -> None:
    async with serve() as (echo, port, _):
        try:
            said = await talk(port, octets)
        except trio.BrokenResourceError:  # closed while we still sent
            return
        assert said.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close" in said.lower()
    assert not echo.scopes


async def test_an_answer_says_when_it_was() -> None:
    async with serve() as (_, port, _):
        said = await talk(port, LAST)
    (date,) = re.findall(rb"(?i)\r\ndate: (.*)\r\n", said)
    now = dt.datetime.now(dt.UTC)
    told = dt.datetime.strptime(date.decode(), "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=dt.UTC)
    assert abs((now - told).total_seconds()) < 60


async def test_a_head_answer_has_no_body() -> None:
    async with serve() as (_, port, _):
        said = await talk(port, b"HEAD /one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert said.endswith(b"\r\n\r\n")
    assert b"content-length: 4" in said.lower()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (b"/bug", "/bug failed: RuntimeError: a bug"),
        (
            b"/denied",
            "/denied failed: PermissionError: [Errno 13] Permission denied: '/etc/secret'",
        ),
        (b"/both", "/both failed: ExceptionGroup:"),
        (b"/bug%0a2026%20all%20is%20well", "/bug%0a2026%20all%20is%20well failed: RuntimeError"),
    ],
)
async def test_what_goes_wrong_is_logged_and_no_end_of_the_server(
    path: bytes, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as (_, port, _):
        said = await talk(port, GET % path)
        assert said.startswith(b"HTTP/1.1 500")
        assert said.endswith(b"\r\n\r\n")  # no word about what it was
        (record,) = caplog.records
        assert (record.levelname, record.name) == ("ERROR", "outgate.admin")
        assert record.getMessage().startswith(f"GET {told}")
        assert "\n" not in record.getMessage()
        assert (await talk(port, LAST)).endswith(b"/b")


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve() as (_, port, _):
        said = await talk(port, GET % b"/half")
        assert said.startswith(b"HTTP/1.1 200")
        assert said.endswith(b"\r\n\r\n/hal")
    assert [one.getMessage() for one in caplog.records] == [
        "GET /half failed: OSError: [Errno 5] Input/output error"
    ]


async def test_more_than_may_be_here_are_turned_away() -> None:
    async with serve(most=2) as (echo, port, _):
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as one,
            await trio.open_tcp_stream("127.0.0.1", port) as two,
        ):
            for stream in (one, two):
                await stream.send_all(GET % b"/gone")
            while len(echo.scopes) < 2:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
            assert (await talk(port, b"")).startswith(b"HTTP/1.1 503")
        await wait_served(port)


async def test_who_asks_nothing_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEAD_TIME", 1000.0)
    async with serve(most=2) as (_, port, _):
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as one,
            await trio.open_tcp_stream("127.0.0.1", port) as two,
        ):
            await one.send_all(b"GET / HTT")  # half a head
            await two.send_all(GET % b"/a")
            await read_answer(two, b"/a")  # and all of one, before which the other has come
            assert (await talk(port, LAST)).endswith(b"/b")
            assert await one.receive_some() == b""
            await two.send_all(GET % b"/c")
            await read_answer(two, b"/c")


async def test_the_application_hears_that_a_client_has_gone() -> None:
    async with serve() as (echo, port, _):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET % b"/gone")
        await echo.begun.wait()
        await stream.aclose()
        await echo.gone.wait()


@pytest.mark.parametrize("octets", [b"", b"GET / HT", HALF])
async def test_who_says_nothing_more_is_let_go(
    octets: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HEAD_TIME", 0.2)
    monkeypatch.setattr(module, "_BODY_TIME", 0.2)
    async with serve() as (echo, port, _):
        await talk(port, octets)
    assert not echo.scopes


async def test_who_does_not_read_is_let_go(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_SEND_TIME", 0.3)
    async with serve(most=1) as (_, port, _):
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(GET % b"/big")
            await wait_served(port)
    assert not caplog.records  # no fault of ours


async def test_the_end_waits_for_what_has_begun_and_for_nothing_else() -> None:
    async with (
        serve() as (echo, port, stop),
        await trio.open_tcp_stream("127.0.0.1", port) as idle,
        await trio.open_tcp_stream("127.0.0.1", port) as busy,
    ):
        await idle.send_all(GET % b"/a")
        await read_answer(idle, b"/a")
        echo.begun = trio.Event()
        await busy.send_all(GET % b"/wait")
        await echo.begun.wait()
        stop.set()
        assert await idle.receive_some() == b""
        echo.leave.set()
        said = await read_answer(busy, b"/wait")
        assert b"connection: close" in said.lower()
        assert await busy.receive_some() == b""


_PIECES = st.sampled_from(
    [
        GET % b"/a", HALF, LAST, b"\r\n", b"\n", b"\0", b"POST /x HTTP/1.1\r\n", b"Host: x\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Content-Length: -1\r\n",
        b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"5\r\nabcde\r\n",
        b"0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /%ff%00 HTTP/1.0\r\n\r\n",
        b"HEAD /\xff HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
)  # fmt: skip


@given(st.lists(_PIECES | st.binary(max_size=30), max_size=12).map(b"".join))
async def test_nothing_that_is_sent_breaks_it(octets: bytes) -> None:
    """Whatever comes, the answer is HTTP, or none, and the connection ends."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(octets)
        theirs.shutdown(socket.SHUT_WR)
        with trio.fail_after(30):
            await Connection(Stream(ours), "127.0.0.1", Echo()).run()  # type: ignore[arg-type]
        said = b""
        while part := theirs.recv(65536):
            said += part
    assert said == b"" or said.startswith((b"HTTP/1.1 2", b"HTTP/1.1 1", b"HTTP/1.1 4"))
