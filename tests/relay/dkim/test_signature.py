import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dkim.signature import parse_signature, read_domain
from relay.dkim.tags import Unproven

NOW = 1_795_478_400.0
DIGEST = base64.b64encode(bytes(32)).decode()
TAGS = {
    "v": "1",
    "a": "rsa-sha256",
    "d": "Acme.example",
    "s": "S1",
    "h": "From : to:\r\n\tFROM",
    "bh": DIGEST,
    "b": "AAAA\r\n\tAAAA",
}


def write(**tags: str | None) -> bytes:
    text = "; ".join(
        f"{name}={value}" for name, value in (TAGS | tags).items() if value is not None
    )
    return f"DKIM-Signature: {text}".encode()


def test_what_is_left_out() -> None:
    signature = parse_signature(write(), now=NOW)

    assert (signature.terms.algorithm, signature.terms.domain, signature.terms.selector) == (
        "rsa",
        "acme.example",
        "s1",
    )
    assert (signature.terms.head_form, signature.terms.body_form) == ("simple", "simple")
    assert signature.terms.names == (b"from", b"to", b"from")
    assert signature.terms.identity == "acme.example"
    assert signature.terms.length is None
    assert (signature.digest, signature.seal) == (bytes(32), bytes(6))
    assert signature.unsealed == write(b="")


def test_everything() -> None:
    field = write(
        a="ed25519-SHA256", c="relaxed/simple", i="=20joe@News.acme.example", l="12",
        q="other:dns/txt", t=str(int(NOW)), x=str(int(NOW) + 1), z="Subject:a=3Bb=", y="unknown",
    )  # fmt: skip
    signature = parse_signature(field, now=NOW)

    assert signature.terms.algorithm == "ed25519"
    assert (signature.terms.head_form, signature.terms.body_form) == ("relaxed", "simple")
    assert (signature.terms.identity, signature.terms.length) == ("news.acme.example", 12)


@pytest.mark.parametrize(
    ("field", "unsealed"),
    [
        (b"dkim-signature:b=AAAA;%b", b"dkim-signature:b=;%b"),
        (b"dkim-signature:%b;b = AA\r\n AA \r\n ;n=b=x", b"dkim-signature:%b;b =;n=b=x"),
        (b"DKIM-Signature : %b ;\r\n\tb=AAAA\r\n\t", b"DKIM-Signature : %b ;\r\n\tb="),
    ],
)
def test_only_the_value_of_b_is_taken_out(field: bytes, unsealed: bytes) -> None:
    rest = write(b=None).partition(b": ")[2]

    assert parse_signature(field % rest, now=NOW).unsealed == unsealed % rest


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        *(({name: None}, f"{name}= is missing") for name in TAGS),
        *(({name: ""}, f"{name}= is missing") for name in TAGS),
        ({"v": "2"}, "v= is not 1"),
        ({"a": "rsa-sha1"}, "rsa-sha1"),
        ({"a": "dsa-sha256"}, "a= is not known"),
        ({"a": "rsa"}, "a= is not known"),
        ({"c": "relaxed/nofws"}, "c= is not known"),
        ({"c": "relaxed/simple/simple"}, "c= is not known"),
        ({"c": ""}, "c= is not known"),
        ({"c": "r\xe9laxed"}, "c= is not known"),
        ({"d": "a b"}, "is no name"),
        ({"s": "s/1"}, "is no name"),
        ({"h": "to:subject"}, "does not name From"),
        ({"h": "from:"}, "h= cannot be read"),
        ({"h": "from:a b"}, "h= cannot be read"),
        ({"h": "from" + ":x" * 500}, "h= names more than 500 fields"),
        ({"i": "joe@acme.example.org"}, "i= is not of d="),
        ({"i": "joe@evilacme.example"}, "i= is not of d="),
        ({"i": "joe@example"}, "i= is not of d="),
        ({"i": "acme.example"}, "i= is not of d="),
        ({"i": ""}, "i= is not of d="),
        ({"q": "http"}, "q= is not"),
        ({"bh": "AAAA"}, "bh= is no SHA-256"),
        ({"bh": "?"}, "base64"),
        ({"b": "?"}, "base64"),
        ({"b": "A" * 1368}, "b= is no signature"),
        ({"l": "-1"}, "l= is no number"),
        ({"l": "1" * 21}, "l= is no number"),
        ({"t": "soon"}, "t= is no number"),
        ({"t": str(int(NOW) + 86_402)}, "t= is in the future"),
        ({"x": str(int(NOW) - 1)}, "expired"),
        ({"x": ""}, "x= is no number"),
        ({"t": str(int(NOW)), "x": str(int(NOW))}, "x= is before t="),
        ({"D": "acme.example", "d": None}, "d= is missing"),
        ({"n": "x; v=1"}, "v= is there twice"),
        ({"n": "x" * 16_384}, "more than 16384 octets"),
    ],
)
def test_what_proves_nothing(tags: dict[str, str | None], words: str) -> None:
    with pytest.raises(Unproven, match=words):
        parse_signature(write(**tags), now=NOW)


def test_times_that_are_still_good() -> None:
    parse_signature(write(t=str(int(NOW) + 86_400), x=str(int(NOW) + 90_000)), now=NOW)
    parse_signature(write(t="0", x=str(int(NOW))), now=NOW)


def test_the_domain_is_read_without_the_rest() -> None:
    assert read_domain(write()) == "acme.example"
    assert read_domain(b"DKIM-Signature:d = a.example") == "a.example"
    assert read_domain(b"DKIM-Signature: bd=x.example;\r\n\td=\r\n a.example ;v=1") == "a.example"
    for bad in (b"DKIM-Signature: v=1", b"DKIM-Signature: d=", b"DKIM-Signature: d=\xff.example"):
        assert read_domain(bad) == ""


@given(st.lists(st.sampled_from([*write().split(b";"), b";", b"=", b"\xff", b"b=", b" x"])))
def test_any_field_is_read_or_unproven(parts: list[bytes]) -> None:
    field = b"".join(parts)
    domain = read_domain(field)
    try:
        signature = parse_signature(field, now=NOW)
    except Unproven:
        return
    assert signature.terms.domain == domain
