import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingress.author import find_authors


@pytest.mark.parametrize(
    ("head", "domains"),
    [
        (b"From: a@acme.example\r\n", ("acme.example",)),
        (b"A: 1\r\nfrom:A@ACME.example.\r\nB: 2\r\n", ("acme.example",)),
        (b"From : Ann <a@acme.example>\r\n", ("acme.example",)),
        (b"From: <a@acme.example>\r\n", ("acme.example",)),
        (b'From: "Ann, of <b@evil.test>" <a@acme.example>\r\n', ("acme.example",)),
        (b"From: Ann (b@evil.test) <a@acme.example>\r\n", ("acme.example",)),
        (b"From: a@acme.example (Ann (of Acme))\r\n", ("acme.example",)),
        (b'From: "Ann \\" b@evil.test" <a@acme.example>\r\n', ("acme.example",)),
        (b"From:\r\n Ann\r\n <a@acme.example>\r\n", ("acme.example",)),
        (b"From: =?utf-8?q?Ann?= <a@acme.example>\r\n", ("acme.example",)),
        ("From: Änne <ä@bücher.example>\r\n".encode(), ("xn--bcher-kva.example",)),
        (b"From: a@acme.example, Bob <b@evil.test>\r\n", ("acme.example", "evil.test")),
        (b"From: a@acme.example <b@acme.example>\r\n", ("acme.example", "acme.example")),
        (b"From: b@evil.test <a@acme.example>\r\n", ("evil.test", "acme.example")),
        (b'From: "odd local"@acme.example\r\n', ("acme.example",)),
        # Nobody's.
        (b"", None),
        (b"Subject: x\r\n", None),
        (b"From:\r\n", None),
        (b"From: a@acme.example\r\nFrom: b@acme.example\r\n", None),
        (b"From: a@acme.example\r\nX: 1\r\nFROM: a@acme.example\r\n", None),
        # Others that some readers find: folded before the colon, or without an end (which it gets).
        (b"From: a@acme.example\r\nFrom\r\n : b@evil.test\r\n", None),
        (b"From\r\n : b@evil.test\r\nFrom: a@acme.example\r\n", None),
        (b"From: a@acme.example\r\nFrom: b@evil.test", None),
        (b" From: b@evil.test\r\nFrom: a@acme.example\r\n", None),
        (b"From: undisclosed\r\n", None),
        (b"From: <a@acme.example> <b@evil.test>\r\n", None),
        (b"From: b@evil.test@x <a@acme.example>\r\n", None),
        (b"From: <a@acme.example> b@evil.test\r\n", None),
        (b"From: a@evil.test@acme.example\r\n", None),
        (b"From: Group: a@acme.example;\r\n", None),
        (b"From: <@evil.test:a@acme.example>\r\n", None),
        (b"From: a@[192.0.2.1]\r\n", None),
        (b'From: "Ann <a@acme.example>\r\n', None),
        (b'From: "Ann \\" <a@acme.example>\r\n', None),
        (b"From: Ann (b \\) <a@acme.example>\r\n", None),
        (b"From: Ann (b (c) <a@acme.example>\r\n", None),
        (b"From: Ann (b <a@acme.example>\r\n", None),
        (b"From: a@acme.example,\r\n", None),
        (b"From: a@acme.example\r\nX: " + b"x" * 70_000 + b"\r\nFrom: b@evil.test\r\n", None),
        (b"From: " + b"a@acme.example, " * 100 + b"a@acme.example\r\n", None),
    ],
)
def test_the_domains_that_readers_are_shown(head: bytes, domains: tuple[str, ...] | None) -> None:
    assert find_authors(head) == domains


@given(value=st.binary(max_size=200))
def test_whatever_stands_there_there_is_an_answer(value: bytes) -> None:
    found = find_authors(b"From: " + value.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n")

    assert found is None or all(isinstance(domain, str) for domain in found)


@pytest.mark.parametrize("opening", [b'"', b"("])
def test_what_is_never_closed_is_looked_at_once(opening: bytes) -> None:
    head = b"From: " + opening + (b"\\" + opening) * 30_000 + b"\r\n"

    before = time.process_time()
    assert find_authors(head) is None

    assert time.process_time() - before < 1  # it took minutes
