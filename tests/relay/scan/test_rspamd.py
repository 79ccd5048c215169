import dataclasses
import json
import os

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relay.scan.inquiry import Inquiry, Scan, ScanFailed
from relay.scan.rspamd import make_fields, read_reply
from tests.kit.rspamd import ENVELOPE, GTUBE, SPAM, Rspamd
from tests.relay.scan.conftest import Make, ReadEvents
from tests.relay.scan.scripted import open_scripted, read_question, say, say_json, wait_for_end

LINE = b"x" * 76 + b"\r\n"
PLAIN = Inquiry(
    b"Subject: x\r\n\r\nhello\r\n", b"a@acme.test", (b"b@example.test",), "192.0.2.1", "", "ID"
)
GOOD = b'{"action": "no action", "score": 0.5, "symbols": {}}'


def ask_about(content: bytes) -> Inquiry:
    return dataclasses.replace(PLAIN, message=PLAIN.message + content)


@pytest.mark.parametrize("place", ["tcp", "unix"])
async def test_what_it_says_of_messages(rspamd: Rspamd, make: Make, place: str) -> None:
    scanner = make("rspamd", getattr(rspamd, place))

    assert await scanner.scan(PLAIN) == Scan("no action", 0.0, "RECIPIENTS_1 0.0")
    assert await scanner.scan(ask_about(GTUBE)) == Scan("reject", 15.0, "GTUBE 0.0")
    spam = await scanner.scan(ask_about(SPAM))
    assert spam == Scan("add header", 7.5, "TEST_SPAM 7.5, RECIPIENTS_1 0.0")


async def test_it_is_told_the_envelope(rspamd: Rspamd, make: Make) -> None:
    scanner = make("rspamd", rspamd.tcp)

    assert "ENVELOPE_RIGHT 0.5" in (await scanner.scan(ENVELOPE)).details
    for other in (
        dataclasses.replace(ENVELOPE, sender=b""),
        dataclasses.replace(ENVELOPE, recipients=ENVELOPE.recipients[:1]),
        dataclasses.replace(ENVELOPE, client="192.0.2.1"),
        dataclasses.replace(ENVELOPE, hello=""),
        dataclasses.replace(ENVELOPE, message_id="other"),
    ):
        assert "ENVELOPE_RIGHT" not in (await scanner.scan(other)).details


async def test_recipients_without_number(rspamd: Rspamd, make: Make) -> None:
    scanner = make("rspamd", rspamd.tcp)
    addresses = [b"%d@%b.test" % (n, b"x" * 200) for n in range(100_000)]
    few = dataclasses.replace(PLAIN, recipients=addresses[:150])
    many = dataclasses.replace(PLAIN, recipients=addresses)

    assert (await scanner.scan(few)).details == "RECIPIENTS_150 0.0"
    # Without a limit of ours rspamd would break off.
    assert (await scanner.scan(many)).details.startswith("RECIPIENTS_2")


async def test_odd_octets_in_the_envelope(rspamd: Rspamd, make: Make) -> None:
    scanner = make("rspamd", rspamd.tcp)
    odd = dataclasses.replace(
        ENVELOPE,
        sender=b'"a\r\nIP: 10.0.0.1"@x.test',
        recipients=("ü@example.test".encode(), b"\xff\xfe@\x00", b""),
        hello="\r\n\r\n\ud800 x\t",
        client="nonsense",
    )

    assert (await scanner.scan(odd)).result == "no action"


async def test_a_large_message_is_read_to_its_end(rspamd: Rspamd, make: Make) -> None:
    scanner = make("rspamd", rspamd.tcp)
    large = LINE * ((25 << 20) // len(LINE))

    assert (await scanner.scan(ask_about(large + SPAM))).result == "add header"


async def test_what_is_sent(make: Make) -> None:
    asked: list[bytes] = []

    async def talk(stream: trio.SocketStream) -> None:
        asked.append(await read_question(stream))
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD)

    async with open_scripted(talk) as address:
        await make("rspamd", address).scan(ENVELOPE)

    head, _, body = asked[0].partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert line == b"POST /checkv2 HTTP/1.1"
    assert body == ENVELOPE.message
    assert sorted(fields) == sorted(
        [
            b"Host: " + address.encode(),
            b"Accept: */*",
            b"Accept-Encoding: identity",
            b"Connection: keep-alive",
            b"User-Agent: outgate",
            b"From: <news+1=2@acme.test>",
            b"Rcpt: <a@example.test>",
            b'Rcpt: <"b c"@example.test>',
            b"IP: 127.0.0.7",
            b"Helo: out.acme.test",
            b"Queue-Id: 01KB5TESTTESTTESTTESTT00",
            b"Content-Length: %d" % len(body),
        ]
    )


async def test_a_connection_that_is_kept_is_used_again(make: Make) -> None:
    connections = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        while await read_question(stream):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD))
            await stream.send_all(GOOD)

    async with open_scripted(talk) as address:
        scanner = make("rspamd", address)
        for _ in range(3):
            assert await scanner.scan(PLAIN) == Scan("no action", 0.5, "")

    assert connections == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not an answer"),
        (b"OK", "not an answer"),
        (b"[]", "not an answer"),
        (b"{}", "not an answer"),
        (b'{"action": "reject"}', "not an answer"),
        (b'{"action": "", "score": 1}', "not an answer"),
        (b'{"action": "reject", "score": "1"}', "not an answer"),
        (b'{"action": "reject", "score": NaN}', "not an answer"),
        (b'{"action": "reject", "score": 1e999}', "not an answer"),
        (b'{"action": "reject", "score": 1, "symbols": {"X": 1}}', "not an answer"),
        (b'{"action": "\xff", "score": 1}', "not an answer"),
        (b'{"action": "reject", "score": 1', "not an answer"),
        (b'{"action": "%b", "score": 1}' % (b"x" * 65), "not an answer"),
        (b'{"x": ' + b"[" * 500_000, "not an answer"),
        (b" " * (1 << 20) + GOOD, "more than 1048576 octets"),
    ],
)
async def test_nonsense_is_a_failure(make: Make, body: bytes, text: str) -> None:
    async with open_scripted(say_json(body)) as address:
        with pytest.raises(ScanFailed, match=text):
            await make("rspamd", address).scan(PLAIN)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "disconnected"),
        (b"HTTP/1.1 200 OK\r\n", "disconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "closed"),
        (b"stream: OK\0", "illegal|status line|request line|disconnected"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "too|large|big|buffer"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "302",
        ),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status 500"),
    ],
)
async def test_bad_http_is_a_failure(make: Make, answer: bytes, text: str) -> None:
    async with open_scripted(say(answer)) as address:
        with pytest.raises(ScanFailed, match=text):
            await make("rspamd", address).scan(PLAIN)


async def test_what_is_too_large_for_rspamd_is_no_trouble_of_the_scanner(
    make: Make, read_events: ReadEvents
) -> None:
    async with open_scripted(say_json(b"", b"413 Too large")) as address:
        scanner = make("rspamd", address)
        for _ in range(6):  # enough for the breaker, if it counted
            with pytest.raises(ScanFailed, match="max_message"):
                await scanner.scan(PLAIN)

    assert read_events() == []


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_an_answer_of_100_mib_is_not_read_to_its_end(make: Make, is_chunked: bool) -> None:
    sent = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal sent
        await read_question(stream)
        kind = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: 104857600"
        await stream.send_all(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % kind)
        piece = b" " * (1 << 20)
        for _ in range(100):
            await stream.send_all(b"100000\r\n%b\r\n" % piece if is_chunked else piece)
            sent += 1

    async with open_scripted(talk) as address:
        with pytest.raises(ScanFailed, match="more than 1048576 octets"):
            await make("rspamd", address).scan(PLAIN)

    assert sent < 20  # MiB: what fits into the kernel's buffers


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
async def test_a_cancelled_scan_leaves_nothing_open(make: Make, begin: bytes) -> None:
    asked, over = trio.Event(), trio.Event()

    async def talk(stream: trio.SocketStream) -> None:
        await read_question(stream)
        await stream.send_all(begin)
        asked.set()
        await wait_for_end(stream)
        over.set()

    async with open_scripted(talk) as address:
        scanner = make("rspamd", address)
        files = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scanner.scan, PLAIN)
            await asked.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await over.wait()
        await trio.testing.wait_all_tasks_blocked()

        assert len(os.listdir("/proc/self/fd")) == files


# -- the protocol, without a connection


def test_the_heaviest_symbols_are_named_and_nothing_of_their_options() -> None:
    symbols = ", ".join(f'"S{n}": {{"score": {n - 8}, "options": ["secret"]}}' for n in range(15))
    reply = f'{{"action": "Add Header", "score": 6.25, "symbols": {{{symbols}}}, "more": [1]}}'

    scan = read_reply(reply.encode())

    assert (scan.result, scan.score) == ("add header", 6.25)
    assert scan.details.startswith("S0 -8.0, S1 -7.0, S2 -6.0, S14 6.0, ")
    assert scan.details.count(",") == 9
    assert "secret" not in scan.details


WORDS = st.text(max_size=200)


@given(
    action=WORDS,
    score=st.one_of(st.floats(), st.integers()),
    symbols=st.dictionaries(WORDS, st.floats(allow_nan=False, allow_infinity=False), max_size=20),
)
def test_any_reply_is_a_scan_or_a_failure(
    action: str, score: float, symbols: dict[str, float]
) -> None:
    named = {name: {"score": value} for name, value in symbols.items()}
    body = json.dumps({"action": action, "score": score, "symbols": named}).encode()
    try:
        scan = read_reply(body)
    except ScanFailed:
        return
    assert scan.result == scan.result.lower().strip()
    assert 0 < len(scan.result) <= 64
    assert scan.details.isprintable()
    assert len(scan.details) < 4500


@given(body=st.binary())
def test_any_octets_are_a_failure_in_printable_words(body: bytes) -> None:
    with pytest.raises(ScanFailed) as caught:
        read_reply(body)
    assert str(caught.value).isprintable()


@given(
    sender=st.binary(max_size=2000),
    recipients=st.lists(st.binary(max_size=400), max_size=20),
    hello=st.text(max_size=2000),
)
def test_fields_are_always_valid(sender: bytes, recipients: list[bytes], hello: str) -> None:
    inquiry = dataclasses.replace(PLAIN, sender=sender, recipients=recipients, hello=hello)

    fields = list(make_fields(inquiry))

    h11.Request(method="POST", target="/checkv2", headers=[(b"Host", b"x"), *fields])
    assert [name for name, _ in fields].count(b"Rcpt") == len(recipients)
    assert sum(len(value) for _, value in fields) < 60_000
