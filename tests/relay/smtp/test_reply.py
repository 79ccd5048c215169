"""Replies: what is understood, what is refused, and that the way they arrive does not matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.reply import MAX_LINE, RemoteProtocolError, Reply, ReplyParser


def read(portions: list[bytes]) -> list[Reply | str]:
    """Return every reply, and the error's text if there is one."""
    parser = ReplyParser()
    found: list[Reply | str] = []
    for portion in portions:
        parser.feed(portion)
        try:
            while (reply := parser.next_reply()) is not None:
                found.append(reply)
        except RemoteProtocolError as error:
            return [*found, str(error)]
    return found


def one_by_one(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"250 ok\r\n", Reply(250, (b"ok",))),
        (b"250 ok\n", Reply(250, (b"ok",))),
        (b"250\r\n", Reply(250, (b"",))),
        (b"250 \r\n", Reply(250, (b"",))),
        (b"250-\r\n250\r\n", Reply(250, (b"", b""))),
        (b"250-one\r\n250-two\n250 three\r\n", Reply(250, (b"one", b"two", b"three"))),
        (b"299 never heard of\r\n", Reply(299, (b"never heard of",))),
        (b"599 \xe9\xff\r\n", Reply(599, (b"\xe9\xff",))),
        (b"550 a\rb\r\n", Reply(550, (b"a\rb",))),
    ],
)
def test_a_reply_is_read(data: bytes, expected: Reply) -> None:
    assert read([data]) == [expected]
    assert read(one_by_one(data)) == [expected]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hello\r\n", "not an SMTP reply"),
        (b"\r\n", "not an SMTP reply"),
        (b"25\r\n", "not an SMTP reply"),
        (b"2500 ok\r\n", "not an SMTP reply"),
        (b"+25 ok\r\n", "not an SMTP reply"),
        (b"2_5 ok\r\n", "not an SMTP reply"),
        (b"\xb2\xb2\xb2 ok\r\n", "not an SMTP reply"),
        (b"199 early\r\n", "not an SMTP reply"),
        (b"600 late\r\n", "not an SMTP reply"),
        (b"250+ok\r\n", "not an SMTP reply"),
        (b"250-one\r\n550 two\r\n", "in one reply"),
        (b"250 " + b"x" * MAX_LINE + b"\r\n", "longer than 2048"),
        (b"x" * MAX_LINE, "longer than 2048"),
        (b"250-x\r\n" * 257, "longer than 256 lines"),
        ((b"250-" + b"x" * 2000 + b"\r\n") * 33, "or 65536 octets"),
    ],
)
def test_nonsense_is_refused(data: bytes, text: str) -> None:
    whole = read([b"220 before\r\n" + data])

    assert whole[0] == Reply(220, (b"before",))
    assert isinstance(whole[1], str)
    assert text in whole[1]
    assert read([b"220 before\r\n", *one_by_one(data)]) == whole


def test_limits_are_not_reached_by_what_just_fits() -> None:
    longest = b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n"
    lines = b"250-x\r\n" * 255 + b"250 x\r\n"

    assert [len(reply.lines) for reply in read([longest, lines])] == [1, 256]  # type: ignore[union-attr]


def test_after_an_error_there_is_nothing_but_the_error() -> None:
    parser = ReplyParser()
    parser.feed(b"oops\r\n250 ok\r\n")

    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="oops"):
            parser.next_reply()
        parser.feed(b"250 ok\r\n")


@pytest.mark.parametrize(
    ("data", "empty"),
    [(b"250 ok\r\n", True), (b"250 ok\r\n2", False), (b"250-ok\r\n", False), (b"", True)],
)
def test_is_empty_says_whether_anything_was_left(data: bytes, empty: bool) -> None:
    parser = ReplyParser()
    parser.feed(data)
    while parser.next_reply() is not None:
        pass

    assert parser.is_empty is empty


@pytest.mark.parametrize(
    ("code", "line", "status"),
    [
        (250, b"2.0.0 queued", "2.0.0"),
        (550, b"5.7.28", "5.7.28"),
        (421, b"4.7.28 [192.0.2.1] rate", "4.7.28"),
        (550, b"5.123.999 x", "5.123.999"),
        (450, b"5.1.1 the class is not the code's", ""),
        (354, b"3.0.0 there is no such class", ""),
        (550, b"5.1 two parts", ""),
        (550, b"5.1.1.1 four parts", ""),
        (550, b"5.1.1234 x", ""),
        (550, b"5..1 x", ""),
        (550, b"5.1.x x", ""),
        (550, b"5.1.1: x", ""),
        (550, b"no such user", ""),
        (550, b"", ""),
    ],
)
def test_the_enhanced_status_is_believed_when_it_agrees(
    code: int, line: bytes, status: str
) -> None:
    assert Reply(code, (line, b"2.0.0")).status == status


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ((b"one", b"two"), "one two"),
        ((b"caf\xc3\xa9",), "café"),
        ((b"caf\xe9!",), "caf\ufffd!"),
        ((b"a\tb\x00c\x1b[31md\re",), "a b?c?[31md?e"),
        (("a\u202eb\u2028c".encode(),), "a?b?c"),
        ((b"x" * 1024,), "x" * 1024),
        ((b"x" * 1025,), "x" * 1023 + "…"),
    ],
)
def test_text_is_fit_to_print(lines: tuple[bytes, ...], text: str) -> None:
    assert Reply(550, lines).text == text


def test_severity_is_the_first_digit() -> None:
    assert [Reply(code, (b"",)).severity for code in (250, 354, 421, 599)] == [2, 3, 4, 5]


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [b"250 ok\r\n", b"250-a\r\n", b"250 ", b"550-x\n", b"\r", b"\n", b"x" * 1500, b"421"]
        ),
    ),
    max_size=12,
)


@given(PIECES, st.integers(0, 200))
def test_the_same_replies_or_the_same_error_however_they_arrive(
    pieces: list[bytes], cut: int
) -> None:
    data = b"".join(pieces)

    whole = read([data])

    assert read(one_by_one(data)) == whole
    assert read([data[:cut], data[cut:]]) == whole
