import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.archive import make_entry
from relay.archive.entry import complete, decode_entry, encode_entry
from relay.errors import ArchiveDamaged
from relay.model import Envelope, Recipient, make_message_id

ENVELOPE = Envelope(b"s@acme.example", (Recipient(b"r@example.com"),), ret=b"HDRS", tls="required")


def make_one(envelope: Envelope = ENVELOPE, message: bytes = b"") -> bytes:
    entry = make_entry(
        envelope, message_id=make_message_id(0), tenant="acme", time=1.5, client="192.0.2.1"
    )
    return encode_entry(complete(entry, message))


def test_the_line_is_json_for_other_programs() -> None:
    said = json.loads(make_one())

    assert said["format"] == 1
    assert said["recipients"] == ["r@example.com"]
    assert said["tls_demand"] == "required"
    assert said["ret"] == "HDRS"


@given(st.binary(max_size=40), st.lists(st.binary(max_size=40), max_size=5), st.binary())
def test_whatever_a_peer_says_is_one_line(
    sender: bytes, people: list[bytes], message: bytes
) -> None:
    line = make_one(Envelope(sender, tuple(map(Recipient, people))), message)

    assert line.index(b"\n") == len(line) - 1
    assert encode_entry(decode_entry(line)) == line


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (b"Message-ID: <a@b>\r\n\r\n", "<a@b>"),
        (b"Received: x\r\nMESSAGE-id :\r\n <a@b>\r\nX: y\r\n\r\n", "<a@b>"),
        (b"Message-ID: bare@b (comment)\r\n\r\n", "bare@b"),
        (b"X-Message-ID: <a@b>\r\n\r\n", ""),
        (b"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n", ""),
        (b"Message-ID:\r\n\r\n<a@b>", ""),
        (b"", ""),
    ],
)
def test_message_id(message: bytes, found: str) -> None:
    assert decode_entry(make_one(message=message)).message_id == found


def test_a_newer_format_is_not_guessed_at() -> None:
    line = make_one().replace(b'"format":1', b'"format":2')

    with pytest.raises(ArchiveDamaged, match="use a newer outgate"):
        decode_entry(line)


def test_new_fields_are_passed_over() -> None:
    assert (
        decode_entry(make_one().replace(b'{"format"', b'{"colour":"red","format"')).tenant == "acme"
    )


@given(st.binary())
def test_what_is_no_entry(line: bytes) -> None:
    with pytest.raises(ArchiveDamaged):
        decode_entry(line)


def test_what_is_nested_deeper_than_can_be_read_is_no_entry() -> None:
    with pytest.raises(ArchiveDamaged, match="recursion"):
        decode_entry(b'{"x":' + b"[" * 100_000)
