"""A field on top: folded, encoded, and only one."""

from email import message_from_bytes, policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.rewrite import add_field

MESSAGE = b"From: a@acme.test\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("yes", b"X-Tag: yes\r\n"),
        ("", b"X-Tag:\r\n"),
        ("a  b\tc", b"X-Tag: a b c\r\n"),
        ("word " * 16, b"X-Tag:" + b" word" * 14 + b"\r\n word word\r\n"),
        ("x" * 90, b"X-Tag: " + b"x" * 90 + b"\r\n"),
        ("ä", b"X-Tag: =?utf-8?b?w6Q=?=\r\n"),
    ],
)  # fmt: skip
def test_the_field_octet_by_octet(value: str, field: bytes) -> None:
    assert add_field(MESSAGE, "X-Tag", value) == field + MESSAGE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X Tag", "a"),
        ("X-Tag:", "a"),
        ("", "a"),
        ("Ü", "a"),
        ("X\r\nBcc", "a"),
        ("X", "a\r\nBcc: b"),
        ("X", "a\nb"),
        ("X", "\0"),
        ("X" * 77, "a"),
    ],
)
def test_nothing_else_can_be_put_in(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"header field|control character"):
        add_field(MESSAGE, name, value)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=300))
def test_any_value_is_read_again(value: str) -> None:
    added = add_field(MESSAGE, "X-Tag", value)

    assert added.endswith(MESSAGE)
    head = added.removesuffix(MESSAGE)
    lines = head.split(b"\r\n")
    assert all(len(line) <= 998 for line in lines)
    assert all(len(line) <= 78 or b" " not in line.strip() for line in lines[1:])
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:-1])
    parsed = message_from_bytes(added, policy=policy.compat32)
    assert parsed["From"] == "a@acme.test"
    said = "".join(parsed["X-Tag"].splitlines())
    said = str(make_header(decode_header(said))) if not value.isascii() else said
    assert said.split() == value.split()
