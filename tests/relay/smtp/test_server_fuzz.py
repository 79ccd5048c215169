"""Whatever bytes arrive, whole or in pieces: the same events, the same replies, no exception."""

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

import relay.smtp.incoming as incoming_module
from relay.smtp.server import MAX_LINE, Data, EndOfMessage, Event, Mail, Rcpt
from relay.smtp.stuffing import DotStuffer
from tests.fuzz.session import END, PIECE, run
from tests.kit.receiving import Exchange, codes, cut_at

COMMANDS = st.sampled_from(
    [
        b"EHLO me\r\n",
        b"HELO me\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"MAIL FROM:<a@b> SIZE=61\r\n",
        b"MAIL FROM:<>\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"DATA\r\n",
        b"BDAT 4\r\n",
        b"BDAT 5 LAST\r\n",
        b"BDAT 0 LAST\r\n",
        b"BDAT 70\r\n",
        b"BDAT 121\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"NOOP\n",
        b"x" * MAX_LINE,
    ]
)
CONTENT = st.sampled_from(
    [b".\r\n", b"\r\n.\r\n", b"..\r\n", b"line\r\n", b"\r", b"\n", b"\0", b".", b"x" * 45]
)
ENVELOPE = b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
STREAMS = st.tuples(
    st.sampled_from([b"", ENVELOPE, ENVELOPE + b"DATA\r\n"]),
    st.lists(st.one_of(COMMANDS, CONTENT, CONTENT, st.binary(max_size=9)), max_size=25),
).map(lambda parts: parts[0] + b"".join(parts[1]) + END)
REFUSALS = st.dictionaries(
    st.sampled_from([Mail, Rcpt, Data, EndOfMessage]),
    st.sampled_from([(550, "5.0.0", "No"), (451, "4.0.0", "Later"), (421, "4.0.0", "Bye")]),
    max_size=2,
)


@given(STREAMS, REFUSALS, st.booleans(), st.lists(st.integers(0, 60), max_size=12))
@settings(max_examples=300)
def test_the_same_events_and_replies_however_it_is_split(
    stream: bytes,
    refusals: dict[type[Event], tuple[int, str, str]],
    repair: bool,
    cuts: list[int],
) -> None:
    with mock.patch.object(incoming_module, "PIECE", PIECE):
        whole = run([stream], refusals, repair=repair)
        assert run(cut_at(stream, cuts), refusals, repair=repair) == whole
        assert run([bytes([octet]) for octet in stream], refusals, repair=repair) == whole

    events, messages, replies = whole
    assert all(200 <= code < 600 for code in codes(replies))
    ends = sum(isinstance(event, EndOfMessage) for event in events)
    assert ends == len(messages) or EndOfMessage in refusals
    for message in messages:
        assert b"\0" not in message
        assert message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n")


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=30))
def test_nonsense_is_answered_and_bounded(portions: list[bytes]) -> None:
    exchange = Exchange(starttls=True)

    for portion in portions:
        codes(exchange.say(portion))
        assert exchange.most_buffered <= MAX_LINE + 200


LINES = st.lists(
    st.binary(max_size=12).map(lambda line: line.translate(None, b"\r\n\0"))
    | st.sampled_from([b"", b".", b"..", b"...", b".x"])
)


@given(LINES, st.lists(st.integers(0, 9), max_size=20), st.booleans())
def test_content_in_is_content_out(lines: list[bytes], cuts: list[int], repair: bool) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    exchange = Exchange(repair_line_endings=repair)
    with mock.patch.object(incoming_module, "PIECE", PIECE):
        exchange.open_transaction()
        exchange.say(b"DATA\r\n")
        exchange.say_in(cut_at(DotStuffer().write(content, last=True), cuts))
        exchange.open_transaction()
        exchange.say_in(cut_at(b"BDAT %d LAST\r\n%b" % (len(content), content), cuts))

    assert exchange.messages == [content, content]


@given(st.binary(max_size=40), st.lists(st.integers(0, 9), max_size=20))
def test_chunks_in_are_content_out(content: bytes, cuts: list[int]) -> None:
    exchange = Exchange()
    exchange.open_transaction()
    chunks = cut_at(content, cuts)

    replies = exchange.say(b"".join(b"BDAT %d\r\n%b" % (len(chunk), chunk) for chunk in chunks))
    replies += exchange.say(b"BDAT 0 LAST\r\n")

    good = content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    good = good and b"\0" not in content
    assert codes(replies) == [250] * len(chunks) + [250 if good else 550]
    assert exchange.messages == ([content] if good else [])
