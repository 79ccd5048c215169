import dataclasses
import os

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relay.scan.clamd import frame, read_reply
from relay.scan.inquiry import Inquiry, Scan, ScanFailed, ScanRefused
from tests.kit.clamd import MARKER, SIGNATURE, STREAM_MAX, Clamd
from tests.relay.scan.conftest import Make, ReadEvents
from tests.relay.scan.scripted import open_scripted, read_question, say, wait_for_end

LINE = b"x" * 76 + b"\r\n"


def ask_about(content: bytes) -> Inquiry:
    message = b"Subject: x\r\n\r\n" + content
    return Inquiry(message, b"a@acme.test", (b"b@example.test",), "192.0.2.1", "acme.test", "ID")


PLAIN = ask_about(b"hello\r\n")


@pytest.mark.parametrize("place", ["tcp", "unix"])
async def test_clean_and_infected(clamd: Clamd, make: Make, place: str) -> None:
    scanner = make("clamd", getattr(clamd, place))

    assert await scanner.scan(PLAIN) == Scan("clean")
    infected = ask_about(b"see: " + MARKER + b"\r\n")
    assert await scanner.scan(infected) == Scan("infected", details=SIGNATURE)


@pytest.mark.parametrize("place", ["tcp", "unix"])
async def test_a_large_message_is_read_to_its_end(clamd: Clamd, make: Make, place: str) -> None:
    scanner = make("clamd", getattr(clamd, place))
    large = LINE * ((25 << 20) // len(LINE))

    assert await scanner.scan(ask_about(large)) == Scan("clean")
    assert (await scanner.scan(ask_about(large + MARKER))).result == "infected"


@pytest.mark.parametrize("place", ["tcp", "unix"])
async def test_what_is_too_large_for_clamd_is_no_trouble_of_the_scanner(
    clamd: Clamd, make: Make, read_events: ReadEvents, place: str
) -> None:
    scanner = make("clamd", getattr(clamd, place))
    huge = ask_about(LINE * ((STREAM_MAX + (10 << 20)) // len(LINE)))
    for _ in range(6):  # enough for the breaker, if it counted
        with pytest.raises(ScanFailed, match="StreamMaxLength"):
            await scanner.scan(huge)

    assert (await scanner.scan(PLAIN)).result == "clean"
    assert read_events() == []


async def test_many_at_a_time(clamd: Clamd, make: Make) -> None:
    scanner = make("clamd", clamd.unix)
    results: dict[int, str] = {}

    async def scan(number: int) -> None:
        content = MARKER if number % 3 == 0 else b"hello"
        results[number] = (await scanner.scan(ask_about(content))).result

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(scan, number)

    assert results == {n: "clean" if n % 3 else "infected" for n in range(60)}


async def test_what_is_sent_octet_by_octet(make: Make) -> None:
    asked: list[bytes] = []

    async def talk(stream: trio.SocketStream) -> None:
        asked.append(await read_question(stream))
        await stream.send_all(b"stream: OK\0")

    async with open_scripted(talk) as address:
        await make("clamd", address).scan(dataclasses.replace(PLAIN, message=b"hello"))

    assert asked == [b"zINSTREAM\0" + b"\0\0\0\5hello" + b"\0\0\0\0"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "closed the connection without an answer"),
        (b"stream: OK", "closed the connection without an answer"),  # not whole
        (b"\0", "not an answer of clamd"),
        (b"stream:  FOUND\0", "not an answer of clamd"),
        (b"stream: FOUND\0", "not an answer of clamd"),
        (b"OK\0", "not an answer of clamd"),
        (b"stream: OK\nstream: X FOUND\0", "not an answer of clamd"),
        (b"220 mail.example.test ESMTP\r\n\0", r"220 mail.example.test ESMTP\?\?"),
        (b"UNKNOWN COMMAND\0", "UNKNOWN COMMAND"),
        (b"stream: Can't allocate memory ERROR\0", "Can't allocate memory ERROR"),
        (b"x" * 5000, "more than 4096 octets"),
        (b"x" * 5000 + b"\0", "more than 4096 octets"),
    ],
)
async def test_nonsense_is_a_failure(make: Make, answer: bytes, text: str) -> None:
    async with open_scripted(say(answer)) as address:
        with pytest.raises(ScanFailed, match=text):
            await make("clamd", address).scan(PLAIN)


async def test_an_answer_may_come_in_pieces(make: Make) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await read_question(stream)
        for octet in b"stream: Win.Test-1 FOUND\0":
            await stream.send_all(bytes([octet]))

    async with open_scripted(talk) as address:
        assert await make("clamd", address).scan(PLAIN) == Scan("infected", details="Win.Test-1")


async def test_an_answer_without_end_is_not_read_to_it(make: Make) -> None:
    sent = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal sent
        await read_question(stream)
        for _ in range(100):
            await stream.send_all(b"x" * (1 << 20))
            sent += 1

    async with open_scripted(talk) as address:
        with pytest.raises(ScanFailed, match="more than 4096 octets"):
            await make("clamd", address).scan(PLAIN)

    assert sent < 20  # MiB: what fits into the kernel's buffers


async def test_hanging_up_in_the_middle_of_the_message(make: Make) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some(10)

    async with open_scripted(talk) as address:
        with pytest.raises(ScanFailed, match=r"connection lost|closed the connection"):
            await make("clamd", address).scan(ask_about(LINE * 100_000))


async def test_nobody_there(make: Make) -> None:
    with pytest.raises(ScanFailed, match=r"cannot connect to /nowhere/clamd\.ctl"):
        await make("clamd", "unix:/nowhere/clamd.ctl").scan(PLAIN)


async def test_a_cancelled_scan_leaves_nothing_open(make: Make) -> None:
    asked, over = trio.Event(), trio.Event()

    async def talk(stream: trio.SocketStream) -> None:
        await read_question(stream)
        asked.set()
        await wait_for_end(stream)
        over.set()

    async with open_scripted(talk) as address:
        scanner = make("clamd", address)
        files = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scanner.scan, PLAIN)
            await asked.wait()
            nursery.cancel_scope.cancel()
        await over.wait()
        await trio.testing.wait_all_tasks_blocked()

        assert len(os.listdir("/proc/self/fd")) == files


# -- the protocol, without a connection


def read_frames(octets: bytes) -> bytes:
    """Take apart what ``frame`` makes, as clamd does."""
    assert octets.startswith(b"zINSTREAM\0")
    octets, message = octets[10:], b""
    while size := int.from_bytes(octets[:4]):
        message += octets[4 : 4 + size]
        octets = octets[4 + size :]
    assert octets == b"\0\0\0\0"
    return message


@given(size=st.integers(0, 700_000), seed=st.binary(min_size=1, max_size=9))
def test_frames_hold_the_message(size: int, seed: bytes) -> None:
    message = (seed * size)[:size]

    assert read_frames(b"".join(frame(message))) == message


def test_only_the_size_is_the_messages_fault() -> None:
    with pytest.raises(ScanRefused):
        read_reply(b"INSTREAM size limit exceeded. ERROR")


@given(
    reply=st.one_of(st.binary(max_size=300), st.binary().map(lambda b: b"stream: " + b + b" FOUND"))
)
def test_any_reply_is_a_scan_or_a_failure(reply: bytes) -> None:
    try:
        scan = read_reply(reply)
    except ScanFailed as failure:
        error = failure
    else:
        assert (scan.result == "clean") is (reply == b"stream: OK")
        assert (scan.result == "infected") is bool(scan.details)
        assert len(scan.details) <= 200
        assert scan.details.isprintable()
        return
    assert str(error).isprintable()
    assert len(str(error)) < 300
