import time

import pytest

from relay.smtp import grammar

ADDRESSES = [
    b"a@b",
    b"first.last@example.com",
    b"dots..in.a.row.@docomo.example",
    b"!#$%&'*+-/=?^_`{|}~@x.test",
    b'"quoted@local"@x.test',
    b'"with\\"quote"@x.test',
    b"a@[192.0.2.1]",
    b"a@[IPv6:2001:db8::1]",
    b"a@under_score.test",
    b"a@trailing.dot.",
    "jö@bücher.test".encode(),
]
NO_ADDRESSES = [
    b"a",
    b"@x.test",
    b"a@",
    b"a@.x",
    b"a@x..y",
    b"a@-x",
    b"a@x-",
    b"a b@x",
    b'"a b"@x',
    b'"a<b"@x',
    b"a@x y",
    b"a\x00@x",
    b"a\r@x",
    b"a@x\n",
    b'"a\n"@x',
    b'"open@x',
    b"a@b@c",
    b"a@[192.0.2.1",
    b"a<@x",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_read(address: bytes) -> None:
    for prefix in (b"<", b" <", b"<@relay.test,@other.test:"):
        found = grammar.REVERSE_PATH.fullmatch(b"FROM:" + prefix + address + b">")
        assert found is not None
        assert found[1] == address
        assert grammar.FORWARD_PATH.fullmatch(b"to:" + prefix + address + b">")


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_is_not_read(address: bytes) -> None:
    assert not grammar.REVERSE_PATH.fullmatch(b"FROM:<" + address + b">")
    assert not grammar.FORWARD_PATH.fullmatch(b"TO:<" + address + b">")


def test_the_null_sender_is_a_reverse_path_only() -> None:
    assert grammar.REVERSE_PATH.fullmatch(b"FROM:<>")
    assert not grammar.FORWARD_PATH.fullmatch(b"TO:<>")


def test_postmaster_needs_no_domain_as_a_recipient_only() -> None:
    assert grammar.FORWARD_PATH.fullmatch(b"TO:<PostMaster>")
    assert not grammar.REVERSE_PATH.fullmatch(b"FROM:<postmaster>")


@pytest.mark.parametrize("argument", [b"FROM:a@b", b"FROM:<a@b", b"<a@b>", b"FROM <a@b>", b""])
def test_a_path_needs_its_brackets(argument: bytes) -> None:
    assert not grammar.REVERSE_PATH.fullmatch(argument)


def test_parameters_need_a_blank_before_them() -> None:
    found = grammar.REVERSE_PATH.fullmatch(b"FROM:<a@b>  SIZE=1  BODY=7BIT ")
    assert found is not None
    assert found[2].split() == [b"SIZE=1", b"BODY=7BIT"]
    assert not grammar.REVERSE_PATH.fullmatch(b"FROM:<a@b>SIZE=1")


@pytest.mark.parametrize(
    ("argument", "size", "last"),
    [(b"0", b"0", False), (b"10 LAST", b"10", True), (b"7 last ", b"7", True)],
)
def test_chunks(argument: bytes, size: bytes, last: bool) -> None:
    found = grammar.CHUNK.fullmatch(argument)
    assert found is not None
    assert (found[1], found[2] is not None) == (size, last)


@pytest.mark.parametrize("argument", [b"", b"-1", b"+1", b"1LAST", b"1 LAST x", b"0x1", b"1" * 11])
def test_no_chunks(argument: bytes) -> None:
    assert not grammar.CHUNK.fullmatch(argument)


@pytest.mark.parametrize("value", [b"a", b"a+2Bb", b"rfc822;x", b"QQ314159"])
def test_xtext(value: bytes) -> None:
    assert grammar.XTEXT.fullmatch(value)


@pytest.mark.parametrize("value", [b"", b"a b", b"a=b", b"+2", b"+2b", b"+", b"\x80"])
def test_no_xtext(value: bytes) -> None:
    assert not grammar.XTEXT.fullmatch(value)


@pytest.mark.parametrize(
    "argument",
    [
        b"FROM:<" + b"a" * 2000,
        b"FROM:<" + b"a." * 1000 + b"@",
        b"FROM:<a@" + b"a-" * 1000,
        b"FROM:<a@" + b"a." * 1000 + b"!",
        b"FROM:<@" + b"a,@" * 600 + b"!",
        b'FROM:<"' + b"\\a" * 1000,
        b"FROM:<a@b>" + b" a" * 1000 + b"\x00",
        b"FROM:" + b" " * 2000 + b"!",
    ],
)
def test_no_line_takes_long_to_refuse(argument: bytes) -> None:
    start = time.thread_time()

    assert not grammar.REVERSE_PATH.fullmatch(argument)

    # Backtracking that grows with the square of the line would take a hundred times as long.
    assert time.thread_time() - start < 0.01
