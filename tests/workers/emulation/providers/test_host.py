"""Providers over real sockets: what a client hears, TLS, and complaints that arrive as ARF."""

import email
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from relay.feedback.arf import Abuse
from relay.feedback.report import read_report
from relay.net.connect import connect
from relay.net.stream import Stream
from tests.kit.inbox import Inbox
from tests.kit.ports import find_free_port
from tests.kit.receivers import make_profile
from workers.emulation.behaviour import Behaviour
from workers.emulation.premises import Premises, make_premises
from workers.emulation.providers.host import Host
from workers.emulation.providers.postbox import Postbox
from workers.emulation.providers.routes import describe_routes
from workers.emulation.providers.settings import read_settings
from workers.emulation.receiver import Receiver

CONTENT = b"Message-ID: <m1@acme.test>\r\nSubject: offer\r\nTo: b@big.test\r\n\r\nbody\r\n.\r\n"


@pytest.fixture(scope="module")
def premises(tmp_path_factory: pytest.TempPathFactory) -> Premises:
    return make_premises(tmp_path_factory.mktemp("emulate"))


class Client:
    """An SMTP client that says what it is told to say."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._heard = b""

    async def hear(self) -> str:
        """Return the last line of the next reply; "" at the end of the connection."""
        while True:
            line, end, rest = self._heard.partition(b"\r\n")
            if end:
                self._heard = rest
                if line[3:4] != b"-":
                    return line.decode()
            elif octets := await self.stream.receive():
                self._heard += octets
            else:
                return ""

    async def say(self, line: str) -> str:
        await self.stream.send(line.encode() + b"\r\n")
        return await self.hear()

    async def send(self, *recipients: str, sender: str = "a@acme.test") -> str:
        """Send a message; return the first reply that is not yes, or the last."""
        said = await self.say(f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            if said.startswith("250"):
                said = await self.say(f"RCPT TO:<{recipient}>")
        if said.startswith("250"):
            said = await self.say("DATA")
        if said.startswith("354"):
            await self.stream.send(CONTENT)
            said = await self.hear()
        return said


@asynccontextmanager
async def serve(premises: Premises, **keys: object) -> AsyncIterator[Host]:
    host = Host(make_profile(**keys), premises.receiver_context, seed=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.serve)
        with trio.fail_after(20):
            yield host
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def enter(
    host: Host, source: str = "127.0.0.11", *, hello: bool = True
) -> AsyncIterator[Client]:
    stream = await connect(host.host, host.port, source=source)
    try:
        client = Client(stream)
        if hello:
            assert (await client.hear()).startswith("220 mx.big.test")
            await client.say("EHLO out.acme.test")
        yield client
    finally:
        stream.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - it happens in another task, and sets no event
        await trio.sleep(0.005)


async def test_messages_are_taken_and_counted_by_address(premises: Premises) -> None:
    async with serve(premises) as host:
        for source, count in (("127.0.0.11", 2), ("127.0.0.12", 1)):
            async with enter(host, source) as client:
                for _ in range(count):
                    assert (await client.send("b@big.test", "c@BIG.test")).startswith("250 ")
                assert await client.say("QUIT") == "221 2.0.0 mx.big.test closing"
        books = host.provider.books

    assert (books["127.0.0.11"].accepted, books["127.0.0.11"].delivered) == (2, 4)
    assert books["127.0.0.12"].accepted == 1
    assert host.provider.total().mails == 3


async def test_throttled_in_the_providers_words_and_hung_up_on(premises: Premises) -> None:
    async with serve(premises, style="google", rate="1/h") as host:
        async with enter(host) as client:
            assert (await client.send("b@big.test")).startswith("250 2.0.0 Ok")
            said = await client.send("b@big.test")
            assert said.startswith("421 4.7.28 ")
            assert "unusual rate of unsolicited mail originating from your IP address" in said
            assert await client.hear() == ""

        async with enter(host, "127.0.0.12") as other:
            assert (await other.send("b@big.test")).startswith("250 ")


async def test_a_reply_without_an_enhanced_code_has_none(premises: Premises) -> None:
    async with serve(premises, style="yahoo", messages_per_connection=1) as host:
        async with enter(host) as client:
            await client.send("b@big.test")
            said = await client.send("b@big.test")

    assert said == "421 Max message per connection reached, closing transmission channel"


async def test_connections_count_from_accept_to_close(premises: Premises) -> None:
    async with serve(premises, connections=1, style="microsoft") as host:
        async with enter(host), enter(host, hello=False) as second, enter(host, "127.0.0.12"):
            assert (await second.hear()).startswith("421 ")
            assert await second.hear() == ""
        await until(lambda: not host.provider.count_open("127.0.0.11"))
        async with enter(host):
            assert host.provider.count_open("127.0.0.11") == 1


async def test_other_peoples_mail_is_not_relayed(premises: Premises) -> None:
    async with serve(premises, unknown=1.0) as host, enter(host) as client:
        assert await client.send("b@else.test") == "550 5.7.1 Relaying denied"
        await client.say("RSET")
        assert (await client.send("b@big.test")).startswith("550 ")
        assert host.provider.total().unknown == 1


async def test_tls_where_it_is_required(premises: Premises) -> None:
    async with serve(premises, tls="required") as host, enter(host) as client:
        assert await client.send("b@big.test") == "530 5.7.0 Must issue a STARTTLS command first"
        await client.say("STARTTLS")
        context = premises.sender_context
        await client.stream.start_tls(context, server_hostname="127.0.0.1")
        await client.say("EHLO out.acme.test")
        assert (await client.send("b@big.test")).startswith("250 ")
        assert host.provider.total().without_tls == 1


async def test_no_tls_where_there_is_none(premises: Premises) -> None:
    async with serve(premises, tls="none") as host, enter(host) as client:
        assert (await client.say("STARTTLS")).startswith("502 ")


async def test_a_tarpit_takes_its_time(
    premises: Premises, autojump_clock: trio.testing.MockClock
) -> None:
    async with serve(premises, tarpit={"always": "3s"}) as host:
        began = trio.current_time()
        async with enter(host) as client:
            await client.say("NOOP")

        # Greeting, EHLO, NOOP: on a virtual clock nothing else takes time.
        assert trio.current_time() - began == pytest.approx(9)


async def test_a_broken_message_gives_its_allowance_back(premises: Premises) -> None:
    async with serve(premises, allowance={"first": 5, "maximum": 5}) as host:

        def left() -> int | None:
            return host.provider.limits("127.0.0.11").allowance_left

        async with enter(host) as client:
            await client.say("MAIL FROM:<a@acme.test>")
            assert left() == 4
            await client.say("RSET")
            assert left() == 5
            await client.say("MAIL FROM:<a@acme.test>")
            assert left() == 4
        await until(lambda: left() == 5)


# -- complaints


class Mailbox(Inbox):
    """An inbox that keeps what it takes."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port=port)
        self.taken: list[tuple[bytes, list[bytes]]] = []

    def take(self, client: str, content: bytes, recipients: list[bytes]) -> None:
        self.taken.append((content, recipients))
        super().take(client, content, recipients)


def make_postbox(host: Host, port: int) -> Postbox:
    feedback = {"address": "fbl@feedback.test", "host": f"127.0.0.1:{port}"}
    document = {"provider": [{"name": "big"}], "feedback": feedback}
    settings = read_settings(document)
    assert settings.feedback is not None
    return Postbox(settings.feedback, [host], seed=1)


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.emulation.providers.postbox._LOOK", 0.01)
    monkeypatch.setattr("workers.emulation.providers.postbox._PAUSE", 0.01)


@pytest.mark.usefixtures("_hurry")
async def test_complaints_arrive_as_arf(premises: Premises) -> None:
    with Mailbox() as mailbox:
        async with (
            serve(premises, complaints={"share": 1.0, "delay": 0}) as host,
            trio.open_nursery() as nursery,
        ):
            postbox = make_postbox(host, mailbox.port)
            nursery.start_soon(postbox.run)
            async with enter(host) as client:
                await client.send("b@big.test", "c@big.test")
            await until(lambda: postbox.sent == 2)
            nursery.cancel_scope.cancel()

    content, recipients = mailbox.taken[0]
    abuse = read_report(content)  # as the gateway would understand it
    assert isinstance(abuse, Abuse)
    assert (abuse.kind, abuse.source_ip) == ("abuse", "127.0.0.11")
    assert (abuse.mail_from, abuse.recipients) == ("a@acme.test", ("b@big.test",))
    assert b"Message-ID: <m1@acme.test>" in abuse.original
    assert recipients == [b"fbl@feedback.test"]
    report = email.message_from_bytes(content)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "feedback-report"
    assert report.defects == []
    text, feedback, head = report.get_payload()
    assert text.get_content_type() == "text/plain"
    assert feedback.get_content_type() == "message/feedback-report"
    fields = feedback.get_payload()[0]
    assert fields["Feedback-Type"] == "abuse"
    assert fields["Version"] == "1"
    assert fields["Source-IP"] == "127.0.0.11"
    assert fields["Original-Mail-From"] == "<a@acme.test>"
    assert fields["Original-Rcpt-To"] == "<b@big.test>"
    assert head.get_content_type() == "text/rfc822-headers"
    original = email.message_from_string(head.get_payload())
    assert original["Message-ID"] == "<m1@acme.test>"
    assert original["Subject"] == "offer"


@pytest.mark.usefixtures("_hurry")
async def test_complaints_wait_for_who_is_not_there(premises: Premises) -> None:
    port = find_free_port()
    async with (
        serve(premises, complaints={"share": 1.0, "delay": 0}) as host,
        trio.open_nursery() as nursery,
    ):
        postbox = make_postbox(host, port)
        nursery.start_soon(postbox.run)
        async with enter(host) as client:
            await client.send("b@big.test")
        await until(lambda: bool(postbox.waiting and postbox.waiting[0].tries))
        with Mailbox(port) as mailbox:
            await until(lambda: postbox.sent == 1)
        nursery.cancel_scope.cancel()

    assert len(mailbox.taken) == 1
    assert postbox.dropped == 0


@pytest.mark.usefixtures("_hurry")
async def test_complaints_go_over_tls_where_it_is_offered(premises: Premises) -> None:
    receiver = Receiver(("feedback.test",), Behaviour(), premises.receiver_context)
    async with (
        serve(premises, complaints={"share": 1.0, "delay": 0}) as host,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(receiver.serve)
        postbox = make_postbox(host, receiver.port)
        nursery.start_soon(postbox.run)
        async with enter(host) as client:
            await client.send("b@big.test")
        await until(lambda: postbox.sent == 1)
        nursery.cancel_scope.cancel()

    assert receiver.inbox.messages_over_tls == 1


async def test_what_to_put_into_outgate_toml(premises: Premises) -> None:
    host = Host(make_profile(tls="required"), premises.receiver_context, seed=1)
    text = "".join(describe_routes([host]))
    host.close()

    assert f'hosts = ["127.0.0.1:{host.port}"]' in text
    assert 'tls = "require"' in text
