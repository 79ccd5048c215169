"""Somebody hides a second message in the first, and hopes that two servers disagree where it ends.

SMTP smuggling (CVE-2023-51764 and its relatives): content holds something that is no end of a message,
but looks like one to a server that forgives, and behind it a whole transaction in somebody else's name.
The gateway stands between two such servers, so it must neither end a message there nor hand on what
the next one could end it at. Every ending of the catalogue, through a whole gateway to a Postfix that
forgives: one message in is one message out, octet for octet, or none.
"""

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

import relay.smtp.incoming as incoming_module
from relay.smtp.stuffing import DotStuffer
from tests.kit import postfix
from tests.kit.endings import (
    END,
    ENDINGS,
    TRICKS,
    cut_everywhere,
    find_ends,
    is_clean,
    repair,
    stuff,
    unstuff,
)
from tests.kit.gateway import Gateway
from tests.kit.postfix import Postfix
from tests.kit.receiving import Exchange, codes
from tests.kit.unread import wait_until_read

pytestmark = pytest.mark.heavy

SETTINGS = ["refuse", "repair"]
ENVELOPE = b"MAIL FROM:<ann@acme.example>\r\nRCPT TO:<bob@mail.example>\r\n"
HIDDEN = (
    b"MAIL FROM:<chief@acme.example>\r\n"
    b"RCPT TO:<victim@mail.example>\r\n"
    b"DATA\r\n"
    b"From: chief@acme.example\r\n"
    b"Subject: smuggled\r\n"
    b"\r\n"
    b"Pay them.\r\n"
)


def write_before(number: int) -> bytes:
    """Return the message up to the ending."""
    return (
        b"From: ann@acme.example\r\n"
        b"To: bob@mail.example\r\n"
        b"Date: Sat, 28 Nov 2026 08:00:00 +0000\r\n"
        b"Message-ID: <%d@acme.example>\r\n"
        b"Subject: attack %d\r\n"
        b"\r\n"
        b"Hello" % (number, number)
    )


# -- the core, at every border --------------------------------------------------------------------


def expect(content: bytes, setting: str) -> list[bytes]:
    """Return what is to come of content: one message or none."""
    if setting == "repair":
        return [repair(content)]
    return [content] if is_clean(content) else []


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("piece", [1, 7, 1 << 18])
def test_no_border_between_packets_makes_an_end(piece: int, setting: str) -> None:
    """``piece``: octets that are handed on at once; a large message has such borders, too."""
    with mock.patch.object(incoming_module, "PIECE", piece):
        for ending in TRICKS.values():
            wire = b"Hello" + ending + HIDDEN
            for portions in cut_everywhere(wire + b".\r\n", 4, 8 + len(ending)):
                exchange = Exchange(repair_line_endings=setting == "repair")
                exchange.open_transaction()
                exchange.say(b"DATA\r\n")

                replies = exchange.say_in(portions)

                assert exchange.messages == expect(unstuff(wire), setting), ending
                assert codes(replies) == [250 if exchange.messages else 550]


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_border_between_chunks_makes_an_end(setting: str) -> None:
    for ending in ENDINGS.values():
        content = b"Hello" + ending + HIDDEN
        for chunks in cut_everywhere(content, 4, 8 + len(ending)):
            exchange = Exchange(repair_line_endings=setting == "repair")
            exchange.open_transaction()

            replies = exchange.say(write_chunks(chunks))

            assert exchange.messages == expect(content, setting), ending
            final = 250 if exchange.messages else 550
            assert codes(replies) == [250] * (len(chunks) - 1) + [final]


def write_chunks(chunks: list[bytes]) -> bytes:
    """Return BDAT commands, with the chunks, all in one."""
    sizes = [b"%d" % len(chunk) for chunk in chunks]
    sizes[-1] += b" LAST"
    return b"".join(b"BDAT %b\r\n%b" % pair for pair in zip(sizes, chunks, strict=True))


@pytest.mark.parametrize("setting", SETTINGS)
def test_where_a_message_really_ends_nothing_is_hidden(setting: str) -> None:
    """What follows a real end is the client's next command: of its own name, and answered as such."""
    real = [ending for ending in ENDINGS.values() if END in ending]
    assert len(real) >= 9
    for ending in real:
        before, _, behind = ending.partition(END)
        content = unstuff(b"Hello" + before + b"\r\n")
        exchange = Exchange(repair_line_endings=setting == "repair")
        exchange.open_transaction()
        exchange.say(b"DATA\r\n")

        replies = exchange.say(b"Hello" + ending + b"NOOP\r\n")

        assert exchange.messages == expect(content, setting)
        final = 250 if exchange.messages else 550
        # What stands between the end and the command spoils the command.
        assert codes(replies)[0] == final
        assert set(codes(replies)[1:]) == {500 if behind else 250}


def test_what_leaves_has_one_end_whoever_reads_it() -> None:
    """Of what was let in, the most forgiving of receivers finds the same end as the strictest."""
    for ending in ENDINGS.values():
        content = repair(b"Hello" + ending + HIDDEN)
        for pieces in cut_everywhere(content, 4, 8 + len(ending)):
            stuffer = DotStuffer()
            wire = b"".join(stuffer.write(piece, last=False) for piece in pieces)
            wire += stuffer.write(b"", last=True)

            assert wire == stuff(content) + b".\r\n"
            assert find_ends(wire) == [len(wire) - 3]


# -- the whole way --------------------------------------------------------------------------------


@dataclass
class Post:
    """The gateway, the Postfix behind it, and what has been accepted so far."""

    gateway: Gateway
    postfix: Postfix
    inbox: Path
    setting: str
    number: int = 0
    accepted: dict[int, bytes] = field(default_factory=dict)  # number -> content

    def attack(self, send: "Way", ending: bytes, content: bytes) -> str:
        """Send one message; return what is wrong with the answers, "" if nothing is.

        ``content``: what stands behind the message's beginning, for who reads correctly.
        """
        self.number += 1
        before = write_before(self.number)
        expected = expect(before + content, self.setting)
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=20) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            read_replies(sock, 1)
            sock.sendall(b"EHLO me.test\r\n" + ENVELOPE)
            assert read_replies(sock, 3) == [250, 250, 250]
            answers = send(sock, before, ending)
            replies = read_replies(sock, 1000)
        if expected:
            self.accepted[self.number] = expected[0]
        if replies == [250] * (answers - 1) + [250 if expected else 550, 221]:
            return ""
        return f"{ending!r}: {replies}"

    def read_inbox(self) -> dict[int, bytes]:
        """Return the messages at the Postfix, as they were before it put its own lines on top."""
        found: dict[int, bytes] = {}
        for path in self.inbox.glob("new/*"):
            text = path.read_bytes()
            start = text.index(b"From: ")
            number = int(text.partition(b"Subject: attack ")[2].partition(b"\n")[0])
            assert number not in found, f"attack {number} has arrived twice"
            assert text[:start].count(b"\nReceived: ") == 2  # the Postfix's, and ours
            found[number] = text[start:].replace(b"\n", b"\r\n")
        return found

    def settle(self) -> None:
        """Assert that what was accepted has arrived, that and nothing else, octet for octet."""
        deadline = time.monotonic() + 60
        while len(list(self.inbox.glob("new/*"))) < len(self.accepted):
            assert time.monotonic() < deadline, self.postfix.read_log()[-5000:]
            time.sleep(0.02)
        ledger = self.gateway.wait_ledger(len(self.accepted))
        assert (ledger.accepted, ledger.delivered) == (len(self.accepted), len(self.accepted))
        assert ledger.is_closed
        assert self.postfix.count_queued() == 0
        found = self.read_inbox()
        assert found.keys() == self.accepted.keys()
        for number, content in self.accepted.items():
            assert found[number] == content


@pytest.fixture(scope="module", params=SETTINGS)
def post(request: pytest.FixtureRequest) -> Iterator[Post]:
    """A Postfix with a bare LF for a line end, as it was before 2023: once with BDAT, once without."""
    if (obstacle := postfix.find_obstacle()) is not None:
        pytest.skip(obstacle)
    setting: str = request.param
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        (mail := directory / "mail").mkdir()
        main = postfix.maildir_settings("mail.example", mail)
        main["smtpd_forbid_bare_newline"] = "no"
        if setting == "refuse":
            main["smtpd_discard_ehlo_keywords"] = "chunking"
        receiver = stack.enter_context(Postfix(main))
        gateway = stack.enter_context(
            Gateway({"mail.example": receiver.port}, ingress=f'line_endings = "{setting}"')
        )
        yield Post(gateway, receiver, mail / "inbox", setting)


# How an ending is sent: the socket, the message's beginning, the ending; returns how many answers are
# due before that to QUIT.
Way = Callable[[socket.socket, bytes, bytes], int]


def read_replies(sock: socket.socket, count: int) -> list[int]:
    """Return the codes of so many replies, or of all up to the end of the connection."""
    octets = b""
    while True:
        whole = octets[: octets.rfind(b"\n") + 1]
        found = codes(whole)
        if len(found) >= count and whole == octets:
            return found
        if not (more := sock.recv(65536)):
            return found
        octets += more


def send_data(sock: socket.socket, before: bytes, ending: bytes) -> int:
    """Send it by DATA, in one piece, with QUIT behind it."""
    sock.sendall(b"DATA\r\n")
    assert read_replies(sock, 1) == [354]
    sock.sendall(before + ending + HIDDEN + b".\r\nQUIT\r\n")
    return 1


def send_octets(sock: socket.socket, before: bytes, ending: bytes) -> int:
    """Send each octet of the ending in a packet of its own, when the one before has been read."""
    sock.sendall(b"DATA\r\n")
    assert read_replies(sock, 1) == [354]
    wire = before + ending + HIDDEN + b".\r\nQUIT\r\n"
    *_, portions = cut_everywhere(wire, len(before), len(before + ending))
    for portion in portions:
        sock.sendall(portion)
        wait_until_read(sock)
    return 1


def send_chunk(sock: socket.socket, before: bytes, ending: bytes) -> int:
    """Send it by BDAT, in one chunk."""
    sock.sendall(write_chunks([before + ending + HIDDEN]) + b"QUIT\r\n")
    return 1


def send_chunks(sock: socket.socket, before: bytes, ending: bytes) -> int:
    """Send it by BDAT, each octet of the ending a chunk of its own."""
    content = before + ending + HIDDEN
    *_, chunks = cut_everywhere(content, len(before), len(before + ending))
    sock.sendall(write_chunks(chunks) + b"QUIT\r\n")
    return len(chunks)


@pytest.mark.slow
@pytest.mark.parametrize("send", [send_data, send_octets])
def test_one_message_in_is_one_message_out(post: Post, send: Way) -> None:
    problems = [
        post.attack(send, ending, unstuff(b"Hello" + ending + HIDDEN)[5:])
        for ending in TRICKS.values()
    ]

    assert not list(filter(None, problems))
    post.settle()


@pytest.mark.slow
@pytest.mark.parametrize("send", [send_chunk, send_chunks])
def test_in_chunks_nothing_is_an_end(post: Post, send: Way) -> None:
    """RFC 3030 §2: they are counted. A real end in one is content, and has its dot doubled on the way out."""
    problems = [post.attack(send, ending, ending + HIDDEN) for ending in ENDINGS.values()]

    assert not list(filter(None, problems))
    post.settle()


@pytest.mark.slow
@pytest.mark.parametrize("tail", [b"\r\n.", b"\r\n.\r\n", b"\r\n..", b".", b"\r\n\r\n.\r\n.\r\n"])
def test_a_dot_at_the_very_end_ends_nothing_early(post: Post, tail: bytes) -> None:
    """And what it could hide would be the gateway's next message in the same session."""

    def send(sock: socket.socket, before: bytes, tail: bytes) -> int:
        sock.sendall(write_chunks([before, tail]) + b"QUIT\r\n")
        return 2

    assert not post.attack(send, tail, tail)
    if not tail.endswith(b"\r\n"):  # the last line gets an end at the latest in the Maildir
        post.accepted[post.number] += b"\r\n"
    assert not post.attack(send_data, b"\r\n", b"\r\n" + HIDDEN)
    post.settle()
