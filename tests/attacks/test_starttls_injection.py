"""Somebody in the middle, who cannot read TLS, puts clear text where the encrypted one is expected.

STARTTLS injection (CVE-2011-0411, and NO STARTTLS, 2021): commands behind STARTTLS that the server
would carry out as if they had come under TLS, replies behind the 220 that the client would believe.
Or takes STARTTLS away, or makes a mess of the handshake. Real sessions, real TLS, a real store.
"""

import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from relay.config.schema import TlsLevel
from relay.ingress.desk import Desk
from relay.model import Disposition
from relay.net.certificates import Certificates, load_pair
from relay.net.egress import DirectEgress
from relay.smtp.events import ServerSettings
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.pairs import write_pair
from tests.kit.peer import ScriptedHost, Shelf, make_claim, open_host, open_peer
from tests.kit.redis import Server
from tests.kit.visit import (
    Client,
    make_config,
    make_desk,
    read_events,
    read_id,
    read_parts,
    split_trace,
    visit,
)
from tests.kit.works import open_works
from workers.peer import HostFailed

ENVELOPE = b"MAIL FROM:<chief@acme.example>\r\nRCPT TO:<victim@y.test>\r\n"
INJECTED = b"EHLO evil.test\r\n" + ENVELOPE + b"DATA\r\nSubject: injected\r\n\r\nx\r\n.\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def desk(tmp_path: Path, store: Store, authority: trustme.CA) -> Desk:
    pair = write_pair(tmp_path, authority.issue_cert("gw.example.net"))
    return make_desk(make_config(tmp_path), store, tls=Certificates([load_pair(pair)]))


@contextlib.asynccontextmanager
async def knock(desk: Desk, **options: int) -> AsyncIterator[Client]:
    """Visit, and wait no more than ten seconds for anything."""
    with trio.fail_after(10):
        async with visit(desk, **options) as client:  # type: ignore[arg-type]
            yield client


def make_client_hello() -> bytes:
    """Return what a client of TLS says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="gw.example.net"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


# -- commands, to the ingress ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "behind",
    [INJECTED, ENVELOPE, b"NOOP\r\n", b"RSET\n", b"STARTTLS\r\n", b"\r\n", b"E", b"\0", None],
)
async def test_what_comes_with_starttls_ends_the_session(
    behind: bytes | None, desk: Desk, server: Server
) -> None:
    """Also the beginning of a handshake: nobody begins it before the 220."""
    behind = make_client_hello() if behind is None else behind
    async with knock(desk) as client:
        await client.say(b"EHLO me.test")
        await client.send(ENVELOPE + b"STARTTLS\r\n" + behind)

        assert await client.read_reply() == b"250 2.1.0 Sender OK\r\n"
        assert await client.read_reply() == b"250 2.1.5 Recipient OK\r\n"
        assert await client.read_end() == b"501 5.5.1 Octets after STARTTLS\r\n"

    assert check(server).total("ledger") == {}


async def test_no_border_between_packets_lets_a_command_through(desk: Desk, server: Server) -> None:
    octets = b"STARTTLS\r\n" + INJECTED
    for place in range(1, len(octets) + 1):
        async with knock(desk) as client:
            await client.say(b"EHLO me.test")
            await client.send(octets[:place])
            await wait_all_tasks_blocked()  # the session has read it
            with contextlib.suppress(trio.BrokenResourceError):  # it may have ended at that
                await client.send(octets[place:])

            answer = await client.read_end()

            if place != len(b"STARTTLS\r\n"):
                assert answer == b"501 5.5.1 Octets after STARTTLS\r\n"
            else:  # a 220, and at most an alert (RFC 8446 §6, type 21)
                assert answer[:20] == b"220 2.0.0 Go ahead\r\n"
                assert answer[20:21] in (b"", b"\x15")

    assert check(server).total("ledger") == {}


@pytest.mark.parametrize("injected", [INJECTED, b"RSET\r\n", b"E", b"\r\n"])
async def test_what_comes_before_the_handshake_spoils_it(
    injected: bytes, desk: Desk, client_context: ssl.SSLContext, server: Server
) -> None:
    """In a segment of its own, between the 220 and the client's first word of TLS."""
    async with knock(desk) as client:
        await client.say(b"EHLO me.test")
        assert await client.say(b"STARTTLS") == b"220 2.0.0 Go ahead\r\n"
        await client.send(injected)

        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await client.start_tls(client_context, "gw.example.net")

    assert check(server).total("ledger") == {}


@pytest.mark.parametrize(
    "opened",
    [b"", ENVELOPE, ENVELOPE + b"BDAT 9\r\nSubject: ", ENVELOPE + b"BDAT 0\r\n"],
    ids=["nothing", "envelope", "chunk", "empty chunk"],
)
async def test_nothing_said_in_clear_outlives_the_handshake(
    opened: bytes, desk: Desk, store: Store, client_context: ssl.SSLContext
) -> None:
    """RFC 3207 §4.2: name, sender, recipients and content are all forgotten."""
    async with knock(desk) as client:
        await client.say(b"EHLO evil.test")
        await client.send(opened + b"NOOP\r\n")
        while await client.read_reply() != b"250 2.0.0 OK\r\n":
            pass
        assert await client.say(b"STARTTLS") == b"220 2.0.0 Go ahead\r\n"
        assert client._input == b""
        await client.start_tls(client_context, "gw.example.net")

        for command in (b"DATA", b"RCPT TO:<b@y.test>", b"MAIL FROM:<a@acme.example>"):
            assert (await client.say(command))[:9] == b"503 5.5.1"
        assert (await client.say(b"BDAT 3 LAST\r\nx"))[:9] == b"503 5.5.1"
        await client.open_transaction()
        message_id = read_id(await client.send_data(b"Subject: mine\r\n\r\nx\r\n"))

    trace, content = split_trace(b"".join(await read_parts(store, message_id)))
    assert content == b"Subject: mine\r\n\r\nx\r\n"
    assert trace.startswith(b"Received: from me.test ")
    assert b" with ESMTPS " in trace
    assert b" for <b@y.test>; " in trace
    (event,) = read_events(desk)
    assert (event["hello"], event["sender"]) == ("me.test", "a@acme.example")
    assert event["recipients"] == ["b@y.test"]


def demand_tls(desk: Desk) -> Desk:
    settings = ServerSettings("gw.example.net", starttls=True, tls_required=True)
    return dataclasses.replace(desk, settings=settings)


async def test_who_has_starttls_taken_away_is_not_heard(desk: Desk, server: Server) -> None:
    """Between the client and us somebody hides the offer: with ``tls.required`` no mail gets in."""
    async with knock(demand_tls(desk)) as client:
        await client.say(b"EHLO me.test")
        await client.send(ENVELOPE + b"BDAT 6 LAST\r\nDATA\r\nDATA\r\nHELO me\r\n" + ENVELOPE)
        await client.send(b"QUIT\r\n")

        replies = (await client.read_end()).splitlines()

    starts = [b"530 5.7.0", b"503 5.5.1", b"503 5.5.1", b"503 5.5.1", b"250 gw.ex"]
    starts += [b"530 5.7.0", b"503 5.5.1", b"221 2.0.0"]
    assert [reply[:9] for reply in replies] == starts
    assert check(server).total("ledger") == {}


async def test_under_tls_it_is_heard(desk: Desk, client_context: ssl.SSLContext) -> None:
    """Or the test above would prove nothing."""
    async with knock(demand_tls(desk)) as client:
        await client.say(b"EHLO me.test")
        assert (await client.say(b"MAIL FROM:<a@acme.example>"))[:9] == b"530 5.7.0"
        await client.say(b"STARTTLS")
        await client.start_tls(client_context, "gw.example.net")
        await client.open_transaction()
        read_id(await client.send_data(b"x\r\n"))


# -- handshakes that are none ---------------------------------------------------------------------


async def test_tls_without_starttls_is_nonsense(desk: Desk, server: Server) -> None:
    """A client that takes the port for 465; or somebody who has a browser knock here (ALPACA)."""
    async with knock(desk) as client:
        await client.send(make_client_hello() + b"\r\n" + ENVELOPE)
        await client.stream.send_eof()  # type: ignore[attr-defined]

        replies = (await client.read_end()).splitlines()

    assert replies
    assert {reply[:4] for reply in replies} <= {b"500 ", b"503 "}
    assert check(server).total("ledger") == {}


MEBIBYTE = 1 << 20


def fill(octets: bytes) -> bytes:
    """Return a mebibyte of these."""
    return (octets * (MEBIBYTE // len(octets) + 1))[:MEBIBYTE]


# RFC 8446 §5.1: a record is type, version, length. 22 is a handshake, 21 an alert; a ClientHello has
# type 1 and three octets of length.
FLOODS = {
    "nothing but zeros": fill(b"\0"),
    "nothing but ones": fill(b"\xff"),
    "lines": fill(b"EHLO me.test\r\n"),
    "one line": fill(b"x"),
    "empty records": fill(b"\x16\x03\x01\x00\x00"),
    "warnings": fill(b"\x15\x03\x01\x00\x02\x01\x5a"),
    "a ClientHello of 16 MiB": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"
    + b"\3\3" * 8190
    + fill(b"\x16\x03\x01\x40\x00" + b"x" * 16384),
    "records of application data": fill(b"\x17\x03\x03\x40\x00" + b"x" * 16384),
    "records that are too long": fill(b"\x16\x03\x01\xff\xff" + b"\1" * 65535),
    "a ClientHello of SSL 2": fill(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"),
    "HTTP": fill(b"GET / HTTP/1.1\r\n"),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_for_a_handshake_is_not_read_to_its_end(
    flood: str, desk: Desk, server: Server
) -> None:
    """What is not taken stays with the sender: a mebibyte does not fit into a socket's buffer."""
    async with knock(desk, window=65536) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"STARTTLS")

        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await client.send(FLOODS[flood])

        assert not (await client.read_end()).startswith((b"2", b"4", b"5"))

    assert check(server).total("ledger") == {}


# -- replies, to the worker -----------------------------------------------------------------------

# All that would be answered to a message, so that nothing would have to be asked any more.
ALL = "250-mx.test|250 8BITMIME|250 ok|250 ok|354 go|250 2.0.0 taken"
REPLIES = {
    "a reply": "220 go|250 injected",
    "a whole session": f"220 go|{ALL}",
    "an offer": "220 go|250-mx.test|250 SMTPUTF8",
    "half a reply": "220 go|250-injected",
    "an empty line": "220 go|",
    "a second 220": "220 go|220 go",
    "nonsense": "220 go|?",
    "a farewell": "220 go|421 4.3.2 bye",
    "another code in the same reply": "220-go|250 injected",
}
LEVELS: tuple[TlsLevel, ...] = ("opportunistic", "require", "verify")


@dataclasses.dataclass(frozen=True)
class Trust:
    """A host's certificate, and the file of who vouches for it."""

    context: ssl.SSLContext
    ca_file: str


@pytest.fixture(scope="module")
def trust(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Trust:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.test").configure_cert(context)
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    return Trust(context, str(ca_file))


async def deliver(host: ScriptedHost, level: TlsLevel, trust: Trust) -> Disposition:
    """Send one message as a worker would."""
    path = host.make_path(level)
    with trio.fail_after(10):
        try:
            peer = await open_peer(path, DirectEgress("127.0.0.11"), ca_file=trust.ca_file)
        except HostFailed as error:
            return error.outcome.disposition
        verdict = await peer.deliver(make_claim(), Shelf(), b"{}")  # type: ignore[arg-type]
        await peer.quit()
    return verdict.outcomes[0].disposition


def assert_not_believed(host: ScriptedHost, level: TlsLevel, got: Disposition) -> None:
    """Nothing was said in the session with STARTTLS; without a demand a new one goes in clear."""
    hello, asked = "EHLO a.out.test", "STARTTLS"
    first, second = host.commands[:2], host.commands[2:]
    if first[1:] != [asked]:  # what was there too early has kept even that from being said
        first, second = host.commands[:1], host.commands[1:]
    assert first in ([hello], [hello, asked])
    if level == "opportunistic":
        assert got is Disposition.DELIVERED
        assert [message.session for message in host.messages] == [2]
        assert second[0] == hello
    else:
        assert got is Disposition.DEFERRED
        assert not host.messages
        assert second == []


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("split", [False, True], ids=["same segment", "octet by octet"])
@pytest.mark.parametrize("replies", REPLIES)
async def test_replies_behind_the_220_are_not_believed(
    replies: str, *, split: bool, level: TlsLevel, trust: Trust
) -> None:
    """The host would do the handshake then: who believed them would be in a session to go on with."""
    script = f"STARTTLS1 raw {REPLIES[replies]}"
    async with open_host(script, tls=trust.context, split=split) as host:
        got = await deliver(host, level, trust)

    assert_not_believed(host, level, got)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("early", ["220 go", "220 go|250 injected", f"220 go|{ALL}"])
async def test_a_220_before_starttls_is_no_answer_to_it(
    early: str, level: TlsLevel, trust: Trust
) -> None:
    """It stands behind the offer, in the same segment; the host's own answer comes into the handshake."""
    script = f"EHLO1 raw 250-mx.test|250 STARTTLS|{early}"
    async with open_host(script, tls=trust.context) as host:
        got = await deliver(host, level, trust)

    assert_not_believed(host, level, got)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("offer", ["250 mx.test", "250 mx.test|XXXXXXXA", "250 mx.test|STARTTLSX"])
async def test_an_offer_that_was_taken_away(offer: str, level: TlsLevel, trust: Trust) -> None:
    """Without a demand mail goes in clear (RFC 7435); with one it waits, and nothing is said."""
    async with open_host(f"EHLO {offer}", tls=trust.context) as host:
        got = await deliver(host, level, trust)

    if level == "opportunistic":
        assert got is Disposition.DELIVERED
        assert host.messages[0].tls == ""
    else:
        assert got is Disposition.DEFERRED
        assert set(host.commands) <= {"EHLO a.out.test", "QUIT"}


async def test_the_message_arrives_once_and_under_tls(
    server: Server, tmp_path: Path, trust: Trust
) -> None:
    """The whole way: the first session is interfered with, the next is not."""
    site = {"name": "strict", "domains": ["y.test"], "tls": "require"}
    script = f"STARTTLS1 raw {REPLIES['a whole session']}"
    async with open_host(script, tls=trust.context) as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "tables": {"site": [site]}}
        async with open_works(server, tmp_path, **settings) as works:
            await works.post(b"bob@y.test")
            (event,) = await works.wait_for_event("deferred")
            await works.wait_for(delivered=1, queued=0)

    assert "STARTTLS" in str(event["recipients"])
    (message,) = host.messages
    assert (message.session, message.tls) == (2, "TLSv1.3")


async def send_in_clear_after(client: Client, octets: bytes) -> bytes:
    """Send octets below TLS, on the connection that carries it; return what comes back, in clear."""
    assert isinstance(client.stream, trio.SSLStream)
    transport = client.stream.transport_stream
    await transport.send_all(octets)
    return bytes(await transport.receive_some())


async def test_clear_text_in_the_middle_of_tls_ends_it(
    desk: Desk, client_context: ssl.SSLContext, server: Server
) -> None:
    async with knock(desk) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"STARTTLS")
        await client.start_tls(client_context, "gw.example.net")
        await client.open_transaction()

        answer = await send_in_clear_after(client, b"DATA\r\nSubject: injected\r\n\r\n.\r\n")

        assert not answer.startswith((b"2", b"3", b"4", b"5"))

    assert check(server).total("ledger") == {}
