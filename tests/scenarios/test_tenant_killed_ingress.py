"""kill -9 of the ingress while large signed messages stream in: nothing half goes out, nothing is lost.

Large messages go to the store in parts while they arrive, and their signature is checked on the way. Who
dies in the middle has told nobody that a message was accepted, so its sender comes again; the parts belong
to nobody and vanish. Only between the final dot and its answer may a sender not know (RFC 1047).
"""

import contextlib
import os
import signal
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis

from tests.bench.proven import TENANT, open_names
from tests.kit.audit import Audit, assert_sound
from tests.kit.console import Console
from tests.kit.family import wait_for_role
from tests.kit.gateway import Gateway
from tests.kit.letters import Answer, insist, make_letter, post
from tests.kit.shelf import Shelf

pytestmark = [pytest.mark.slow, pytest.mark.heavy]

SENDERS = 3
LINE = b"What is written here is signed, and one octet less would be noticed.\r\n"
SIZE = 1 << 20
# How much of the content is out when the ingress dies: what is still in its memory, half of it, all but
# the end; 1: all of it, and its final dot.
MOMENTS = (0.02, 0.5, 0.999, 1.0)
DELIVERY = 'processes = 1\nretry = ["1s"]\nidle = "1s"'
DOMAIN = "d0.load.test"


def make_signed(mark: str, size: int = SIZE) -> bytes:
    """Return a message that its organisation has signed; no dot begins a line."""
    letter = make_letter(mark, LINE * (size // len(LINE))).replace(b"\r\n.", b"\r\n-")
    return TENANT.sign(letter)


class Stream:
    """A sender that stops in the middle of a message, and says so."""

    def __init__(self, port: int, octets: bytes, share: float) -> None:
        self.octets = octets
        self.ready = threading.Event()
        self.cut = threading.Event()  # set when the ingress is dead
        self.answer: int | None = None  # what came of it, None: the connection broke
        self._port = port
        self._share = share
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        assert self.ready.wait(30)

    def finish(self) -> None:
        self.cut.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError, smtplib.SMTPServerDisconnected):
            session = smtplib.SMTP("127.0.0.1", self._port, "client.test", timeout=30)
            with contextlib.closing(session):
                self._send(session)

    def _send(self, session: smtplib.SMTP) -> None:
        session.ehlo()
        session.mail("sender@acme.example")
        session.rcpt(f"r@{DOMAIN}")
        assert session.docmd("DATA")[0] == 354
        content = self.octets + b".\r\n"
        session.send(content[: int(len(content) * self._share)])
        self.ready.set()
        assert self.cut.wait(30)
        session.send(content[int(len(content) * self._share) :])
        self.answer = session.getreply()[0]


class Place:
    """A gateway whose tenant proves itself by signatures."""

    def __init__(self, gateway: Gateway, shelf: Shelf) -> None:
        self.gateway = gateway
        self.console = Console(gateway)
        self.shelf = shelf

    def kill_ingress(self) -> None:
        (victim,) = wait_for_role(self.gateway.pid, "ingress", 1)
        os.kill(victim, signal.SIGKILL)

    def insist(self, octets: bytes) -> Answer:
        """Send until it is accepted, also while nobody listens."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return insist(self.gateway.port, octets, f"r@{DOMAIN}")[0]
            except (OSError, smtplib.SMTPException):
                assert time.monotonic() < deadline, self.gateway.read_output()
                time.sleep(0.05)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with open_names() as names, Shelf() as shelf:
        with Gateway(
            {"*.load.test": shelf.port},
            delivery=DELIVERY,
            tenant='proof = ["dkim"]',
            tables=f'[dns]\nnameservers = ["{names}"]',
        ) as gateway:
            yield Place(gateway, shelf)


def test_unsigned_is_nobodys(place: Place) -> None:
    octets = make_signed("forged", 100_000)
    for wrong in (
        octets[octets.index(b"X-Mark") :],
        octets.replace(b"octet less", b"octet more", 1),
    ):
        assert post(place.gateway.port, wrong, f"r@{DOMAIN}").code == 550
    assert "forged" not in place.shelf.messages


def test_ingress_dies_while_messages_stream_in(place: Place) -> None:
    doubtful = 0
    letters: dict[str, bytes] = {}
    for number, share in enumerate(MOMENTS):
        marks = {f"{number}-{one}": make_signed(f"{number}-{one}") for one in range(SENDERS)}
        letters |= marks
        streams = [Stream(place.gateway.port, octets, share) for octets in marks.values()]
        for stream in streams:
            stream.start()
        place.kill_ingress()
        for stream in streams:
            stream.finish()
        # Who got no answer, and was in the middle, comes again; it is the sender who remembers.
        broken = [stream for stream in streams if stream.answer != 250]
        assert share == 1.0 or len(broken) == SENDERS
        doubtful += len(broken) if share == 1.0 else 0
        for stream in broken:
            place.insist(stream.octets)
    check(place, letters, doubtful)


def check(place: Place, letters: dict[str, bytes], doubtful: int) -> None:
    ledger = place.gateway.wait_ledger(len(letters), seconds=30)
    assert ledger.is_closed, place.gateway.read_output()
    assert len(letters) <= ledger.accepted <= len(letters) + doubtful
    assert (ledger.delivered, ledger.bounced) == (ledger.accepted, 0)
    arrived = Counter({mark: len(taken) for mark, taken in place.shelf.messages.items()})
    assert arrived.keys() == letters.keys()
    assert arrived.total() == ledger.delivered
    twice = {mark for mark, count in arrived.items() if count > 1}
    assert all(mark.startswith(f"{MOMENTS.index(1.0)}-") for mark in twice)
    for mark, octets in letters.items():
        assert all(taken.sent == octets for taken in place.shelf.messages[mark]), mark
    # What has been left half is nobody's, and ends by itself.
    with place.console.open_store() as client:
        audit = assert_sound(client, leftover=True)
        assert audit.queued == 0
        assert count_orphans(client, audit) > 0, "nobody died in the middle of anything"
    # Those of the last one are written in a moment; those before it were killed before that.
    proofs = [event["proof"] for event in place.console.wait_for_events("accepted")]
    assert set(proofs) == {"dkim"}


def count_orphans(client: redis.Redis, audit: Audit) -> int:
    """Return how many parts are left of messages that were never accepted; each ends in an hour."""
    count = 0
    for number, shard in enumerate(audit.shards):
        for message, parts in shard.bodies.items():
            assert message not in shard.stories
            for part in parts:
                count += 1
                assert 0 < client.ttl(f"{{og{number}}}:body:{message}:{part}") <= 3600
    return count
