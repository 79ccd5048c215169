"""The sending role: whole dialogues, and everything that can go wrong at each of their steps."""

from collections.abc import Callable

import msgspec
import pytest

from relay.smtp.client import (
    ClientSession,
    Closed,
    Finished,
    LocalProtocolError,
    Ready,
    Refused,
    RemoteProtocolError,
    Reply,
    SendContent,
    State,
    TlsGo,
)
from relay.smtp.extensions import Capabilities
from tests.kit.dialogue import EOF, Peer, Talk, make_envelope, talk

PIPELINED = (b"PIPELINING",)
CHUNKED = (b"CHUNKING", b"PIPELINING")
OFFERS = [(), PIPELINED, (b"CHUNKING",), CHUNKED]
DELIVERED = (250, False, False)
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


def start(*offers: bytes) -> ClientSession:
    """Return a session that is ready, after an EHLO with these offers."""
    session = ClientSession(b"me.test")
    peer = Peer(*offers)
    session.receive(peer.answer("CONNECT") + peer.answer("EHLO"))
    assert session.next_event() == Ready()
    assert session.data_to_send() == b"EHLO me.test\r\n"
    return session


# -- Good dialogues


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("final_newline", [False, True])
def test_a_good_dialogue(offers: tuple[bytes, ...], final_newline: bool, split: bool) -> None:
    peer = Peer(*offers)

    talked = talk(peer, split=split, final_newline=final_newline)

    last = "." if final_newline or b"CHUNKING" not in offers else "BDAT"
    assert talked.short == [(last, *DELIVERED)] * 2
    assert peer.messages == [MESSAGE]
    assert talked.events[-1] == Closed(Reply(221, (b"bye",)))
    assert peer.commands[0] == b"EHLO me.test"
    assert peer.commands[1:4] == [
        b"MAIL FROM:<a@x.test>",
        b"RCPT TO:<b@y.test>",
        b"RCPT TO:<c@y.test>",
    ]
    assert talked.session.content_sent is False


def test_pipelining_sends_one_group() -> None:
    talked = talk(Peer(*PIPELINED))

    assert talked.groups == [
        b"EHLO me.test\r\n",
        b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<c@y.test>\r\nDATA\r\n",
        MESSAGE + b".\r\n",
        b"QUIT\r\n",
    ]


def test_without_pipelining_each_command_waits_for_its_answer() -> None:
    talked = talk(Peer())

    assert [group.count(b"\r\n") for group in talked.groups[:5]] == [1, 1, 1, 1, 1]
    assert talked.groups[4] == b"DATA\r\n"


@pytest.mark.parametrize("pipelining", [True, False])
def test_many_recipients_are_never_all_under_way(pipelining: bool) -> None:
    peer = Peer(*(PIPELINED if pipelining else ()), answers={"RCPT150": b"550 5.1.1 no\r\n"})
    envelope = make_envelope(*(b"r%d@y.test" % number for number in range(350)))

    talked = talk(peer, (envelope,))

    assert max(group.count(b"RCPT") for group in talked.groups) == (100 if pipelining else 1)
    assert peer.commands[2:352] == [b"RCPT TO:<r%d@y.test>" % number for number in range(350)]
    assert talked.short == [
        ("RCPT", 550, False, False) if place == 149 else (".", *DELIVERED) for place in range(350)
    ]


def test_a_session_takes_several_transactions() -> None:
    peer = Peer(*PIPELINED)

    talked = talk(peer, (make_envelope(), make_envelope(b"d@z.test")))

    assert [len(e.results) for e in talked.events if isinstance(e, Finished)] == [2, 1]
    assert b"RSET" not in peer.commands
    assert peer.messages == [MESSAGE, MESSAGE]


def test_helo_when_ehlo_is_not_known() -> None:
    peer = Peer(*PIPELINED, b"SIZE 10", answers={"EHLO": b"502 5.5.1 what?\r\n"})

    talked = talk(peer)

    assert peer.commands[:3] == [b"EHLO me.test", b"HELO me.test", b"MAIL FROM:<a@x.test>"]
    assert talked.short == [(".", *DELIVERED)] * 2


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "HELO"])
@pytest.mark.parametrize("code", [421, 450, 554])
def test_a_peer_that_does_not_want_us(step: str, code: int) -> None:
    answers = {step: b"%d 4.7.0 go away\r\n" % code}
    if step == "HELO":
        answers["EHLO"] = b"500 what?\r\n"
    expected = "HELO" if (step, code) == ("EHLO", 554) else step
    if expected != step:
        answers["HELO"] = answers["EHLO"]
    peer = Peer(answers=answers)

    talked = talk(peer)

    refused = Refused(expected, Reply(code, (b"4.7.0 go away",)))
    last = Closed(refused.reply) if code == 421 else Closed(Reply(221, (b"bye",)))
    assert talked.events == [refused, last]
    assert talked.results is None


# -- Everything that can go wrong, at every step

FAULTS = {
    "421": b"421 4.3.2 closing\r\n",
    "end": EOF,
    "half a reply, and the end": b"250-half" + EOF,
    "nonsense": b"hello\r\n",
    "450": b"450 4.2.0 later\r\n",
    "550": b"550 5.1.1 never\r\n",
    "out of place": b"354 go on\r\n",
}
WHAT = {
    "421": (421, False, True),
    "end": (421, True, True),
    "half a reply, and the end": (421, True, True),
    "nonsense": (451, True, True),
    "450": (450, False, True),
    "550": (550, False, False),
    "out of place": (451, True, True),
}


def expect(step: str, fault: str, last: str) -> list[tuple[str, int, bool, bool]]:
    command, what = step.rstrip("12"), WHAT[fault]
    if step == "QUIT":
        return [(last, *DELIVERED)] * 2
    if command == "RCPT" and fault in ("450", "550"):
        both = [(command, *what), (last, *DELIVERED)]
        return both if step == "RCPT1" else both[::-1]
    return [(command, *what)] * 2


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (step, fault)
        for step in ("MAIL", "RCPT1", "RCPT2", "DATA", ".", "QUIT")
        for fault in FAULTS
        if (step, fault) != ("DATA", "out of place")  # there, 354 is in place
    ],
)
def test_a_fault_at_a_step(step: str, fault: str, offers: tuple[bytes, ...], split: bool) -> None:
    peer = Peer(*offers, answers={step: FAULTS[fault]})

    talked = talk(peer, split=split)

    assert talked.short == expect(step, fault, ".")
    assert bool(talked.error) == (fault in ("nonsense", "out of place"))
    assert talked.session.state is State.CLOSED
    assert talked.session.abandon("again") == ()
    # Only when the final answer is missing is the outcome unknown.
    missing = fault not in ("421", "450", "550")
    assert talked.session.content_sent is (step == "." and missing)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", ["RCPT1", "RCPT2", "BDAT1", "BDAT2"])
@pytest.mark.parametrize("offers", [(b"CHUNKING",), CHUNKED])
def test_a_fault_at_a_step_with_chunks(
    step: str, fault: str, offers: tuple[bytes, ...], split: bool
) -> None:
    peer = Peer(*offers, answers={step: FAULTS[fault]})

    talked = talk(peer, split=split, final_newline=False)

    assert talked.short == expect(step, fault, "BDAT")
    assert talked.session.state is State.CLOSED
    # Pipelined, the last chunk is out before the first one's answer is read.
    handed_out = step == "BDAT2" or (step == "BDAT1" and b"PIPELINING" in offers)
    assert talked.session.content_sent is (handed_out and fault not in ("421", "450", "550"))


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("fault", ["421", "end", "nonsense"])
@pytest.mark.parametrize("offers", [(), PIPELINED])
def test_a_recipients_answer_is_kept_when_the_session_dies(
    offers: tuple[bytes, ...], fault: str, split: bool
) -> None:
    peer = Peer(*offers, answers={"RCPT1": FAULTS["550"], "RCPT3": FAULTS[fault]})

    talked = talk(peer, (make_envelope(b"1@y", b"2@y", b"3@y"),), split=split)

    assert talked.short == [("RCPT", 550, False, False)] + [("RCPT", *WHAT[fault])] * 2


def test_the_final_answer_is_kept_when_the_session_dies_after_it() -> None:
    peer = Peer(*PIPELINED, answers={".": b"250 ok\r\n421 bye\r\nnonsense\r\n" + EOF})

    talked = talk(peer)

    assert talked.short == [(".", *DELIVERED)] * 2
    assert talked.events[-2:] == [
        Finished(talked.results or ()),
        Closed(Reply(421, (b"bye",))),
    ]


def test_closed_is_what_comes_after_closed() -> None:
    session = start()
    session.receive(b"421 4.4.2 idle for too long\r\n")

    closed = Closed(Reply(421, (b"4.4.2 idle for too long",)))
    assert [session.next_event() for _ in range(3)] == [closed] * 3
    session.receive(b"nonsense\r\n")
    session.receive_eof()
    session.quit()
    assert session.next_event() == closed
    assert session.data_to_send() == b""
    assert not session.can_begin


@pytest.mark.parametrize("idle", [b"250 ok\r\n", b"550 no\r\n", b"354 go\r\n"])
def test_a_reply_that_nobody_asked_for(idle: bytes) -> None:
    session = start()
    session.receive(idle)

    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="nobody asked"):
            session.next_event()
    assert session.state is State.CLOSED
    assert session.abandon("nothing was open") == ()


def test_an_answer_before_the_content_is_no_answer_to_it() -> None:
    session = start(*PIPELINED)
    session.begin(make_envelope(b"b@y"), 1)
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n250 accepted\r\n")
    assert session.next_event() == SendContent(chunking=False)

    with pytest.raises(RemoteProtocolError, match="nobody asked"):
        session.next_event()
    (result,) = session.abandon("it answered too early")
    assert (result.command, result.reply.code, result.reply.status) == ("DATA", 451, "4.5.0")
    assert result.temporary
    assert result.local


# -- Refusals within a transaction


def transcript(peer: Peer) -> list[str]:
    return [command.split(b" ")[0].decode() for command in peer.commands]


def test_mail_refused_is_everybodys_result_and_what_was_pipelined_is_read() -> None:
    no = b"503 5.5.1 MAIL first\r\n"
    peer = Peer(
        *PIPELINED,
        answers={"MAIL1": b"550 5.7.1 not you\r\n", "RCPT1": no, "RCPT2": no, "DATA1": no},
    )

    talked = talk(peer, (make_envelope(), make_envelope()))

    first, second = (e.results for e in talked.events if isinstance(e, Finished))
    assert [(r.command, r.reply.code) for r in first] == [("MAIL", 550)] * 2
    assert [(r.command, r.reply.code) for r in second] == [(".", 250)] * 2
    assert transcript(peer) == [
        *["EHLO", "MAIL", "RCPT", "RCPT", "DATA"],
        *["MAIL", "RCPT", "RCPT", "DATA", "QUIT"],
    ]


def test_mail_refused_stops_a_long_list_of_recipients() -> None:
    peer = Peer(*PIPELINED, answers={"MAIL": b"450 4.7.1 later\r\n", "RCPT": b"503 no\r\n"})

    talked = talk(peer, (make_envelope(*[b"r@y"] * 300),))

    assert talked.short == [("MAIL", 450, False, True)] * 300
    assert transcript(peer).count("RCPT") == 99
    assert "DATA" not in transcript(peer)


@pytest.mark.parametrize("data", [b"354 go\r\n", b"503 5.5.1 nobody\r\n", b"451 4.3.0 no\r\n"])
@pytest.mark.parametrize("answer", [b"250 ok\r\n", b"554 5.5.1 nobody\r\n"])
def test_all_refused_and_data_pipelined(data: bytes, answer: bytes) -> None:
    lone_dot = data.startswith(b"3")
    peer = Peer(
        *PIPELINED,
        answers={
            "RCPT1": b"550 5.1.1 no\r\n",
            "RCPT2": b"452 4.2.2 full\r\n",
            "DATA1": data,
            ".1": answer if lone_dot else b"250 ok\r\n",
        },
    )

    talked = talk(peer, (make_envelope(), make_envelope(b"d@y")))

    first, second = (e.results for e in talked.events if isinstance(e, Finished))
    assert [(r.command, r.reply.code) for r in first] == [("RCPT", 550), ("RCPT", 452)]
    assert [(r.command, r.reply.code) for r in second] == [(".", 250)]
    assert peer.messages == ([b"", MESSAGE] if lone_dot else [MESSAGE])
    assert ("RSET" in transcript(peer)) is not lone_dot
    assert sum(isinstance(event, SendContent) for event in talked.events) == 1


def test_all_refused_and_the_peer_closes_in_the_lone_dot() -> None:
    peer = Peer(*PIPELINED, answers={"RCPT": b"550 5.1.1 no\r\n", ".": EOF})

    talked = talk(peer)

    assert talked.short == [("RCPT", 550, False, False)] * 2
    assert talked.session.content_sent is False


@pytest.mark.parametrize("offers", [(), (b"CHUNKING",), CHUNKED])
def test_all_refused_without_data_is_reset_before_the_next(offers: tuple[bytes, ...]) -> None:
    no = b"550 5.1.1 no\r\n"
    peer = Peer(*offers, answers={"RCPT1": no, "RCPT2": no})

    talked = talk(peer, (make_envelope(), make_envelope(b"d@y")), final_newline=False)

    assert talked.short[0][1] == 250
    verbs = transcript(peer)
    assert verbs[:6] == ["EHLO", "MAIL", "RCPT", "RCPT", "RSET", "MAIL"]
    assert len(peer.messages) == 1


@pytest.mark.parametrize("offers", [(), PIPELINED])
def test_a_session_that_dies_in_our_reset_gives_temporary_results(
    offers: tuple[bytes, ...],
) -> None:
    peer = Peer(*offers, answers={"DATA1": b"451 4.3.0 no\r\n", "RSET": EOF})

    talked = talk(peer, (make_envelope(), make_envelope()))

    assert talked.short == [("MAIL", 421, True, True)] * 2


def test_552_for_too_many_recipients_is_temporary() -> None:
    answers = {
        "RCPT2": b"552 too many recipients\r\n",
        "RCPT3": b"552 5.2.2 mailbox full\r\n",
        "RCPT4": b"452 4.5.3 too many recipients\r\n",
    }

    talked = talk(Peer(*PIPELINED, answers=answers), (make_envelope(b"1", b"2", b"3", b"4"),))

    assert talked.short == [
        (".", *DELIVERED),
        ("RCPT", 552, False, True),
        ("RCPT", 552, False, False),
        ("RCPT", 452, False, True),
    ]
    assert [r.accepted for r in talked.results or ()] == [True, False, False, False]


def test_552_for_the_first_recipient_is_what_it_says() -> None:
    talked = talk(Peer(answers={"RCPT1": b"552 no\r\n"}))

    assert talked.short == [("RCPT", 552, False, False), (".", *DELIVERED)]


# -- What the peer's offers decide before a command is sent


@pytest.mark.parametrize(
    ("offers", "envelope", "command", "code", "status", "temporary"),
    [
        ((b"SIZE 20",), make_envelope(), "MAIL", 552, "5.3.4", False),
        ((), make_envelope(), "", 0, "", False),
        ((b"SIZE 21",), make_envelope(), "", 0, "", False),
        ((b"SIZE 0",), make_envelope(), "", 0, "", False),
    ],
)
def test_size_is_checked_before_mail(
    offers: tuple[bytes, ...],
    envelope: object,
    command: str,
    code: int,
    status: str,
    temporary: bool,
) -> None:
    session = start(*offers)

    session.begin(make_envelope(), len(MESSAGE))

    if not command:
        assert session.data_to_send().startswith(b"MAIL")
        return
    assert session.data_to_send() == b""
    event = session.next_event()
    assert isinstance(event, Finished)
    assert [(r.command, r.reply.code, r.reply.status) for r in event.results] == [
        (command, code, status)
    ] * 2
    assert all(r.local and r.temporary is temporary for r in event.results)
    assert session.can_begin


def test_an_internationalised_message_is_not_sent_where_it_is_not_understood() -> None:
    session = start(b"8BITMIME")
    envelope = make_envelope("ä@y.test".encode())
    international = type(envelope)(b"a@x.test", envelope.recipients, smtputf8=True)

    session.begin(international, 1)

    event = session.next_event()
    assert isinstance(event, Finished)
    assert [(r.reply.code, r.reply.status, r.temporary) for r in event.results] == [
        (550, "5.6.7", False)
    ]
    assert session.data_to_send() == b""
    with pytest.raises(LocalProtocolError, match="SMTPUTF8"):
        session.begin(envelope, 1)


def test_recipients_beyond_rcptmax_wait() -> None:
    peer = Peer(*PIPELINED, b"LIMITS RCPTMAX=2", answers={"RCPT2": b"550 no\r\n"})

    talked = talk(peer, (make_envelope(b"1@y", b"2@y", b"3@y"),))

    assert talked.short == [
        (".", *DELIVERED),
        ("RCPT", 550, False, False),
        ("RCPT", 452, True, True),
    ]


def test_rcptdomainmax_counts_over_the_session() -> None:
    peer = Peer(b"LIMITS RCPTDOMAINMAX=2")
    mixed = make_envelope(b"1@a", b"2@b", b"3@c", b"4@A")

    talked = talk(peer, (mixed, make_envelope(b"5@c"), make_envelope(b"6@B")))

    first, second, third = (e.results for e in talked.events if isinstance(e, Finished))
    assert [r.reply.code for r in first] == [250, 250, 452, 250]
    assert [(r.reply.code, r.local) for r in second] == [(452, True)]
    assert [r.reply.code for r in third] == [250]


def test_mailmax_ends_the_sessions_use() -> None:
    peer = Peer(*PIPELINED, b"LIMITS MAILMAX=2")

    talked = talk(peer, tuple(make_envelope() for _ in range(5)))

    assert transcript(peer).count("MAIL") == 2
    assert transcript(peer)[-1] == "QUIT"
    assert len(peer.messages) == 2
    assert not talked.session.can_begin


def test_data_is_preferred_unless_it_would_change_the_content() -> None:
    for final_newline, expected in ((True, False), (False, True)):
        session = start(*CHUNKED)
        session.begin(make_envelope(b"b@y"), 1, final_newline=final_newline)
        session.receive(b"250 ok\r\n250 ok\r\n" + (b"354 go\r\n" if final_newline else b""))
        assert session.next_event() == SendContent(chunking=expected)


# -- Chunks


def test_chunks_carry_the_content_untouched() -> None:
    peer = Peer(*CHUNKED)

    talked = talk(peer, content=(b".a\r\n", b".\r\n", b"", b"no end"), final_newline=False)

    assert talked.groups[2] == b"BDAT 4\r\n.a\r\nBDAT 3\r\n.\r\nBDAT 6 LAST\r\nno end"
    assert peer.messages == [b".a\r\n.\r\nno end"]


@pytest.mark.parametrize(("offers", "window"), [((b"CHUNKING",), 1), (CHUNKED, 8)])
def test_chunks_in_flight_are_bounded(offers: tuple[bytes, ...], window: int) -> None:
    peer = Peer(*offers)
    content = tuple(b"%03d\r\n" % number for number in range(30))

    talked = talk(peer, content=content, final_newline=False)

    assert max(group.count(b"BDAT") for group in talked.groups) == window
    assert peer.messages == [b"".join(content)]
    assert talked.short == [("BDAT", *DELIVERED)] * 2


@pytest.mark.parametrize("offers", [(b"CHUNKING",), CHUNKED])
@pytest.mark.parametrize("failing", [1, 3])
def test_a_refused_chunk_is_the_result_and_is_reset(
    offers: tuple[bytes, ...], failing: int
) -> None:
    peer = Peer(*offers, answers={f"BDAT{failing}": b"452 4.3.1 full\r\n"})

    talked = talk(
        peer, (make_envelope(), make_envelope()), content=(b"a", b"b", b"c"), final_newline=False
    )

    first, second = (e.results for e in talked.events if isinstance(e, Finished))
    assert [(r.command, r.reply.code, r.temporary) for r in first] == [("BDAT", 452, True)] * 2
    assert [r.reply.code for r in second] == [250, 250]
    assert transcript(peer).count("RSET") == 1


# -- TLS


def test_starttls_forgets_what_was_offered_in_clear() -> None:
    peer = Peer(
        b"STARTTLS",
        *PIPELINED,
        answers={"EHLO2": b"250-mx.test\r\n250-STARTTLS\r\n250 SIZE 5000\r\n"},
    )

    talked = talk(peer, tls=True)

    assert transcript(peer)[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]
    assert peer.commands[3] == b"MAIL FROM:<a@x.test> SIZE=21"
    assert TlsGo() in talked.events
    assert not talked.session.capabilities.pipelining
    assert not talked.session.capabilities.starttls
    assert talked.short == [(".", *DELIVERED)] * 2


REQUIRING = msgspec.structs.replace(make_envelope(), tls="required")


@pytest.mark.parametrize("offers", [(), (b"REQUIRETLS",)], ids=["not offered", "offered in clear"])
def test_a_message_that_requires_tls_is_not_sent_where_nobody_keeps_to_it(
    offers: tuple[bytes, ...],
) -> None:
    session = start(*offers)

    session.begin(REQUIRING, 1)

    event = session.next_event()
    assert isinstance(event, Finished)
    assert [(r.reply.code, r.reply.text, r.local, r.temporary) for r in event.results] == [
        (550, "5.7.30 REQUIRETLS support required", True, False)
    ] * 2
    assert session.data_to_send() == b""
    assert session.can_begin


def test_a_message_that_requires_tls_says_so_to_the_next_host() -> None:
    peer = Peer(b"STARTTLS", b"REQUIRETLS", *PIPELINED)

    talked = talk(peer, (REQUIRING,), tls=True)

    assert b"MAIL FROM:<a@x.test> REQUIRETLS" in peer.commands
    assert talked.short == [(".", *DELIVERED)] * 2


def test_a_notice_about_such_a_message_goes_where_it_can() -> None:
    session = start()

    session.begin(msgspec.structs.replace(REQUIRING, sender=b""), 1)

    assert session.data_to_send() == b"MAIL FROM:<>\r\n"


def test_nothing_of_the_clear_offer_is_left_when_tls_has_started() -> None:
    session = start(b"STARTTLS", *PIPELINED)
    session.start_tls()
    session.receive(b"220 go\r\n")
    assert session.next_event() == TlsGo()
    session.data_to_send()

    session.tls_started()

    assert session.capabilities == Capabilities()
    assert session.data_to_send() == b"EHLO me.test\r\n"
    assert not session.can_begin


@pytest.mark.parametrize("answer", [b"454 4.7.0 later\r\n", b"502 5.5.1 no\r\n"])
def test_starttls_refused_leaves_the_choice_to_the_driver(answer: bytes) -> None:
    talked = talk(Peer(b"STARTTLS", answers={"STARTTLS": answer}), tls=True)

    assert isinstance(talked.events[1], Refused)
    assert talked.events[1].command == "STARTTLS"
    assert talked.short == [(".", *DELIVERED)] * 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (b"421 4.7.0 bye\r\n", ""),
        (EOF, ""),
        (b"354 go\r\n", "no answer to STARTTLS"),
        (b"hello\r\n", "not an SMTP reply"),
        (b"220 go\r\n250 injected\r\n", "clear text behind"),
        (b"220 go\r\n2", "clear text behind"),
    ],
)
def test_starttls_goes_wrong(fault: bytes, error: str) -> None:
    talked = talk(Peer(b"STARTTLS", answers={"STARTTLS": fault}), tls=True)

    assert error in talked.error
    assert bool(talked.error) == bool(error)
    assert TlsGo() not in talked.events
    assert talked.session.state is State.CLOSED


def test_clear_text_that_comes_late_is_not_taken_for_tls() -> None:
    session = start(b"STARTTLS")
    session.start_tls()
    session.receive(b"220 go\r\n")
    assert session.next_event() == TlsGo()

    with pytest.raises(RemoteProtocolError, match="between STARTTLS and"):
        session.receive(b"250 injected\r\n")
    with pytest.raises(RemoteProtocolError):
        session.next_event()
    with pytest.raises(LocalProtocolError):
        session.tls_started()


# -- The driver's side


def in_content() -> ClientSession:
    session = start(*PIPELINED)
    session.begin(make_envelope(b"b@y"), 1)
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    session.next_event()
    return session


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.quit(),
        lambda s: s.reset(),
        lambda s: s.start_tls(),
        lambda s: s.tls_started(),
        lambda s: s.begin(make_envelope(), 1),
    ],
)
@pytest.mark.parametrize("make", [in_content, lambda: ClientSession(b"me")])
def test_what_is_not_possible_now_is_refused(
    make: Callable[[], ClientSession], act: Callable[[ClientSession], None]
) -> None:
    session = make()
    session.data_to_send()

    with pytest.raises(LocalProtocolError):
        act(session)
    assert session.data_to_send() == b""


def test_content_is_for_when_it_is_asked_for() -> None:
    session = start(*PIPELINED)
    with pytest.raises(LocalProtocolError):
        session.content(b"x", True)
    session.begin(make_envelope(b"b@y"), 1)
    with pytest.raises(LocalProtocolError):
        session.content(b"x", True)
    session = in_content()
    session.content(b"x", True)
    assert not session.takes_content
    with pytest.raises(LocalProtocolError):
        session.content(b"x", True)


def test_a_transaction_that_must_not_be_sent_changes_nothing() -> None:
    session = start(*PIPELINED)
    for envelope in (make_envelope(b"b@y>\r\nRSET"), type(make_envelope())(b"a@x", ())):
        with pytest.raises(LocalProtocolError):
            session.begin(envelope, 1)
    assert session.data_to_send() == b""
    assert session.can_begin


@pytest.mark.parametrize("name", [b"", b"me\r\nMAIL", b"a b"])
def test_the_ehlo_name_is_a_name(name: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        ClientSession(name)


def test_awaiting_names_the_answer_that_is_due() -> None:
    session = ClientSession(b"me")
    seen = [session.awaiting]
    for data in (b"220 hi\r\n", b"250-mx\r\n250 PIPELINING\r\n"):
        session.receive(data)
        session.next_event()
        seen.append(session.awaiting)
    session.begin(make_envelope(b"b@y"), 1)
    seen.append(session.awaiting)
    for data in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        session.receive(data)
        session.next_event()
        seen.append(session.awaiting)
    session.content(b"", True)
    seen.append(session.awaiting)

    assert seen == ["CONNECT", "EHLO", "", "MAIL", "RCPT", "DATA", "", "."]


def test_abandon_after_the_dot_leaves_the_outcome_unknown() -> None:
    session = in_content()
    assert not session.content_sent
    session.content(b"half", False)
    assert not session.content_sent
    session.content(b"", True)
    assert session.content_sent

    (result,) = session.abandon("no answer within 10 minutes")

    assert (result.command, result.reply.text) == (".", "4.4.2 no answer within 10 minutes")
    assert result.local
    assert result.temporary
    assert session.content_sent
    assert session.next_event() == Closed(None)


def test_reset_finds_out_whether_an_idle_session_lives() -> None:
    session = start()
    session.reset()
    assert session.data_to_send() == b"RSET\r\n"
    session.receive(b"250 ok\r\n")
    assert session.next_event() == Ready()

    session.reset()
    session.receive_eof()
    assert session.next_event() == Closed(None)


def test_reset_makes_the_next_transactions_own_reset_needless() -> None:
    session = start()
    session.begin(make_envelope(b"b@y"), 1)
    session.receive(b"250 ok\r\n550 no\r\n")
    assert isinstance(session.next_event(), Finished)
    session.data_to_send()
    session.reset()
    session.receive(b"250 ok\r\n")
    session.next_event()
    session.data_to_send()

    session.begin(make_envelope(b"b@y"), 1)

    assert session.data_to_send().startswith(b"MAIL")


def test_the_way_bytes_arrive_does_not_matter() -> None:
    def run(*, split: bool) -> Talk:
        answers = {"RCPT1": b"550-5.1.1 no\r\n550 5.1.1 such user\n"}
        return talk(Peer(*CHUNKED, b"DSN", answers=answers), split=split)

    assert run(split=True).events == run(split=False).events
