"""One session with one host: every step, every way in which it can fail, and for how long."""

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from relay.config.schema import TlsLevel
from relay.errors import SourceUnusable, StoreError, StoreUnavailable
from relay.model import Blame, Claim, Disposition, Outcome, Recipient
from relay.net.egress import DirectEgress
from relay.smtp.client import LocalProtocolError
from tests.kit.peer import (
    DeadHost,
    ScriptedHost,
    Shelf,
    connect_pair,
    find_refusing_host,
    make_claim,
    make_delivery,
    make_path,
    open_host,
    open_peer,
)
from workers.peer import ClaimLost, HostFailed, Peer, Verdict
from workers.route import Path
from workers.tls.guard import Guard
from workers.tls.pkix import Authorities

DELIVERED, DEFERRED, BOUNCED = Disposition
CONTENT = b"Subject: x\r\n\r\nhello\r\n"
PLAIN = ("8BITMIME",)  # without PIPELINING


@pytest.fixture
def clock() -> MockClock:
    # Loopback needs a moment of real time; while nothing moves there, the clock jumps.
    return MockClock(autojump_threshold=0.01)


_open: list[Peer] = []


@pytest.fixture(autouse=True)
async def close_all(clock: MockClock) -> AsyncIterator[None]:
    yield
    while _open:
        _open.pop().close()


async def connect_to(path: Path, source: str = "127.0.0.11") -> Peer:
    peer = await open_peer(path, DirectEgress(source))
    _open.append(peer)
    return peer


async def send(peer: Peer, claim: Claim | None = None, shelf: Shelf | None = None) -> Verdict:
    return await peer.deliver(claim or make_claim(), shelf or Shelf(), b"{}")  # type: ignore[arg-type]


async def attempt(path: Path, claim: Claim | None = None) -> Verdict:
    """One message over a session of its own; a host that will not have us is a verdict as well."""
    claim = claim or make_claim()
    try:
        peer = await connect_to(path)
    except HostFailed as error:
        return Verdict((error.outcome,) * len(claim.delivery.envelope.recipients))
    try:
        return await send(peer, claim)
    finally:
        await peer.quit()


def dispositions(verdict: Verdict) -> list[Disposition]:
    return [outcome.disposition for outcome in verdict.outcomes]


# -- what goes well


@pytest.mark.parametrize("offers", [("PIPELINING",), PLAIN, ()])
@pytest.mark.parametrize("split", [False, True])
async def test_a_message_arrives_with_its_envelope(
    clock: MockClock, offers: tuple[str, ...], split: bool
) -> None:
    claim = make_claim(make_delivery(b"b@y.test", b"c@y.test"), CONTENT)
    async with open_host(offers=offers, split=split) as host:
        verdict = await attempt(host.make_path(), claim)
        await host.wait_until(lambda: host.ends == ["quit"])

    assert dispositions(verdict) == [DELIVERED, DELIVERED]
    assert not verdict.unknown
    assert not verdict.stale
    (message,) = host.messages
    assert message.sender == b"alice@acme.example"
    assert message.recipients == (b"b@y.test", b"c@y.test")
    assert message.content == CONTENT
    assert message.client == "127.0.0.11"
    assert host.commands[0] == "EHLO a.out.test"


async def test_the_outcome_quotes_the_final_answer(clock: MockClock) -> None:
    async with open_host(". 250 2.0.0 queued as 7|thank you") as host:
        verdict = await attempt(host.make_path())

    assert verdict.outcomes == (
        Outcome(DELIVERED, None, ".", 250, "2.0.0", "2.0.0 queued as 7 thank you"),
    )


# -- what goes wrong: every step by every fault

STEPS = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")
OPENING = ("CONNECT", "EHLO")
FAULTS = (
    "eof",
    "reset",
    "silence",
    "drip",
    "421 4.3.2 going down",
    "raw what?",
    "raw 999 x",
    "raw 25",
    "450 4.2.0 not now",
    "550 5.7.1 never",
    "354 go",
)


def expected(step: str, fault: str) -> Disposition:
    if step == "DATA" and fault.startswith("354"):
        return DELIVERED
    return BOUNCED if fault.startswith("550") and step not in OPENING else DEFERRED


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("offers", [("PIPELINING",), PLAIN], ids=["pipelined", "plain"])
@pytest.mark.parametrize(("step", "fault"), list(itertools.product(STEPS, FAULTS)))
async def test_faults(
    clock: MockClock, step: str, fault: str, offers: tuple[str, ...], split: bool
) -> None:
    script = f"{step} {fault}"
    if step == "EHLO" and fault.startswith("550"):
        script += "\nHELO 550 5.7.1 never"  # otherwise it is a host from before EHLO
    async with open_host(script, offers=offers, split=split) as host:
        verdict = await attempt(host.make_path())

    assert dispositions(verdict) == [expected(step, fault)]
    # Between the dot and its answer nobody knows; before it, and with an answer, everybody does.
    no_answer = step == "." and not fault.startswith(("421", "450", "550"))
    assert verdict.unknown == no_answer


@pytest.mark.parametrize("fault", ["eof", "reset", "silence", "421 4.3.2 going down"])
async def test_content_that_was_cut_off_is_known_not_to_be_taken(
    clock: MockClock, fault: str
) -> None:
    # More than any socket buffers hold: the dot has not left this machine.
    body = b"x" * 70 + b"\r\n"
    claim = make_claim(make_delivery(content=body * 200_000), body * 200_000)
    async with open_host(f"CONTENT {fault}") as host:
        verdict = await attempt(host.make_path(), claim)

    assert dispositions(verdict) == [DEFERRED]
    assert not verdict.unknown
    assert not host.messages


async def test_a_host_from_before_ehlo_is_served_with_helo(clock: MockClock) -> None:
    async with open_host("EHLO 502 5.5.1 what") as host:
        assert dispositions(await attempt(host.make_path())) == [DELIVERED]
    assert host.commands[:2] == ["EHLO a.out.test", "HELO a.out.test"]


async def test_a_refused_session_ends_with_quit(clock: MockClock) -> None:
    # RFC 5321 §3.1: after a 554 greeting the client says QUIT.
    async with open_host("CONNECT 554 5.3.2 no mail here") as host:
        verdict = await attempt(host.make_path())
        await host.wait_until(lambda: host.ends == ["quit"])

    assert dispositions(verdict) == [DEFERRED]
    assert host.commands == ["QUIT"]


async def test_each_recipient_gets_its_own_outcome(clock: MockClock) -> None:
    claim = make_claim(make_delivery(*(b"r%d@y.test" % n for n in range(4))), CONTENT)
    script = """
        RCPT2   550 5.1.1 no such user
        RCPT3   452 4.2.2 full
    """
    async with open_host(script) as host:
        verdict = await attempt(host.make_path(), claim)

    assert dispositions(verdict) == [DELIVERED, BOUNCED, DEFERRED, DELIVERED]
    assert verdict.outcomes[1].blame is Blame.RECIPIENT
    assert host.messages[0].recipients == (b"r0@y.test", b"r3@y.test")


async def test_a_recipient_that_was_refused_stays_so_when_the_session_breaks(
    clock: MockClock,
) -> None:
    claim = make_claim(make_delivery(b"a@y.test", b"b@y.test"), CONTENT)
    async with open_host("RCPT1 550 5.1.1 no such user\n. eof") as host:
        verdict = await attempt(host.make_path(), claim)

    assert dispositions(verdict) == [BOUNCED, DEFERRED]
    assert verdict.unknown
    assert verdict.outcomes[1].code == 0  # nobody said it


# -- how long

PATIENCE = [
    ("CONNECT", 300),
    ("EHLO", 300),
    ("MAIL", 300),
    ("RCPT", 300),
    ("DATA", 120),
    (".", 600),
]


@pytest.mark.parametrize("fault", ["silence", "drip"])
@pytest.mark.parametrize(("step", "seconds"), PATIENCE)
async def test_patience_is_that_of_rfc_5321(
    clock: MockClock, step: str, seconds: float, fault: str
) -> None:
    async with open_host(f"{step} {fault}", offers=PLAIN) as host:
        start = trio.current_time()
        try:
            peer = await connect_to(host.make_path())
            await send(peer)
            peer.close()
        except HostFailed:
            pass
        assert trio.current_time() - start == pytest.approx(seconds)


async def test_each_answer_of_a_group_has_patience_of_its_own(clock: MockClock) -> None:
    people = [b"r%d@y.test" % n for n in range(5)]
    claim = make_claim(make_delivery(*people), CONTENT)
    async with trio.open_nursery() as nursery:
        stream, theirs = connect_pair()
        peer = Peer(stream, find_refusing_host(), "a.out.test")

        async def answer_slowly() -> None:
            await theirs.send_all(b"220 mx\r\n")
            await theirs.receive_some()
            await theirs.send_all(b"250-mx\r\n250 PIPELINING\r\n")
            await theirs.receive_some()
            for reply in [b"250 ok\r\n"] * 6 + [b"354 go\r\n", b"250 ok\r\n"]:
                await trio.sleep(100)
                await theirs.send_all(reply)

        nursery.start_soon(answer_slowly)
        await peer.open(Guard("none", "none"), Authorities.load())
        verdict = await send(peer, claim)
        peer.close()
        await theirs.aclose()
    assert dispositions(verdict) == [DELIVERED] * 5


async def test_connecting_takes_thirty_seconds_at_most(clock: MockClock) -> None:
    with DeadHost() as dead:
        start = trio.current_time()
        verdict = await attempt(make_path(dead.host))
    assert trio.current_time() - start == pytest.approx(30)
    assert verdict.outcomes[0].status == "4.4.2"
    assert "timed out" in verdict.outcomes[0].text


async def test_a_host_that_does_not_read_is_given_three_minutes(clock: MockClock) -> None:
    body = b"x" * 20_000_000 + b"\r\n"
    async with open_host("CONTENT silence") as host:
        peer = await connect_to(host.make_path())
        start = trio.current_time()
        verdict = await send(peer, make_claim(make_delivery(content=body), body))
        peer.close()
    assert trio.current_time() - start == pytest.approx(180)
    assert dispositions(verdict) == [DEFERRED]


async def test_goodbye_takes_two_seconds_at_most(clock: MockClock) -> None:
    async with open_host("QUIT silence") as host:
        peer = await connect_to(host.make_path())
        start = trio.current_time()
        await peer.quit()
    assert trio.current_time() - start == pytest.approx(2)


# -- hosts in order


async def test_the_next_host_is_tried_when_the_first_refuses(clock: MockClock) -> None:
    async with open_host() as host:
        path = make_path(find_refusing_host(), host.make_host())
        assert dispositions(await attempt(path)) == [DELIVERED]


@pytest.mark.parametrize("fault", ["CONNECT 554 5.7.1 go away", "CONNECT eof", "EHLO 421 4.3.2 x"])
async def test_the_next_host_is_tried_when_the_first_refuses_the_session(
    clock: MockClock, fault: str
) -> None:
    async with open_host(fault) as first, open_host() as second:
        path = make_path(first.make_host(), second.make_host())
        assert dispositions(await attempt(path)) == [DELIVERED]


async def test_when_all_fail_the_last_one_is_the_reason(clock: MockClock) -> None:
    async with open_host("CONNECT 554 5.7.1 go away") as last:
        path = make_path(find_refusing_host(), last.make_host())
        (outcome,) = (await attempt(path)).outcomes
    assert (outcome.disposition, outcome.code) == (DEFERRED, 554)


async def test_a_source_that_is_not_ours_blames_no_host(clock: MockClock) -> None:
    async with open_host() as host:
        with pytest.raises(SourceUnusable):
            await connect_to(host.make_path(), source="192.0.2.77")
        assert host.sessions == 0


# -- a session kept


async def test_messages_follow_each_other_on_one_connection(clock: MockClock) -> None:
    async with open_host() as host:
        peer = await connect_to(host.make_path())
        for _ in range(5):
            assert dispositions(await send(peer)) == [DELIVERED]
        await peer.quit()
    assert host.sessions == 1
    assert len(host.messages) == 5


@pytest.mark.parametrize("fault", ["MAIL2 eof", "MAIL2 reset", "MAIL2 421 4.4.2 idle too long"])
async def test_a_kept_session_that_is_over_is_stale(clock: MockClock, fault: str) -> None:
    async with open_host(fault) as host:
        peer = await connect_to(host.make_path())
        assert not (await send(peer)).stale
        verdict = await send(peer)
        peer.close()
    assert verdict.stale
    assert not verdict.unknown
    assert not peer.is_open


@pytest.mark.parametrize("fault", ["RCPT2 eof", "DATA2 421 4.3.2 x", ".2 eof", "MAIL2 451 x"])
async def test_a_session_that_breaks_in_a_message_is_not_stale(
    clock: MockClock, fault: str
) -> None:
    async with open_host(fault, offers=PLAIN) as host:
        peer = await connect_to(host.make_path())
        await send(peer)
        assert not (await send(peer)).stale
        peer.close()


async def test_a_message_too_large_for_the_host_is_not_sent_and_the_session_goes_on(
    clock: MockClock,
) -> None:
    async with open_host(offers=("SIZE 10",)) as host:
        peer = await connect_to(host.make_path())
        for _ in range(2):
            verdict = await send(peer)
            assert dispositions(verdict) == [BOUNCED]
            assert not verdict.stale
            assert verdict.outcomes[0].status == "5.3.4"
            assert peer.is_open
        await peer.quit()
    assert host.commands == ["EHLO a.out.test", "QUIT"]


async def test_the_host_s_limit_of_messages_is_honoured(clock: MockClock) -> None:
    async with open_host(offers=("LIMITS MAILMAX=2",)) as host:
        peer = await connect_to(host.make_path())
        await send(peer)
        assert peer.is_open
        await send(peer)
        assert not peer.is_open
        await peer.quit()
        await host.wait_until(lambda: host.ends == ["quit"])


async def test_an_address_that_cannot_be_said_leaves_the_session_as_it_is(
    clock: MockClock,
) -> None:
    claim = make_claim(make_delivery(b"b c@y.test"), CONTENT)
    async with open_host() as host:
        peer = await connect_to(host.make_path())
        with pytest.raises(LocalProtocolError):
            await send(peer, claim)
        assert dispositions(await send(peer)) == [DELIVERED]
        await peer.quit()


# -- content in parts


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[place : place + size] for place in range(0, len(content), size)]


async def send_in_parts(host: ScriptedHost, parts: Sequence[bytes]) -> Verdict:
    delivery = make_delivery(content=b"".join(parts), chunks=len(parts))
    peer = await connect_to(host.make_path())
    verdict = await send(peer, make_claim(delivery, None), Shelf(*parts))
    await peer.quit()
    return verdict


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_parts_are_joined_wherever_they_were_cut(clock: MockClock, size: int) -> None:
    content = b".dot\r\n..\r\n.\r\n\r\n.\r\nend.\r\n"
    async with open_host() as host:
        assert dispositions(await send_in_parts(host, cut(content, size))) == [DELIVERED]
    assert host.messages[0].content == content


@pytest.mark.parametrize("offers", [("CHUNKING",), ("CHUNKING", "PIPELINING")])
@pytest.mark.parametrize("size", [3, 1000])
async def test_without_a_last_line_end_it_goes_by_bdat(
    clock: MockClock, offers: tuple[str, ...], size: int
) -> None:
    content = b"Subject: x\r\n\r\n.\r\n.. no end"
    async with open_host(offers=offers) as host:
        assert dispositions(await send_in_parts(host, cut(content, size))) == [DELIVERED]
    assert host.messages[0].content == content
    assert "DATA" not in host.commands


async def test_without_a_last_line_end_and_without_chunking_data_adds_one(
    clock: MockClock,
) -> None:
    async with open_host() as host:
        assert dispositions(await send_in_parts(host, [b"Subject: x\r\n\r\nno end"])) == [DELIVERED]
    assert host.messages[0].content == b"Subject: x\r\n\r\nno end\r\n"


@pytest.mark.parametrize(
    ("fault", "disposition", "unknown"),
    [
        ("BDAT2 552 5.3.4 too much", BOUNCED, False),
        ("BDAT2 452 4.3.1 too much", DEFERRED, False),
        ("BDAT2 eof", DEFERRED, None),  # the last chunk may be out, it depends on who is faster
        (". 554 5.6.0 no", BOUNCED, False),
        (". eof", DEFERRED, True),
    ],
)
async def test_chunks_that_are_refused(
    clock: MockClock, fault: str, disposition: Disposition, unknown: bool | None
) -> None:
    parts = [b"Subject: x\r\n", b"\r\n", b"abc", b"def"]
    async with open_host(fault, offers=("CHUNKING",)) as host:
        verdict = await send_in_parts(host, parts)
    assert dispositions(verdict) == [disposition]
    if unknown is not None:
        assert verdict.unknown is unknown


# -- our own side


async def test_a_claim_that_has_passed_to_another_sends_nothing(clock: MockClock) -> None:
    async with open_host() as host:
        peer = await connect_to(host.make_path())
        with pytest.raises(ClaimLost):
            await send(peer, shelf=Shelf(ours=False))
        await peer.quit()
        assert not peer.is_open
        await host.wait_until(lambda: host.ends)
    assert not host.messages


@pytest.mark.parametrize(
    "trouble", [StoreUnavailable("gone", executed=False), StoreError("broken")]
)
async def test_a_message_that_cannot_be_read_is_not_sent_in_part(
    clock: MockClock, trouble: Exception
) -> None:
    shelf = Shelf()
    shelf.broken = trouble
    async with open_host() as host:
        peer = await connect_to(host.make_path())
        with pytest.raises(type(trouble)):
            await send(peer, make_claim(make_delivery(chunks=2), None), shelf)
        await peer.quit()
        await host.wait_until(lambda: host.ends == ["eof"])
    assert not host.messages


async def test_a_part_that_is_gone_is_not_skipped(clock: MockClock) -> None:
    async with open_host() as host:
        peer = await connect_to(host.make_path())
        with pytest.raises(StoreError, match="part 1"):
            await send(peer, make_claim(make_delivery(chunks=2), None), Shelf(b"only one\r\n"))
        await peer.quit()
        await host.wait_until(lambda: host.ends == ["eof"])
    assert not host.messages


async def test_the_store_may_be_slow_between_parts(clock: MockClock) -> None:
    class SlowShelf(Shelf):
        async def read_part(self, delivery: object, part: int) -> bytes | None:
            await trio.sleep(1000)
            return self.parts[part]

    async with open_host() as host:
        peer = await connect_to(host.make_path())
        claim = make_claim(make_delivery(chunks=2), None)
        verdict = await send(peer, claim, SlowShelf(b"Subject: x\r\n", b"\r\nhello\r\n"))
        await peer.quit()
    assert dispositions(verdict) == [DELIVERED]


async def test_dsn_parameters_travel_on(clock: MockClock) -> None:
    recipient = Recipient(b"b@y.test", b"NEVER", b"rfc822;b@y.test")
    async with open_host(offers=("DSN",)) as host:
        await attempt(host.make_path(), make_claim(make_delivery(recipient), CONTENT))
    assert "RCPT TO:<b@y.test> NOTIFY=NEVER ORCPT=rfc822;b@y.test" in host.commands


LEVELS: list[TlsLevel] = ["none", "opportunistic", "require", "verify"]


@pytest.mark.parametrize("level", LEVELS)
async def test_without_starttls_only_who_does_not_need_it_is_served(
    clock: MockClock, level: TlsLevel
) -> None:
    async with open_host() as host:
        verdict = await attempt(host.make_path(level))
    wanted = DELIVERED if level in ("none", "opportunistic") else DEFERRED
    assert dispositions(verdict) == [wanted]
    assert len(host.messages) == (wanted is DELIVERED)


@pytest.mark.parametrize(("early", "attempts"), [(True, 1), (False, 0)])
async def test_an_attempt_that_never_came_to_the_dot_need_not_be_on_record(
    clock: MockClock, early: bool, attempts: int
) -> None:
    shelf = Shelf()
    async with open_host("RCPT eof") as host:
        peer = await connect_to(host.make_path())
        await peer.deliver(make_claim(), shelf, b"{}", early=early)  # type: ignore[arg-type]
        peer.close()
    assert len(shelf.attempts) == attempts


async def test_the_attempt_is_on_record_before_the_last_part(clock: MockClock) -> None:
    class Watch(Shelf):
        def record_attempt(self, claim: Claim, event: bytes) -> Any:
            seen.append(len(host.messages))
            return super().record_attempt(claim, event)

    seen: list[int] = []
    shelf = Watch(b"Subject: x\r\n", b"\r\n", b"hello\r\n")
    async with open_host() as host:
        peer = await connect_to(host.make_path())
        claim = make_claim(make_delivery(chunks=3), None)
        verdict = await peer.deliver(claim, shelf, b"{}", early=False)  # type: ignore[arg-type]
        await peer.quit()
    assert dispositions(verdict) == [DELIVERED]
    assert seen == [0]
