import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dkim.tags import Unproven, parse_tags, read_host, read_list, read_octets


def test_tags_are_read_without_the_blanks_around_them() -> None:
    text = b" v = 1;\r\n\ta=rsa-sha256 ; b= a b\r\n\tc;n=x=y;"

    assert parse_tags(text) == {b"v": b"1", b"a": b"rsa-sha256", b"b": b"a b\r\n\tc", b"n": b"x=y"}
    assert parse_tags(b"") == {}
    assert parse_tags(b"p=; ;") == {b"p": b""}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"v=1; v=1", "v= is there twice"),
        (b"v=1; words", "cannot be read"),
        (b"v=1; =2", "cannot be read"),
        (b"1v=1", "cannot be read"),
        (b"v\xff=1", "cannot be read"),
        (b"%b=1;%b=1" % (b"a" * 99, b"a" * 99), "^" + "a" * 20 + "= is there twice"),
    ],
)
def test_what_is_no_list_of_tags(text: bytes, words: str) -> None:
    with pytest.raises(Unproven, match=words):
        parse_tags(text)


@given(st.binary())
def test_any_octets_are_tags_or_unproven(text: bytes) -> None:
    try:
        tags = parse_tags(text)
    except Unproven:
        return
    assert all(name.isalnum() or b"_" in name for name in tags)


def test_names_in_the_dns() -> None:
    assert read_host(b"S1._x.Acme.EXAMPLE") == "s1._x.acme.example"
    for bad in (
        b"",
        b"a..b",
        b".a",
        b"a.",
        b"a b",
        b"a\n",
        b"\xfc.example",
        b"a" * 64,
        b"a." * 127,
    ):
        assert read_host(bad) == ""


def test_lists() -> None:
    assert read_list(b"From :\r\n\tTo:from") == [b"from", b"to", b"from"]


def test_base64_may_be_folded_and_nothing_else() -> None:
    octets = bytes(range(200))
    text = base64.b64encode(octets)

    assert read_octets(text[:30] + b"\r\n\t" + text[30:] + b" ") == octets
    assert read_octets(b"") == b""
    for bad in (text[:-1], text + b"=", b"ab!d", b"a", b"\xff" * 4):
        with pytest.raises(Unproven, match="base64"):
            read_octets(bad)
