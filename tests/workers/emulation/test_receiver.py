"""Receivers over real sockets and TLS, met by the sender that brings the demo's corpus."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from relay.errors import TlsFailed
from relay.model import Envelope, Recipient
from relay.smtp.server import ServerSettings
from workers.emulation.behaviour import (
    Behaviour,
    make_flaky,
    make_greylisting,
    make_moody,
    make_picky,
    make_plain,
)
from workers.emulation.corpus import Sample
from workers.emulation.inbox import Inbox, digest_relayed
from workers.emulation.premises import Premises, make_premises
from workers.emulation.receiver import Receiver
from workers.emulation.sender import Sender

CONTENT = b"Received: from there\r\n\tby here\r\nSubject: hello\r\n\r\n.\r\n..dots\r\n"


class ListCorpus:
    """As many copies of one message as asked for, each from a sender of its own."""

    def __init__(self, count: int, *recipients: bytes, content: bytes = CONTENT) -> None:
        self.count = count
        self.recipients = recipients or (b"anna@good.test",)
        self.content = content

    def __len__(self) -> int:
        return self.count

    def envelope(self, number: int) -> Envelope:
        recipients = tuple(map(Recipient, self.recipients))
        return Envelope(b"m%d@acme.test" % number, recipients, body=b"8BITMIME")

    def make(self, number: int) -> Sample:
        return Sample(number, "test", self.envelope(number), self.content)


Send = Callable[..., Awaitable[tuple[Inbox, Sender]]]


@pytest.fixture(scope="module")
def premises(tmp_path_factory: pytest.TempPathFactory) -> Premises:
    return make_premises(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def send(premises: Premises, monkeypatch: pytest.MonkeyPatch) -> Send:
    monkeypatch.setattr("workers.emulation.sender._PAUSE", 0.01)

    async def send(
        behaviour: Behaviour, corpus: ListCorpus, *, sessions: int = 1, name: str = "127.0.0.1"
    ) -> tuple[Inbox, Sender]:
        receiver = Receiver(("good.test",), behaviour, premises.receiver_context)
        sender = Sender(corpus, receiver.port, name, premises.sender_context, sessions)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.serve)
            with trio.fail_after(20):
                await sender.run()
            nursery.cancel_scope.cancel()
        return receiver.inbox, sender

    return send


async def test_what_arrives_is_what_was_sent(send: Send) -> None:
    inbox, sender = await send(Behaviour(), ListCorpus(5), sessions=2)

    assert inbox.messages == inbox.messages_over_tls == 5
    assert inbox.copies[b"m3@acme.test", b"anna@good.test"] == [digest_relayed(CONTENT)]
    assert inbox.sources == {b"mail.acme.test": 5}
    assert inbox.addresses == {b"mail.acme.test": {"127.0.0.1"}}
    assert sorted(sent.number for sent in sender.sent) == [0, 1, 2, 3, 4]
    assert inbox.connections <= 2


async def test_a_large_message_arrives_whole(send: Send) -> None:
    content = b"Received: x\r\nSubject: large\r\n\r\n" + b".0123456789\r\n" * 100_000

    inbox, _ = await send(Behaviour(), ListCorpus(1, content=content))

    assert inbox.copies[b"m0@acme.test", b"anna@good.test"] == [digest_relayed(content)]


async def test_a_foreign_domain_is_refused_and_the_rest_taken(send: Send) -> None:
    inbox, sender = await send(Behaviour(), ListCorpus(1, b"a@good.test", b"b@else.test"))

    assert inbox.refused == 1
    assert sender.sent[0].recipients == (b"a@good.test",)
    assert sender.refused == {"550 5.7.1 This server does not relay": 1}


async def test_greylisted_mail_arrives_with_the_second_try(send: Send) -> None:
    inbox, sender = await send(make_greylisting(), ListCorpus(3))

    assert (inbox.deferred, inbox.messages) == (3, 3)
    assert not sender.refused


async def test_a_picky_receiver_refuses_strangers_only(send: Send) -> None:
    corpus = ListCorpus(2, b"nobody7@good.test", b"anna@good.test")

    inbox, sender = await send(make_picky(b"nobody"), corpus)

    assert (inbox.refused, inbox.accepted) == (2, 2)
    assert all(sent.recipients == (b"anna@good.test",) for sent in sender.sent)


async def test_a_moody_receiver_turns_connections_away(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.emulation.sender._MESSAGES_PER_CONNECTION", 1)

    inbox, sender = await send(make_moody(every=2), ListCorpus(4))

    assert inbox.messages == len(sender.sent) == 4
    assert (inbox.connections, inbox.deferred) == (7, 3)


async def test_hanging_up_in_content_loses_nothing_and_repeats_nothing(send: Send) -> None:
    behaviour = make_flaky(every=3)  # in the 3rd and 6th; after the 6th that was complete

    inbox, sender = await send(behaviour, ListCorpus(5, content=CONTENT * 100))

    assert inbox.broken == 2
    assert [len(copies) for copies in inbox.copies.values()] == [1] * 5
    assert len(sender.sent) == 5


async def test_hanging_up_after_the_dot_repeats_one_and_says_so(send: Send) -> None:
    behaviour = Behaviour(hang_up_after_dot=iter([False, True, False, False]).__next__)

    inbox, sender = await send(behaviour, ListCorpus(3))

    assert [len(copies) for copies in inbox.copies.values()] == [1, 2, 1]
    assert inbox.unanswered == sender.unanswered == {(b"m1@acme.test", b"anna@good.test")}


async def test_a_sender_that_wants_tls_does_not_settle_for_less(send: Send) -> None:
    with pytest.RaisesGroup(TlsFailed, flatten_subgroups=True, allow_unwrapped=True):
        await send(make_plain(), ListCorpus(1))


async def test_a_sender_checks_the_name_in_the_certificate(send: Send) -> None:
    with pytest.RaisesGroup(TlsFailed, flatten_subgroups=True, allow_unwrapped=True):
        await send(Behaviour(), ListCorpus(1), name="other.test")


async def test_a_receiver_hangs_up_on_the_silent(
    premises: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.emulation.conversation._PATIENCE", 0.01)
    receiver = Receiver(("good.test",), Behaviour(), premises.receiver_context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.serve)
        with trio.fail_after(5):
            async with await trio.open_tcp_stream("127.0.0.1", receiver.port) as stream:
                octets = b"".join([piece async for piece in stream])
        nursery.cancel_scope.cancel()

    assert octets == b"220 mx.good.test ESMTP outgate\r\n"


def test_a_receiver_without_tls_does_not_offer_it(premises: Premises) -> None:
    receiver = Receiver(("plain.test",), make_plain(), premises.receiver_context)
    receiver.close()

    assert receiver.settings == ServerSettings("mx.plain.test", starttls=False, chunking=False)
