"""A sender writes into the envelope what should come out as something else, further on.

A name or an address with a line end in it becomes a header field of our Received line, a command to the
next server, a field of a notice, a line of the event log, or colours on an operator's terminal: if
somebody forgets to look. Everything that a client may say before DATA is tried, through a real session,
a real store and a real worker, to a host that writes down what it hears: once it takes the message,
once it refuses it, so that a notice goes back.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.ingress.desk import Desk
from relay.model import Envelope
from relay.smtp.extensions import Capabilities, LocalProtocolError
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit import command
from tests.kit.messages import Claims
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.visit import make_config, make_desk, read_id, read_parts, split_trace, visit
from tests.kit.works import Works, open_works

pytestmark = pytest.mark.heavy

CONTENT = b"From: a@acme.example\r\nSubject: x\r\n\r\nhello\r\n"
OFFERS = ("PIPELINING", "8BITMIME", "SIZE 100000000", "SMTPUTF8", "DSN")
REFUSED = (b"500", b"501", b"550", b"553", b"555")

# What some decoder might take for a line end, or a terminal for an order. As they stand in an address.
SPELLINGS = [
    b"%0d%0aX-Injected:1",
    b"\\r\\nX-Injected:1",
    b"=0D=0AX-Injected:1",
    b"=?utf-8?q?=0D=0AX-Injected:1?=",
    b"+0D+0AX-Injected:1",
    b"&#13;&#10;X-Injected:1",
    b"\\x{0D}\\x{0A}X-Injected:1",
    b"${IFS}`id`",
    b"{{7*7}}[bold]x[/]",
]
UNICODE = [
    *("\x80", "\x85", "\x9b31m", "\x9d0;x\x9c", "\xa0", "\xad"),
    *("\u2028X", "\u2029X", "\u202egpj", "\u2066x", "\u200f", "\ufeff", "\ufffe", "\U000e0041"),
    *("\uff0d\uff0a", "\u010d\u010a", "\u560d\u560a", "\U0001f600", "e\u0301"),
]
NOT_UTF8 = [b"\xff", b"\xc0\x8d\xc0\x8a", b"\xc3", b"\xed\xa0\x80", b"\x9b31m", b"\xe0\x80\x8a"]


@dataclass(frozen=True)
class Attempt:
    """What one client says."""

    hello: bytes = b"EHLO me.test"
    mail: bytes = b"MAIL FROM:<a@acme.example>"
    rcpt: bytes = b"RCPT TO:<b@y.test>"

    @property
    def lines(self) -> tuple[bytes, ...]:
        return self.hello, self.mail, self.rcpt


def list_hellos() -> Iterator[Attempt]:
    names = [b"me%btest" % bytes([octet]) for octet in range(256) if octet != 10]
    names += [b"x" * 255, b"x" * 256, b"x" * 2048, b"[127.0.0.1]", b"[IPv6:::1]", b"a;b", b"((("]
    names += [b"me.test\tby\tevil.test\twith\tSMTP", b"me.test (evil) by x", b"<a@b>", b'"']
    names += [*SPELLINGS, *NOT_UTF8, *(text.encode() for text in UNICODE)]
    for name in names:
        yield Attempt(hello=b"EHLO " + name)
    yield Attempt(hello=b"HELO x\xc2\x9b31m")


def list_addresses() -> Iterator[Attempt]:
    locals_ = [b'"a%bb"' % bytes([octet]) for octet in range(256) if octet != 10]
    locals_ += [b'"a\\%bb"' % bytes([octet]) for octet in range(256) if octet != 10]
    locals_ += [b"a%bb" % bytes([octet]) for octet in range(256) if octet != 10]
    locals_ += [*SPELLINGS, *(b'"%b"' % text for text in SPELLINGS), *NOT_UTF8]
    locals_ += [b"x" * 300, b"x" * 400, b"a@evil.test:b", b"a>,<b", b"a> NOTIFY=NEVER <b"]
    for local in locals_:
        yield Attempt(mail=b"MAIL FROM:<%b@acme.example>" % local)
        yield Attempt(rcpt=b"RCPT TO:<%b@y.test>" % local)
    for local in [*NOT_UTF8, *(text.encode() for text in UNICODE)]:
        for one in (b"x%bx" % local, b'"x%bx"' % local):
            sender, asks = b"MAIL FROM:<%b@acme.example> SMTPUTF8" % one, b" SMTPUTF8"
            yield Attempt(mail=sender)
            mail = b"MAIL FROM:<a@acme.example>" + asks
            yield Attempt(mail=mail, rcpt=b"RCPT TO:<%b@y.test>" % one)
            yield Attempt(mail=mail, rcpt=b"RCPT TO:<b@%b.y.test>" % one)


def list_parameters() -> Iterator[Attempt]:
    values = [*SPELLINGS, *NOT_UTF8, b"", b"x" * 100, b"x" * 500, b"x" * 1950, b"+0D+0A", b"+00"]
    values += [b"+1B[31m", b"+0D+0AX-Injected:+201", b"x+0D+0A+0D+0Ax", b"+E2+80+A8", b"+C2+9B"]
    for octet in range(256):
        if octet != 10:
            value = b"a%bb" % bytes([octet])
            yield Attempt(
                mail=b"MAIL FROM:<a@acme.example> ENVID=" + value,
                rcpt=b"RCPT TO:<b@y.test> ORCPT=rfc822;" + value,
            )
    for value in values:
        for name in (b"ENVID", b"RET", b"SIZE", b"BODY", b"AUTH", b"X-UNKNOWN", b"REQUIRETLS"):
            yield Attempt(mail=b"MAIL FROM:<a@acme.example> %b=%b" % (name, value))
        for name in (b"ORCPT=rfc822;", b"ORCPT=", b"NOTIFY=", b"NOTIFY=FAILURE,", b"X-UNKNOWN="):
            yield Attempt(rcpt=b"RCPT TO:<b@y.test> %b%b" % (name, value))
        yield Attempt(
            mail=b"MAIL FROM:<a@acme.example> SMTPUTF8",
            rcpt=b"RCPT TO:<b@y.test> ORCPT=utf-8;%b" % value,
        )
    for text in UNICODE:
        yield Attempt(
            mail=b"MAIL FROM:<a@acme.example> SMTPUTF8",
            rcpt=b"RCPT TO:<b@y.test> ORCPT=utf-8;%b@y.test" % text.encode(),
        )
        escaped = "".join(f"\\x{{{ord(character):02X}}}" for character in text)
        yield Attempt(
            mail=b"MAIL FROM:<a@acme.example> SMTPUTF8",
            rcpt=b"RCPT TO:<b@y.test> ORCPT=utf-8;%b@y.test" % escaped.encode(),
        )


KINDS = {"names": list_hellos, "addresses": list_addresses, "parameters": list_parameters}


@dataclass
class Place:
    """An ingress and a worker, the host of y.test and that of the tenant, and an operator."""

    desk: Desk
    works: Works
    host: ScriptedHost
    home: ScriptedHost
    operator: command.Desk
    accepted: dict[str, Attempt] = field(default_factory=dict)  # by message id

    async def make(self, attempt: Attempt) -> None:
        """Say it. It is refused for what it is, or the message is accepted."""
        async with visit(self.desk, address="127.0.0.1") as client:
            for line in attempt.lines:
                reply = await client.say(line)
                assert re.fullmatch(rb"(?:[ -~]+\r\n)+", reply), reply
                if reply[:3] != b"250":
                    assert reply[:3] in REFUSED, (line, reply)
                    return
            self.accepted[read_id(await client.send_data(CONTENT))] = attempt

    async def make_all(self, kind: str) -> None:
        for attempt in KINDS[kind]():
            await self.make(attempt)
        assert len(self.accepted) > 10  # some of it is in order


@asynccontextmanager
async def open_place(tmp_path: Path, server: Server, script: str = "") -> AsyncIterator[Place]:
    async with (
        open_host(script, offers=OFFERS) as host,
        open_host(offers=OFFERS) as home,
    ):
        routes = {"y.test": host.make_host(), "*.y.test": host.make_host()}
        routes["acme.example"] = home.make_host()
        # Where everybody is unknown, the tenant would soon be slowed, and its mail wait.
        tables = "[reputation]\nenabled = false\n"
        operator = command.make_desk(tmp_path, server, routes=routes, tables=tables)
        config = operator.config
        async with open_works(server, tmp_path, config=config) as works:
            desk = make_desk(config, works.store)
            yield Place(desk, works, host, home, operator)


# -- what is to be seen of it -----------------------------------------------------------------------

COMMAND = re.compile(
    r"EHLO gate\.example\.net|DATA|RSET|QUIT|MAIL FROM:<[^ <>]*>(?: [^ ]+)*|RCPT TO:<[^ <>]+>(?: [^ ]+)*"
)
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def assert_commands(host: ScriptedHost, count: int) -> None:
    """One MAIL, one RCPT for each message, and nothing else that a message could have said."""
    for line in host.commands:
        assert COMMAND.fullmatch(line), line
        assert not CONTROL.search(line.encode("latin-1")), line
    verbs = [line[:4] for line in host.commands]
    assert (verbs.count("MAIL"), verbs.count("RCPT")) == (count, count)


def read_fields(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the header's fields, unfolded; whatever is none fails."""
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", content)
    head = content.partition(b"\r\n\r\n")[0]
    fields = []
    for line in re.split(rb"\r\n(?![ \t])", head):
        found = re.fullmatch(rb"([!-9;-~]+):(.*)", line, re.DOTALL)
        assert found, line
        value = re.sub(rb"\r\n[ \t]", b" ", found[2])
        assert not CONTROL.search(value), line
        fields.append((found[1], value))
    return fields


def assert_message(content: bytes) -> None:
    """Our line, once, and what the client has sent."""
    names = [name for name, _ in read_fields(content)]
    assert names == [b"Received", b"From", b"Subject"]
    assert content.endswith(b"\r\n" + CONTENT)
    trace = read_fields(content)[0][1]
    assert re.fullmatch(
        rb" from [^ ()]+ \(\[127\.0\.0\.1\]\) by gate\.example\.net \(outgate\) with "
        rb"(?:UTF8|E)?SMTP id [0-9A-Z]{24}(?: for <[^ <>]+>)?; [A-Za-z]{3}, [0-9A-Za-z: ]+ -0000",
        trace,
    ), trace


NOTICE = [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted"]
NOTICE += [b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding"]
STATUS = {b"Reporting-MTA", b"Original-Envelope-Id", b"Arrival-Date", b"Original-Recipient"}
STATUS |= {b"Final-Recipient", b"Action", b"Status", b"Remote-MTA", b"Diagnostic-Code"}
STATUS |= {b"Last-Attempt-Date"}


def assert_notice(content: bytes) -> None:
    """Three parts, and in the header and the fields of the second nothing but what we write there."""
    fields = read_fields(content)
    assert [name for name, _ in fields] == NOTICE
    found = re.search(rb'boundary="([^"]+)"', dict(fields)[b"Content-Type"])
    assert found
    parts = content.split(b"\r\n--" + found[1])
    assert len(parts) == 5  # in front of them, three, and behind them
    assert not CONTROL.search(re.sub(rb"\r\n|\t", b"", content))
    groups = parts[2].strip(b"\r\n").split(b"\r\n\r\n")[1:]
    assert len(groups) == 2
    for group in groups:
        names = [name for name, _ in read_fields(group.strip(b"\r\n") + b"\r\n\r\n")]
        assert len(set(names)) == len(names)
        assert STATUS.issuperset(names)


def assert_events(path: str, accepted: int) -> None:
    """One object a line, whatever splits lines: LF does, and what only str.splitlines() knows."""
    octets = Path(path).read_bytes()
    events = [json.loads(line) for line in octets.split(b"\n")[:-1]]
    assert all(isinstance(event, dict) for event in events)
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", octets)
    assert sum(event["event"] == "accepted" for event in events) >= accepted


async def assert_stories(place: Place) -> None:
    """Of all that is not ASCII, and of some others."""
    odd = [one for one, said in place.accepted.items() if not b"".join(said.lines).isascii()]
    for message_id in {*odd, *list(place.accepted)[::25]}:
        await assert_story(place.operator, message_id)


async def assert_story(operator: command.Desk, message_id: str) -> None:
    """An operator's terminal gets text."""
    done = await operator.call("explain", message_id)
    assert done.status == 0, done
    bad = [one for one in done.out if not one.isprintable() and one != "\n"]
    assert not bad, done.out
    assert len(done.out.splitlines()) == done.out.count("\n")


def assert_keys(server: Server) -> None:
    """Names in the store are words of the gateway's."""
    with server.client() as redis:
        for key in redis.scan_iter("*", count=1000):
            assert re.fullmatch(rb"\{og[0-9]+\}:[a-z]+(?::[ -~]+)?", key), key


# -- the whole way --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_what_arrives_has_nothing_new_in_it(
    kind: str, tmp_path: Path, server: Server
) -> None:
    async with open_place(tmp_path, server) as place:
        await place.make_all(kind)
        count = len(place.accepted)
        await place.works.wait_for(accepted=count, queued=0, seconds=60)
        assert_keys(server)
        # What the grammar of parameters lets in and we would not say to anybody comes back at once.
        unsaid = place.works.read_events("bounced")
        assert all("cannot be sent" in str(event["recipients"]) for event in unsaid)
        place.works.events.flush()
        place.desk.acceptance.events.flush()
        await assert_stories(place)

    assert len(unsaid) < count // 10
    assert_commands(place.host, count - len(unsaid))
    assert len(place.host.messages) == count - len(unsaid)
    for message in place.host.messages:
        assert_message(message.content)
    assert_events(place.operator.config.log.events, count)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_comes_back_has_nothing_new_in_it(
    kind: str, tmp_path: Path, server: Server
) -> None:
    async with open_place(tmp_path, server, "RCPT 550 5.1.1 unknown") as place:
        await place.make_all(kind)
        count = len(place.accepted)
        await place.works.wait_for(accepted=count, bounced=count, seconds=60)
        unsaid = [
            e for e in place.works.read_events("bounced") if "cannot be" in str(e["recipients"])
        ]
        wanted = sum(b"NOTIFY=NEVER" not in one.rcpt.upper() for one in place.accepted.values())
        await place.works.wait_for(book="notices", queued=0, seconds=60)
        place.works.events.flush()
        place.desk.acceptance.events.flush()
        await assert_stories(place)

    assert_commands(place.host, count - len(unsaid))
    assert_commands(place.home, len(place.home.messages))
    assert len(place.home.messages) == wanted
    for message in place.home.messages:
        assert_notice(message.content)
    assert_events(place.operator.config.log.events, count)


# -- a line end in the middle of a command --------------------------------------------------------

BREAKS = [b"\n", b"\r", b"\0", b"\r\r", b"\n\n", b"\r\0\n", b"\n\r"]
BEFORE = [b"NOOP", b"RCPT TO:<b", b"RCPT TO:<b@y.test> ORCPT=rfc822;b", b"RCPT TO:<b@y.test>"]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("between", BREAKS)
async def test_what_stands_behind_a_bare_line_end_is_no_command(
    between: bytes, before: bytes, tmp_path: Path, store: Store
) -> None:
    """Who puts a stranger's words into a command, and takes care of CRLF only, is not betrayed by us.

    RFC 5321 §2.3.8: nothing but CRLF ends a line. To that end it is one command, and a bad one.
    """
    async with visit(make_desk(make_config(tmp_path), store)) as client:
        await client.say(b"EHLO me.test")
        await client.say(b"MAIL FROM:<a@acme.example>")
        await client.send(before + between + b"RCPT TO:<victim@y.test>\r\nDATA\r\nQUIT\r\n")
        await client.stream.send_eof()  # type: ignore[attr-defined]

        *replies, data, bye = (await client.read_end()).splitlines()

    assert {reply[:9] for reply in replies} == {b"500 5.5.2"}
    assert data[:9] == b"503 5.5.1"
    assert bye[:3] == b"221"


async def test_the_next_line_is_a_command_again(tmp_path: Path, store: Store) -> None:
    async with visit(make_desk(make_config(tmp_path), store)) as client:
        await client.send(b"NOOP\nNOOP\r\nNOOP\r\nQUIT\r\n")

        replies = (await client.read_end()).splitlines()

    assert [reply[:3] for reply in replies][-2:] == [b"250", b"221"]
    assert {reply[:3] for reply in replies[:-2]} == {b"500"}


# -- anything ---------------------------------------------------------------------------------------

OCTETS = st.lists(
    st.binary(max_size=4)
    | st.text(max_size=3).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from([b'"', b"\\", b"<", b">", b"@", b"=", b";", b" ", b"+0D+0A", b"SMTPUTF8"]),
    max_size=6,
).map(b"".join)
EVERYTHING = Capabilities(eightbitmime=True, smtputf8=True, dsn=True, size=0, requiretls=True)


@given(
    hello=st.just(b"me.test") | OCTETS,
    sender=st.just(b"a") | OCTETS,
    recipient=st.just(b"b") | OCTETS,
    mail=st.sampled_from([b"", b" SMTPUTF8", b" SMTPUTF8 ENVID=", b" ENVID="]),
    rcpt=st.sampled_from([b"", b" ORCPT=rfc822;", b" ORCPT=utf-8;", b" NOTIFY="]),
    value=OCTETS,
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_said_stays_what_it_is(
    tmp_path: Path, server: Server, hello: bytes, sender: bytes,
    recipient: bytes, mail: bytes, rcpt: bytes, value: bytes,
) -> None:  # fmt: skip
    """Of one session there is at most one message, with one line of ours, and one envelope."""
    lines = [
        b"EHLO " + hello,
        b"MAIL FROM:<%b@acme.example>" % sender + mail + (value if mail[-1:] == b"=" else b""),
        b"RCPT TO:<%b@y.test>" % recipient + rcpt + (value if rcpt else b""),
    ]
    trio.run(say_all, tmp_path, server, lines)


async def say_all(base: Path, server: Server, lines: list[bytes]) -> None:
    """Say them, in a loop of its own with a link of its own; look at what is in the store then."""
    config = make_config(base)
    link = Link(server.url, timeout=10)
    store = Store(link, config)
    with trio.fail_after(10):
        async with aclosing(link), visit(make_desk(config, store)) as client:
            for line in lines:
                if b"\n" in line or (await client.say(line))[:3] != b"250":
                    return
            message_id = read_id(await client.send_data(CONTENT))
            stored = b"".join(await read_parts(store, message_id))
            claims = await Claims(store).take("y.test")
    assert [name for name, _ in read_fields(stored)] == [b"Received", b"From", b"Subject"]
    assert split_trace(stored)[1] == CONTENT
    (claim,) = [one for one in claims if one.delivery.message_id == message_id]
    assert_sayable(claim.delivery.envelope, len(stored))


def assert_sayable(envelope: Envelope, size: int) -> None:
    """The commands to the next server are one line each; or they are not said at all."""
    try:
        said = [EVERYTHING.format_mail(envelope, size)]
        said += [EVERYTHING.format_rcpt(one, utf8=envelope.smtputf8) for one in envelope.recipients]
    except LocalProtocolError:
        return
    assert len(said) == 2
    for line in said:
        assert line.endswith(b"\r\n")
        assert COMMAND.fullmatch(line[:-2].decode("latin-1")), line
        assert not CONTROL.search(line[:-2])
