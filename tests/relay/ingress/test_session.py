"""One session: its patience, its ends, TLS, stopping. Where no store is asked, time is virtual."""

import re
import ssl
from pathlib import Path

import pytest
import trio

from relay.ingress.desk import Desk
from relay.net.certificates import Certificates
from relay.store.queue import Store
from tests.kit.redis import Server
from tests.kit.visit import (
    OpenDoor,
    make_config,
    make_desk,
    read_events,
    read_id,
    read_parts,
    split_trace,
    visit,
)

# -- patience


async def test_a_silent_client_is_told_after_five_minutes(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with visit(desk) as client:
        start = trio.current_time()

        assert await client.read_end() == b"421 4.4.2 Timed out\r\n"

        assert trio.current_time() - start == pytest.approx(300)


async def test_silence_in_the_middle_of_data_lasts_three_minutes(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with visit(desk) as client:
        await client.open_transaction()
        await client.say(b"DATA")
        await client.send(b"Subject: x\r\n")
        start = trio.current_time()

        assert await client.read_end() == b"421 4.4.2 Timed out\r\n"

        assert trio.current_time() - start == pytest.approx(180)


async def test_each_command_has_five_minutes(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with visit(desk) as client:
        for _ in range(3):
            await trio.sleep(299)
            assert await client.say(b"NOOP") == b"250 2.0.0 OK\r\n"


async def test_half_a_command_gains_no_time(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with visit(desk) as client:
        start = trio.current_time()
        for octet in (b"N", b"O"):
            await trio.sleep(140)
            await client.send(octet)

        assert (await client.read_end())[:9] == b"421 4.4.2"

        assert trio.current_time() - start == pytest.approx(300)


@pytest.mark.parametrize("opening", [b"DATA\r\n", b"BDAT 100000\r\n"])
async def test_content_that_dribbles_has_a_quarter_of_an_hour(
    opening: bytes, desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with visit(desk) as client:
        start = trio.current_time()
        await client.open_transaction()
        await client.send(opening)
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(100):
                await client.send(b"x")
                await trio.sleep(100)

        assert trio.current_time() - start == pytest.approx(900, abs=101)


async def test_a_session_without_a_message_has_a_quarter_of_an_hour(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with visit(desk) as client:
        start = trio.current_time()
        for _ in range(4):
            await trio.sleep(200)
            await client.open_transaction()
            await client.say(b"RSET")
        await trio.sleep(50)
        await client.say(b"NOOP")

        assert (await client.read_end())[:9] == b"421 4.4.2"

        assert trio.current_time() - start == pytest.approx(900)


async def test_a_client_that_does_not_read_is_given_up(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    async with visit(desk, window=4096) as client:
        await client.send(b"EHLO me.test\r\n" * 90)
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(10):
                await trio.sleep(60)
                await client.send(b"NOOP\r\n")

    # Five minutes, and two seconds for a goodbye that does not get through either.
    assert trio.current_time() - start <= 362


# -- ends in the wrong place

DIALOGUE = (
    b"EHLO me.test\r\nMAIL FROM:<a@acme.example>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"
    b"Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n"
)


async def test_a_client_may_close_anywhere(desk: Desk) -> None:
    for length in range(len(DIALOGUE)):
        async with visit(desk) as client:
            await client.send(DIALOGUE[:length])
            await client.stream.send_eof()  # type: ignore[attr-defined]
            rest = await client.read_end()
            assert b"250 2.0.0 " not in rest  # the store is gone: nothing is ever accepted
            assert client.session.is_idle or length < len(DIALOGUE)

    assert read_events(desk) == []


async def test_a_client_may_reset_anywhere(desk: Desk) -> None:
    for length in range(0, len(DIALOGUE), 7):
        async with visit(desk) as client:
            await client.send(DIALOGUE[:length])
            # Closing with unread replies is a reset.


async def test_a_client_that_goes_after_the_final_dot_has_sent_its_message_once(
    real_desk: Desk, store: Store
) -> None:
    async with visit(real_desk) as client:
        await client.send(DIALOGUE)

    ledger = (await store.read_ledger())["ledger"]
    assert ledger["accepted"] == ledger["queued"] == 1


# -- STARTTLS


async def test_a_message_over_tls(
    tmp_path: Path,
    store: Store,
    certificates: Certificates,
    client_context: ssl.SSLContext,
) -> None:
    desk = make_desk(make_config(tmp_path), store, tls=certificates)
    async with visit(desk) as client:
        assert b"250-STARTTLS\r\n" in await client.say(b"EHLO me.test")
        assert await client.say(b"STARTTLS") == b"220 2.0.0 Go ahead\r\n"
        await client.start_tls(client_context, "gw.example.net")
        assert b"STARTTLS" not in await client.say(b"EHLO me.test")
        await client.open_transaction()
        content = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 40_000
        message_id = read_id(await client.send_data(content))

    trace, rest = split_trace(b"".join(await read_parts(store, message_id)))
    assert rest == content
    assert b" with ESMTPS id " + message_id.encode() + b" (TLSv1.3 TLS_" in trace
    (event,) = read_events(desk)
    assert str(event["tls"]).startswith("TLSv1.3 ")


@pytest.mark.parametrize("garbage", [b"EHLO me.test\r\n", b"\0" * 9, b"\x16\x03\x01\x00\x05hello"])
async def test_garbage_for_a_handshake_ends_the_session(
    garbage: bytes, desk: Desk, certificates: Certificates
) -> None:
    desk = make_desk(desk.config, desk.store, tls=certificates)
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"STARTTLS")
        await client.send(garbage)

        rest = await client.read_end()

    assert not rest.startswith((b"2", b"4", b"5"))  # nothing in clear; at most an alert


async def test_a_handshake_that_stalls_ends_after_five_minutes(
    desk: Desk, certificates: Certificates, autojump_clock: trio.testing.MockClock
) -> None:
    desk = make_desk(desk.config, desk.store, tls=certificates)
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"STARTTLS")
        await client.send(b"\x16\x03\x01")
        start = trio.current_time()

        await client.read_end()

        assert trio.current_time() - start == pytest.approx(300, abs=3)


async def test_clear_text_behind_starttls_ends_the_session(
    desk: Desk, certificates: Certificates
) -> None:
    desk = make_desk(desk.config, desk.store, tls=certificates)
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")

        await client.send(b"STARTTLS\r\nMAIL FROM:<a@acme.example>\r\n")

        assert await client.read_end() == b"501 5.5.1 Octets after STARTTLS\r\n"


# -- stopping


async def test_an_idle_session_is_told_when_we_stop(desk: Desk) -> None:
    async with visit(desk) as client:
        await client.say(b"EHLO me.test")
        assert isinstance(desk.door, OpenDoor)
        desk.door.stopping = True
        client.session.stop()

        assert await client.read_end() == b"421 4.3.2 Service going down, try again\r\n"


async def test_a_message_under_way_is_finished_when_we_stop(real_desk: Desk) -> None:
    async with visit(real_desk) as client:
        await client.open_transaction()
        await client.say(b"DATA")
        assert isinstance(real_desk.door, OpenDoor)
        real_desk.door.stopping = True
        client.session.stop()
        await client.send(b"x\r\n.\r\n")

        replies = await client.read_end()

    assert re.fullmatch(rb"250 2\.0\.0 \w{24}\r\n421 4\.3\.2 .*\r\n", replies)


async def test_a_message_that_is_being_stored_is_finished_when_we_stop(
    real_desk: Desk, server: Server, store: Store
) -> None:
    async with visit(real_desk) as client:
        await client.open_transaction()
        await client.say(b"DATA")
        with server.client() as redis:
            redis.execute_command("CLIENT", "PAUSE", 200, "ALL")
        await client.send(b"x\r\n.\r\n")
        await trio.sleep(0.05)
        assert isinstance(real_desk.door, OpenDoor)
        real_desk.door.stopping = True
        client.session.stop()

        replies = await client.read_end()

    assert re.fullmatch(rb"250 2\.0\.0 \w{24}\r\n421 4\.3\.2 .*\r\n", replies)
    assert (await store.read_ledger())["ledger"]["accepted"] == 1
