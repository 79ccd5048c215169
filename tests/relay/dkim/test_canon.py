"""Canonical forms, against a second way to make them that is slow and plain."""

import itertools
import re
import time
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dkim.canon import BODIES, Form, RelaxedBody, SimpleBody, relax_field

each_form = pytest.mark.parametrize("form", BODIES)


def make_plainly(body: bytes, form: Form) -> bytes:
    lines = body.split(b"\r\n")
    if form == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).removesuffix(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines) or (b"\r\n" if form == "simple" else b"")


def hash_pieces(form: Form, pieces: list[bytes]) -> tuple[bytes, int]:
    body = BODIES[form]()
    for piece in pieces:
        body.feed(piece)
    return body.finish(), body.length


def expect(body: bytes, form: Form) -> tuple[bytes, int]:
    plain = make_plainly(body, form)
    return sha256(plain).digest(), len(plain)


# The examples of RFC 6376 §3.4.5.


def test_the_examples_of_the_rfc() -> None:
    assert relax_field(b"A: X") == b"a:X"
    assert relax_field(b"B : Y\t\r\n\tZ  ") == b"b:Y Z"
    body = b" C \r\nD \t E\r\n\r\n\r\n"
    assert hash_pieces("relaxed", [body])[0] == sha256(b" C\r\nD E\r\n").digest()
    assert hash_pieces("simple", [body])[0] == sha256(b" C \r\nD \t E\r\n").digest()


def test_an_empty_body() -> None:
    # The digests that RFC 6376 §3.4.3 and §3.4.4 name, with SHA-256.
    assert hash_pieces("simple", [])[0].hex().startswith("7eb70257593da06f682a3ddda54a9d26")
    assert hash_pieces("relaxed", [])[0].hex().startswith("e3b0c44298fc1c149afbf4c8996fb924")


def test_a_folded_name() -> None:
    assert relax_field(b"From\r\n : a") == b"from:a"
    assert relax_field(b"no colon") == b"no colon:"


@each_form
def test_all_short_bodies(form: Form) -> None:
    """Every body of up to six octets that matter, octet by octet and whole."""
    for size in range(7):
        for octets in itertools.product(b"a \r\n", repeat=size):
            body = bytes(octets)
            expected = expect(body, form)
            assert hash_pieces(form, [body]) == expected, body
            assert hash_pieces(form, [body[i : i + 1] for i in range(size)]) == expected, body


BITS = st.sampled_from([b"a", b"words", b" ", b"\t", b"   ", b"\r\n", b"\r\n\r\n", b"\r", b"\n"])


@each_form
@given(pieces=st.lists(st.lists(BITS, max_size=8).map(b"".join), max_size=12))
def test_any_body_cut_anywhere(form: Form, pieces: list[bytes]) -> None:
    assert hash_pieces(form, pieces) == expect(b"".join(pieces), form)


@each_form
@given(pieces=st.lists(st.binary(max_size=30), max_size=5))
def test_any_octets(form: Form, pieces: list[bytes]) -> None:
    assert hash_pieces(form, pieces) == expect(b"".join(pieces), form)


@each_form
@pytest.mark.parametrize("unit", [b"\r\n", b" ", b"\t \r\n", b"\r", b"\n"])
def test_a_long_run_is_a_number_and_no_memory(form: Form, unit: bytes) -> None:
    body = BODIES[form]()
    piece = unit * (65_536 // len(unit))
    for _ in range(20):
        body.feed(piece)

    assert len(body._carry) <= 2
    body.feed(b"x\r\n")
    assert body.finish() == expect(piece * 20 + b"x\r\n", form)[0]


def test_a_hostile_body_takes_not_much_longer() -> None:
    """Linear, whatever it is: a second for 4 MiB would be a hundred times too long."""
    size = 4 << 20
    for unit in (b" ", b"x \t", b"\r\n", b" \r\n", b"\r", b"x" * 500 + b" " * 500):
        for kind in (SimpleBody, RelaxedBody):
            body = kind()
            started = time.process_time()
            body.feed(unit * (size // len(unit)))
            body.finish()
            assert time.process_time() - started < 1
