"""Header fields at the beginning of a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingress.head import (
    HEAD_OCTETS,
    MESSAGE_ID_OCTETS,
    cut_head,
    find_message_id,
    find_values,
    take_head,
)


@pytest.mark.parametrize(
    ("beginning", "values"),
    [
        (b"P: bulk\r\n\r\n", [b"bulk"]),
        (b"A: 1\r\np:  Bulk \t\r\nB: 2\r\n\r\nbody", [b"Bulk"]),
        (b"P :bulk\r\n", [b"bulk"]),
        (b"P:\r\n bulk\r\nB: 2\r\n\r\n", [b"bulk"]),
        (b"P: bu\r\n\tlk\r\n\r\n", [b"bu lk"]),
        (b"P: 1\r\nP: 2\r\n\r\n", [b"1", b"2"]),
        (b"P:\r\n\r\nbody", [b""]),
        # Only the whole name, in the head, at the beginning of a line.
        (b"PP: bulk\r\nA-P: bulk\r\nP-A: bulk\r\nP\r\n\r\n", []),
        (b"A: 1\r\n P: bulk\r\n\r\n", []),
        (b"A: 1\r\n\r\nP: bulk\r\n", []),
        (b"\r\nP: bulk\r\n", []),
        # The piece ends in the middle of it.
        (b"A: 1\r\nP: bul", []),
        (b"", []),
    ],
)
def test_field_is_found_in_the_head(beginning: bytes, values: list[bytes]) -> None:
    assert list(find_values(beginning, "P")) == values


def test_head_is_searched_so_far_and_no_further() -> None:
    filling = b"A: " + b"x" * 60 + b"\r\n"
    early = filling * (HEAD_OCTETS // len(filling) - 1)

    assert list(find_values(early + b"P: 1\r\n\r\n", "p")) == [b"1"]
    assert list(find_values(early + filling * 2 + b"P: 1\r\n\r\n", "p")) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"P", b"p", b"Pp", b"Subject"]),
            st.lists(st.sampled_from([b"bulk", b"P:", b"urgent", b"x"]), max_size=3),
            st.sampled_from([b" ", b"\r\n ", b" \r\n\t", b"\t"]),
        )
    ),
    st.binary(max_size=30),
)
def test_fields_are_read_as_they_were_written(
    fields: list[tuple[bytes, list[bytes], bytes]], body: bytes
) -> None:
    head = b"".join(name + b":" + fold + fold.join(words) + b"\r\n" for name, words, fold in fields)
    expected = [b" ".join(words) for name, words, _ in fields if name.lower() == b"p"]

    assert list(find_values(head + b"\r\n" + body, "P")) == expected


@pytest.mark.parametrize(
    ("message", "head"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\n", b"A: 1\r\nB: 2\r\n"),
        (b"\r\nA: 1\r\n\r\n", b""),
        (b"A: 1\r\n", b"A: 1\r\n"),
        (b"A: 1", b"A: 1"),
        (b"", b""),
    ],
)
def test_the_head_ends_at_the_first_empty_line(message: bytes, head: bytes) -> None:
    assert take_head(message) == head


# -- the Message-ID field


def read_message_id(message: bytes) -> str:
    whole = b"Received: ours\r\n" + message
    return find_message_id(whole, cut_head(whole))


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (b"A: 1\r\nMessage-ID: <Ab.1@x.example>\r\nB: 2\r\n\r\nbody", "<Ab.1@x.example>"),
        (b"MESSAGE-ID:<Ab@x>\r\n\r\n", "<Ab@x>"),
        (b"Message-Id:\r\n <Ab@x>\r\n\r\n", "<Ab@x>"),
        (b"Message-Id: <Ab@\r\n\tx> \r\n\r\n", "<Ab@ x>"),
        (b"Message-ID: <Ab@x>", "<Ab@x>"),
        (b"Message-ID: <Ab@x>\r\n", "<Ab@x>"),
        (b"Message-ID: <1@x>\r\nMessage-ID: <2@x>\r\n\r\n", "<1@x>"),
        (b"Message-ID: <\xc3\xa9@x>\r\n\r\n", "<é@x>"),
        (b"Message-ID: <\x1b[2J\x07\xff@x>\r\n\r\n", "<\ufffd[2J\ufffd\ufffd@x>"),
        (b"Message-ID:\r\n\r\n", ""),
        (b"In-Reply-To: <a@x>\r\nX-Message-ID: <b@x>\r\n\r\n", ""),
        (b"A: 1\r\n\r\nMessage-ID: <a@x>\r\n", ""),
        (b"\r\nMessage-ID: <a@x>\r\n", ""),
    ],
)
def test_message_id_is_found_in_the_head(message: bytes, value: str) -> None:
    assert read_message_id(message) == value


@pytest.mark.parametrize("separator", [b"", b"\r\n "])
def test_message_id_is_never_long(separator: bytes) -> None:
    value = read_message_id(b"Message-ID: " + (b"x" * 200 + separator) * 500 + b"\r\n\r\n")

    assert len(value) == MESSAGE_ID_OCTETS


@given(st.binary(max_size=400))
def test_message_id_can_be_shown_whatever_it_is(octets: bytes) -> None:
    value = read_message_id(b"Message-ID: " + octets + b"\r\n\r\n")

    assert value.isprintable()
    assert len(value) <= MESSAGE_ID_OCTETS
