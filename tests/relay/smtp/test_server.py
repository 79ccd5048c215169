import pytest

import relay.smtp.incoming as incoming_module
from relay.smtp.server import (
    MAX_ERRORS,
    MAX_IDLE_COMMANDS,
    MAX_LINE,
    Aborted,
    Closed,
    Data,
    EndOfMessage,
    Mail,
    Rcpt,
    ServerSession,
    ServerSettings,
    StartTls,
)
from tests.kit.receiving import Exchange, codes, cut_in_two

ENVELOPE = b"EHLO me.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"


# -- greeting and extensions


def test_the_greeting_begins_with_our_name() -> None:
    assert Exchange().greeting == b"220 mx.test ESMTP outgate\r\n"


def test_ehlo_lists_what_is_offered() -> None:
    exchange = Exchange(max_message=70_000, max_recipients=100, starttls=True)

    lines = exchange.say(b"ehlo me.test\r\n").splitlines()

    assert lines[0] == b"250-mx.test greets you"
    assert {line[4:] for line in lines[1:]} == {
        b"STARTTLS", b"PIPELINING", b"SIZE 70000", b"8BITMIME", b"SMTPUTF8", b"DSN", b"CHUNKING",
        b"LIMITS RCPTMAX=100", b"ENHANCEDSTATUSCODES",
    }  # fmt: skip
    assert [line[3:4] for line in lines] == [b"-"] * (len(lines) - 1) + [b" "]
    assert exchange.session.extended
    assert exchange.session.hello == b"me.test"


def test_what_is_switched_off_is_not_offered() -> None:
    reply = Exchange(chunking=False).say(b"EHLO me.test\r\n")

    assert b"CHUNKING" not in reply
    assert b"STARTTLS" not in reply


def test_helo_has_one_line_and_no_extensions() -> None:
    exchange = Exchange()

    assert exchange.say(b"HELO me.test\r\n") == b"250 mx.test\r\n"
    assert not exchange.session.extended


@pytest.mark.parametrize("line", [b"EHLO", b"EHLO ", b"HELO", b"EHLO a b", b"EHLO " + b"a" * 256])
def test_a_greeting_without_a_name_is_refused(line: bytes) -> None:
    exchange = Exchange()

    assert codes(exchange.say(line + b"\r\nMAIL FROM:<a@b>\r\n")) == [501, 503]


# -- transactions


def test_a_message_comes_in() -> None:
    exchange = Exchange()

    replies = exchange.say(ENVELOPE + b"RCPT TO:<c@y.test>\r\nDATA\r\n")
    assert codes(replies)[1:] == [250, 250, 250, 354]
    assert exchange.say(b"Subject: x\r\n\r\n..dot\r\n.\r\n") == b"250 2.0.0 ID\r\n"

    assert exchange.messages == [b"Subject: x\r\n\r\n.dot\r\n"]
    assert exchange.events == [
        Mail(b"a@x.test"), Rcpt(b"b@y.test"), Rcpt(b"c@y.test"), Data(), EndOfMessage(),
    ]  # fmt: skip


def test_a_pipelined_group_is_answered_at_once() -> None:
    exchange = Exchange()
    exchange.say(b"EHLO me.test\r\n")

    replies = exchange.say(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:bad\r\nDATA\r\n")

    assert codes(replies) == [250, 250, 501, 354]


def test_messages_follow_each_other_in_one_write() -> None:
    exchange = Exchange()
    one = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n1\r\n.\r\n"
    two = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nBDAT 3 LAST\r\n2\r\nQUIT\r\n"

    replies = exchange.say(b"EHLO me.test\r\n" + one + two)

    assert codes(replies)[1:] == [250, 250, 354, 250, 250, 250, 250, 221]
    assert exchange.messages == [b"1\r\n", b"2\r\n"]
    assert exchange.closed == "quit"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"MAIL FROM:<a@b>\r\n", 503),
        (b"EHLO me\r\nRCPT TO:<a@b>\r\n", 503),
        (b"EHLO me\r\nDATA\r\n", 503),
        (b"EHLO me\r\nMAIL FROM:<a@b>\r\nDATA\r\n", 503),
        (b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:bad\r\nDATA\r\n", 554),
        (b"EHLO me\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n", 503),
        (b"EHLO me\r\nMAIL FROM:<a@b>\r\nRSET\r\nRCPT TO:<a@b>\r\n", 503),
        (b"EHLO me\r\nMAIL FROM:<a@b>\r\nEHLO me\r\nRCPT TO:<a@b>\r\n", 503),
        (b"EHLO me\r\nMAIL FROM:<a@b>\r\nHELO me\r\nRCPT TO:<a@b>\r\n", 503),
        (ENVELOPE + b"DATA now\r\n", 501),
        (b"AUTH PLAIN\r\n", 502),
        (b"EXPN list\r\n", 502),
        (b"ETRN x\r\n", 502),
        (b"STARTTLS\r\n", 502),
        (b"\r\n", 500),
        (b"VRFY joe\r\n", 252),
        (b"NOOP whatever\r\n", 250),
        (b"HELP\r\n", 214),
    ],
)
def test_commands_out_of_order_and_others(said: bytes, code: int) -> None:
    exchange = Exchange()

    assert codes(exchange.say(said))[-1] == code
    assert not exchange.closed


@pytest.mark.parametrize("command", [b"RSET", b"EHLO me.test", b"HELO me.test"])
def test_beginning_anew_voids_the_transaction(command: bytes) -> None:
    exchange = Exchange()
    exchange.open_transaction()

    exchange.say(command + b"\r\n" + command + b"\r\n")

    assert [type(event) for event in exchange.events] == [Mail, Rcpt, Aborted]


def test_every_refusal_has_an_enhanced_status_of_its_class() -> None:
    said = [
        b"MAIL FROM:<a@b>", b"DATA", b"RCPT TO:<a>", b"EHLO", b"FOO", b"EXPN x", b"STARTTLS",
        b"EHLO me", b"MAIL FROM:<a@b> X=1", b"MAIL FROM:<a@b>", b"RCPT TO:bad", b"DATA",
    ]  # fmt: skip

    for line in said:
        reply = Exchange().say(line + b"\r\n")
        if not reply.startswith(b"250"):
            assert reply[4:6] == reply[:1] + b"."


def test_quit_closes_and_nothing_is_read_behind_it() -> None:
    exchange = Exchange()

    assert exchange.say(b"QUIT\r\nNOOP\r\n") == b"221 2.0.0 mx.test closing\r\n"
    assert exchange.events == [Closed("quit")]


# -- the caller's opinion


def test_a_refused_sender_leaves_no_transaction() -> None:
    exchange = Exchange(refusals={Mail: (550, "5.7.1", "No")})

    replies = exchange.say(ENVELOPE)

    assert replies.endswith(b"550 5.7.1 No\r\n503 5.5.1 Say MAIL first\r\n")


def test_without_an_accepted_recipient_there_is_no_content() -> None:
    exchange = Exchange(refusals={Rcpt: (550, "5.1.2", "No")})

    assert codes(exchange.say(ENVELOPE + b"DATA\r\n"))[-2:] == [550, 554]


def test_a_message_that_is_not_accepted_is_over() -> None:
    exchange = Exchange(refusals={EndOfMessage: (451, "4.3.0", "Later")})

    replies = exchange.say(ENVELOPE + b"DATA\r\n.\r\nDATA\r\n")

    assert codes(replies)[-3:] == [354, 451, 503]
    assert exchange.messages == []


def test_refused_content_keeps_the_session() -> None:
    exchange = Exchange(refusals={Data: (451, "4.3.0", "Later")})

    assert codes(exchange.say(ENVELOPE + b"DATA\r\nNOOP\r\n"))[-2:] == [451, 250]


def test_a_refused_first_chunk_is_swallowed() -> None:
    exchange = Exchange(refusals={Data: (451, "4.3.0", "Later")})

    assert codes(exchange.say(ENVELOPE + b"BDAT 6\r\nQUIT\r\nNOOP\r\n"))[-2:] == [451, 250]


def test_421_says_it_once_and_closes() -> None:
    exchange = Exchange(refusals={Mail: (421, "4.3.2", "Going down")})

    replies = exchange.say(ENVELOPE)

    assert replies.endswith(b"\r\n421 4.3.2 Going down\r\n")
    assert replies.count(b"421 ") == 1
    assert exchange.closed == "Going down"


def test_shut_down_from_our_side() -> None:
    session = ServerSession(ServerSettings("mx.test"))

    assert session.shut_down("Timed out", status="4.4.2") == Closed("Timed out")
    assert session.data_to_send() == b"421 4.4.2 Timed out\r\n"


# -- BDAT


def test_chunks_are_taken_as_they_are() -> None:
    exchange = Exchange()
    exchange.open_transaction()

    replies = exchange.say(b"BDAT 5\r\n.\r\n.\rBDAT 1\r\n\nBDAT 0\r\nBDAT 3 LAST\r\n..\r")
    assert replies == (
        b"250 2.0.0 5 octets so far\r\n250 2.0.0 6 octets so far\r\n250 2.0.0 6 octets so far\r\n"
        b"550 5.6.0 Message contains a bare CR or LF; lines must end in CRLF\r\n"
    )

    exchange.open_transaction()
    exchange.say(b"BDAT 5\r\n.\r\n.\rBDAT 1\r\n\nBDAT 0 LAST\r\n")
    assert exchange.messages == [b".\r\n.\r\n"]


def test_a_message_may_end_with_an_empty_chunk_or_be_one() -> None:
    exchange = Exchange()

    exchange.open_transaction()
    assert exchange.say(b"BDAT 2\r\nhiBDAT 0 LAST\r\n").endswith(b"250 2.0.0 ID\r\n")
    exchange.open_transaction()
    assert exchange.say(b"BDAT 0 LAST\r\n") == b"250 2.0.0 ID\r\n"

    assert exchange.messages == [b"hi", b""]


@pytest.mark.parametrize(
    ("command", "code"),
    [(b"DATA", 503), (b"RCPT TO:<c@y>", 503), (b"MAIL FROM:<a@x>", 503), (b"NOOP", 250)],
)
def test_between_chunks_the_transaction_goes_on(command: bytes, code: int) -> None:
    exchange = Exchange()
    exchange.open_transaction()

    replies = exchange.say(b"BDAT 2\r\nhi" + command + b"\r\nBDAT 2 LAST\r\n!!")

    assert codes(replies) == [250, code, 250]
    assert exchange.messages == [b"hi!!"]


def test_rset_between_chunks_forgets_them() -> None:
    exchange = Exchange()
    exchange.open_transaction()

    assert codes(exchange.say(b"BDAT 2\r\nhiRSET\r\nBDAT 2 LAST\r\n!!")) == [250, 250, 503]
    assert exchange.messages == []
    exchange.open_transaction()
    assert codes(exchange.say(b"DATA\r\nnew\r\n.\r\n")) == [354, 250]
    assert exchange.messages == [b"new\r\n"]


@pytest.mark.parametrize(
    "before", [b"", b"EHLO me\r\n", b"EHLO me\r\nMAIL FROM:<a@b>\r\n", ENVELOPE + b"RSET\r\n"]
)
def test_a_chunk_out_of_order_is_not_read_as_commands(before: bytes) -> None:
    exchange = Exchange()

    replies = exchange.say(before + b"BDAT 12 LAST\r\nQUIT\r\nQUIT\r\nNOOP\r\n")

    assert codes(replies)[-2:] == [503, 250]
    assert not exchange.closed


@pytest.mark.parametrize("line", [b"BDAT", b"BDAT x", b"BDAT -1", b"BDAT 1 FIRST"])
def test_a_chunk_without_a_length_ends_the_session(line: bytes) -> None:
    exchange = Exchange()
    exchange.open_transaction()

    assert codes(exchange.say(line + b"\r\nQUIT\r\n")) == [501]
    assert exchange.closed


def test_a_chunk_that_was_not_offered_ends_the_session() -> None:
    exchange = Exchange(chunking=False)
    exchange.open_transaction()

    assert codes(exchange.say(b"BDAT 4 LAST\r\nQUIT")) == [501]
    assert exchange.closed


def test_a_large_message_may_have_many_chunks() -> None:
    exchange = Exchange()
    exchange.open_transaction()
    chunk = b"BDAT 1024\r\n" + b"x" * 1024

    replies = exchange.say_in([chunk] * 500)

    assert codes(replies) == [250] * 500
    exchange.say(b"BDAT 0 LAST\r\n")
    assert exchange.messages == [b"x" * 1024 * 500]


def test_chunks_that_bring_nothing_have_an_end() -> None:
    exchange = Exchange()
    exchange.open_transaction()

    replies = codes(exchange.say(b"BDAT 0\r\n" * 200))

    assert replies[-1] == 421
    assert len(replies) <= MAX_IDLE_COMMANDS


# -- size


def test_a_declared_size_is_refused_before_it_travels() -> None:
    exchange = Exchange(max_message=1000)

    replies = exchange.say(b"EHLO me\r\nMAIL FROM:<a@b> SIZE=1001\r\n")

    assert replies.endswith(b"552 5.3.4 Message too big: at most 1000 octets\r\n")


def test_the_size_itself_is_taken_and_one_more_is_not() -> None:
    for extra, reply in ((0, b"250 2.0.0 ID\r\n"), (1, b"552 5.3.4")):
        for prefix, suffix in (
            (b"DATA\r\n", b".\r\n"),
            (b"BDAT %d LAST\r\n" % (1000 + extra), b""),
        ):
            exchange = Exchange(max_message=1000)
            exchange.open_transaction()
            exchange.say(prefix)
            replies = exchange.say(b"x" * (998 + extra) + b"\r\n" + suffix)
            assert replies.startswith(reply)
            assert codes(exchange.say(b"NOOP\r\n")) == [250]


def test_stuffed_dots_do_not_count_for_the_size() -> None:
    exchange = Exchange(max_message=1000)
    exchange.open_transaction()

    exchange.say(b"DATA\r\n" + b"..\r\n" * 333 + b".\r\n")

    assert exchange.messages == [b".\r\n" * 333]


def test_a_message_too_big_over_several_chunks() -> None:
    exchange = Exchange(max_message=1000)
    exchange.open_transaction()

    replies = exchange.say((b"BDAT 600\r\n" + b"x" * 600) * 3 + b"NOOP\r\n")

    assert codes(replies) == [250, 552, 503, 250]
    assert [type(event) for event in exchange.events][-1] is Aborted


@pytest.mark.parametrize("how", ["whole", "split", "BDAT"])
def test_a_message_far_too_big_ends_the_session(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_module, "PIECE", 100)
    exchange = Exchange(max_message=1000)
    exchange.open_transaction()
    content = b"x" * 2001

    if how == "BDAT":
        replies = exchange.say(b"BDAT 2001 LAST\r\n" + content)
    else:
        exchange.say(b"DATA\r\n")
        wire = content + b"\r\n.\r\nNOOP\r\n"
        replies = exchange.say_in([wire] if how == "whole" else [wire[:1999], wire[1999:]])

    assert codes(replies) == [552]
    assert exchange.closed


# -- limits of a session


def test_recipients_beyond_the_limit_hear_452_and_the_others_are_served() -> None:
    exchange = Exchange(max_recipients=100)
    exchange.say(b"EHLO me\r\nMAIL FROM:<a@x>\r\n")

    replies = exchange.say(b"RCPT TO:<b@y>\r\n" * 400 + b"DATA\r\n.\r\n")

    assert codes(replies) == [250] * 100 + [452] * 300 + [354, 250]


def test_recipients_without_end_have_one() -> None:
    exchange = Exchange(max_recipients=100)
    exchange.say(b"EHLO me\r\nMAIL FROM:<a@x>\r\n")

    replies = codes(exchange.say(b"RCPT TO:<b@y>\r\n" * 2000))

    assert replies[-1] == 421
    assert len(replies) <= 100 * 10 + MAX_IDLE_COMMANDS


def test_a_refused_message_for_many_is_not_the_end() -> None:
    exchange = Exchange(refusals={EndOfMessage: (451, "4.3.0", "Later")})
    envelope = b"MAIL FROM:<a@x>\r\n" + b"RCPT TO:<b@y>\r\n" * 500
    exchange.say(b"EHLO me\r\n")

    for _ in range(3):
        assert codes(exchange.say(envelope + b"DATA\r\n.\r\n"))[-2:] == [354, 451]


def test_too_many_errors_end_the_session() -> None:
    exchange = Exchange()

    replies = codes(exchange.say(b"FOO\r\n" * (MAX_ERRORS + 5)))

    assert replies == [500] * MAX_ERRORS + [421]
    assert exchange.closed == "Too many errors"


def test_what_is_refused_is_an_error_too() -> None:
    exchange = Exchange(refusals={Mail: (550, "5.7.1", "no")})
    exchange.say(b"EHLO me\r\n")

    replies = codes(exchange.say(b"MAIL FROM:<a@x>\r\n" * (MAX_ERRORS + 5)))

    assert replies == [550] * (MAX_ERRORS + 1) + [421]
    assert exchange.closed == "Too many errors"


def test_recipients_that_are_refused_do_not_cost_the_others_their_message() -> None:
    exchange = Exchange(refusals={Rcpt: (550, "5.1.2", "no")})
    exchange.say(b"EHLO me\r\nMAIL FROM:<a@x>\r\n")
    assert codes(exchange.say(b"RCPT TO:<b@y>\r\n" * (2 * MAX_ERRORS))) == [550] * 2 * MAX_ERRORS

    exchange.refusals.clear()
    replies = codes(exchange.say(b"RCPT TO:<b@y>\r\nDATA\r\n.\r\nMAIL FROM:<a@x>\r\n"))

    assert replies == [250, 354, 250, 421]


@pytest.mark.parametrize("line", [b"NOOP", b"RSET", b"EHLO me", b"VRFY x"])
def test_commands_without_progress_end_the_session(line: bytes) -> None:
    exchange = Exchange()

    replies = codes(exchange.say((line + b"\r\n") * (MAX_IDLE_COMMANDS + 5)))

    assert replies[-1] == 421
    assert len(replies) == MAX_IDLE_COMMANDS + 1


def test_a_message_is_progress() -> None:
    exchange = Exchange()
    exchange.say(b"EHLO me\r\n")
    one = b"NOOP\r\n" * 50 + b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n.\r\n"

    for _ in range(10):
        exchange.say(one)

    assert len(exchange.messages) == 10


def test_the_longest_line_is_taken_and_a_longer_one_ends_the_session() -> None:
    longest = b"NOOP " + b"x" * (MAX_LINE - 6) + b"\r\n"
    assert len(longest) == MAX_LINE + 1

    for lengths in ([], [MAX_LINE], [1, 1]):
        exchange = Exchange()
        portions = [longest[sum(lengths[:i]) :][:n] for i, n in enumerate(lengths)]
        assert codes(exchange.say_in([*portions, longest[sum(lengths) :]])) == [250]
        replies = exchange.say_in([longest[:5], b"x", longest[5:]])
        assert replies == b"500 5.5.2 Command line too long\r\n"
        assert exchange.closed


@pytest.mark.parametrize("octets", [b"x" * 5000, b"NOOP " * 1000, b"\0" * 5000])
def test_octets_without_a_line_end_are_not_gathered(octets: bytes) -> None:
    exchange = Exchange()

    replies = exchange.say_in([octets[place : place + 100] for place in range(0, 5000, 100)])

    assert codes(replies) == [500]
    assert exchange.most_buffered <= MAX_LINE + 100


# -- line ends


@pytest.mark.parametrize(
    "line", [b"NOOP\rNOOP\r\n", b"NOOP a\0b\r\n", b"NOOP\r\r\n", b"NOOP \r \r\n"]
)
def test_a_command_ends_in_crlf_and_has_no_other(line: bytes) -> None:
    exchange = Exchange()

    assert codes(exchange.say(line + b"NOOP\r\n")) == [500, 250]


@pytest.mark.parametrize(
    "line", [b"NOOP\nNOOP\r\n", b"NOOP\n\r\n", b"\nNOOP\r\n", b"NOOP\r\0\n\r\n"]
)
def test_what_stands_behind_a_bare_lf_is_no_command(line: bytes) -> None:
    for one, two in cut_in_two(line):
        exchange = Exchange()
        assert codes(exchange.say_in([one, two]) + exchange.say(b"NOOP\r\n")) == [500, 500, 250]


@pytest.mark.parametrize("bad", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\n", b"a\n.\nb\r\n"])
@pytest.mark.parametrize("command", ["DATA", "BDAT"])
def test_bare_line_ends_are_refused(bad: bytes, command: str) -> None:
    assert send(bad, command) == (
        [], b"550 5.6.0 Message contains a bare CR or LF; lines must end in CRLF\r\n",
    )  # fmt: skip


@pytest.mark.parametrize("command", ["DATA", "BDAT"])
def test_a_nul_is_refused(command: str) -> None:
    assert send(b"a\0b\r\n", command) == ([], b"550 5.6.0 Message contains a NUL octet\r\n")


@pytest.mark.parametrize("command", ["DATA", "BDAT"])
@pytest.mark.parametrize(
    ("bad", "stored"),
    [
        (b"a\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n", b"a b\r\n"),
        (b"a\0b\r\n", b"ab\r\n"),
        (b"a\n.\nMAIL\r\n", b"a\r\n.\r\nMAIL\r\n"),
    ],
)
def test_or_repaired_when_told_to(bad: bytes, stored: bytes, command: str) -> None:
    assert send(bad, command, repair_line_endings=True) == ([stored], b"250 2.0.0 ID\r\n")


def send(content: bytes, command: str, **settings: object) -> tuple[list[bytes], bytes]:
    exchange = Exchange(**settings)
    exchange.open_transaction()
    if command == "BDAT":
        replies = exchange.say(b"BDAT %d LAST\r\n%b" % (len(content), content))
    else:
        exchange.say(b"DATA\r\n")
        replies = exchange.say(content + b".\r\n")
    assert codes(exchange.say(b"NOOP\r\n")) == [250]
    return exchange.messages, replies


def test_a_chunk_may_end_in_a_cr_that_has_no_lf_when_repaired() -> None:
    exchange = Exchange(repair_line_endings=True)
    exchange.open_transaction()

    exchange.say(b"BDAT 2\r\na\rBDAT 0 LAST\r\n")

    assert exchange.messages == [b"a "]


SMUGGLED = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@y.test>\r\nDATA\r\nevil\r\n"


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(
    "trick",
    [
        b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\n.\r", b"\r.\n", b"\r.\r\n",
        b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\0\n", b"\r\0\n.\r\n", b"\r\r\n.\r\r\n",
        b"\r\n.\r\r\n", b"\r\n..\r\n", b"\r\n. \r\n",
    ],
)  # fmt: skip
def test_nothing_is_smuggled(trick: bytes, repair: bool) -> None:
    exchange = Exchange(repair_line_endings=repair)
    exchange.open_transaction()

    replies = exchange.say(b"DATA\r\nhello" + trick + SMUGGLED + b".\r\nNOOP\r\n")

    assert len(codes(replies)) == 3  # 354, the answer to the message, NOOP
    assert len(exchange.messages) <= 1
    assert sum(isinstance(event, Mail) for event in exchange.events) == 1
    for message in exchange.messages:
        assert b"\0" not in message
        assert message.count(b"\r\n") == message.count(b"\r") == message.count(b"\n")
    if trick not in (b"\r\n..\r\n", b"\r\n. \r\n") and not repair:
        assert codes(replies)[1] == 550


# -- STARTTLS


def test_starttls_forgets_everything_and_is_not_offered_again() -> None:
    exchange = Exchange(starttls=True)
    exchange.open_transaction()

    assert exchange.say(b"STARTTLS\r\n") == b"220 2.0.0 Go ahead\r\n"
    assert isinstance(exchange.events[-1], StartTls)
    assert exchange.session.hello == b""

    replies = exchange.say(b"RCPT TO:<b@y>\r\nMAIL FROM:<a@x>\r\nEHLO me\r\nSTARTTLS\r\n")
    assert codes(replies) == [503, 503, 250, 503]
    assert b"250-STARTTLS" not in replies


def test_a_handshake_can_be_refused() -> None:
    exchange = Exchange(starttls=True)
    exchange.refusals[StartTls] = (421, "4.7.0", "Too many handshakes")

    replies = exchange.say(b"EHLO me\r\nSTARTTLS\r\n")

    assert replies.endswith(b"\r\n421 4.7.0 Too many handshakes\r\n")
    assert b"Go ahead" not in replies
    assert exchange.closed


@pytest.mark.parametrize("behind", [b"EHLO me\r\n", b"x", b"\x16\x03\x01", b"\r\n"])
def test_octets_behind_starttls_end_the_session(behind: bytes) -> None:
    exchange = Exchange(starttls=True)

    replies = exchange.say(b"EHLO me\r\nSTARTTLS\r\n" + behind)

    assert codes(replies) == [250, 501]
    assert exchange.closed
    assert not any(isinstance(event, StartTls) for event in exchange.events)


def test_starttls_takes_no_argument() -> None:
    assert codes(Exchange(starttls=True).say(b"STARTTLS now\r\n")) == [501]


def test_mail_needs_tls_when_it_is_required() -> None:
    exchange = Exchange(starttls=True, tls_required=True)

    replies = exchange.say(b"EHLO me\r\nMAIL FROM:<a@x>\r\nNOOP\r\n")
    assert replies.endswith(b"530 5.7.0 Must issue a STARTTLS command first\r\n250 2.0.0 OK\r\n")

    exchange.say(b"STARTTLS\r\n")
    exchange.open_transaction()


# -- REQUIRETLS


def test_requiretls_is_offered_and_taken_under_tls_only() -> None:
    exchange = Exchange(starttls=True, requiretls=True)
    mail = b"MAIL FROM:<a@x.test> REQUIRETLS\r\n"

    replies = exchange.say(b"EHLO me\r\n" + mail)
    assert b"REQUIRETLS\r\n" not in replies
    assert replies.endswith(b"555 5.5.4 MAIL parameter REQUIRETLS not recognised or bad\r\n")

    exchange.say(b"STARTTLS\r\n")
    replies = exchange.say(b"EHLO me\r\n" + mail)
    assert b"250-REQUIRETLS\r\n" in replies
    assert codes(replies) == [250, 250]
    assert exchange.events[-1] == Mail(b"a@x.test", requiretls=True)


def test_requiretls_can_be_switched_off() -> None:
    exchange = Exchange(starttls=True)
    exchange.say(b"STARTTLS\r\n")

    replies = exchange.say(b"EHLO me\r\nMAIL FROM:<a@x.test> REQUIRETLS\r\n")

    assert b"250-REQUIRETLS" not in replies
    assert codes(replies) == [250, 555]


# -- SMTPUTF8


def test_a_transaction_says_whether_it_is_utf8() -> None:
    exchange = Exchange()
    assert not exchange.session.utf8

    exchange.open_transaction(sender="ä@x.test".encode(), parameters=b" SMTPUTF8")
    assert exchange.session.utf8
    assert codes(exchange.say("RCPT TO:<ö@y.test>\r\nRSET\r\n".encode())) == [250, 250]
    assert not exchange.session.utf8


@pytest.mark.parametrize("verb", [b"GET", b"post", b"CONNECT", b"PUT", b"OPTIONS"])
def test_a_browser_is_not_listened_to(verb: bytes) -> None:
    exchange = Exchange()

    replies = exchange.say(
        verb + b" / HTTP/1.1\r\nHost: gw.example.net\r\n\r\nEHLO me\r\nMAIL FROM:<a@x.test>\r\n"
    )

    assert replies == b"500 5.5.1 This is no web server\r\n"
    assert exchange.closed
    assert not any(isinstance(event, Mail) for event in exchange.events)
