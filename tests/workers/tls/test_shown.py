"""Certificates in words, and how far a chain leads."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.kit.authority import Authority, Issued, Key, make_self_signed, sign
from workers.tls.shown import MAX_NAMES, climb, is_self_issued, show_chain

ROOT = Authority("Root")
ONE = ROOT.make_intermediate("One")
TWO = ONE.make_intermediate("Two")
LEAF = TWO.issue("mx.test", not_after=10.5)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def test_a_chain() -> None:
    leaf, two, one = show_chain(LEAF.chain, now())

    assert (leaf.subject, leaf.issuer, leaf.names) == ("CN=mx.test", "CN=Two", ("mx.test",))
    assert (two.subject, two.issuer, two.names) == ("CN=Two", "CN=One", ())
    assert leaf.days == 10
    assert leaf.fingerprint == LEAF.tlsa(3, 0, 1).data.hex()
    assert leaf.tlsa == f"3 1 1 {LEAF.tlsa(3, 1, 1).data.hex()}"
    assert one.tlsa == f"2 1 1 {ONE.tlsa(2, 1, 1).data.hex()}"


@pytest.mark.parametrize(("days", "shown"), [(-0.5, -1), (0.5, 0), (1.5, 1)])
def test_days_are_whole_and_negative_once_it_is_over(days: float, shown: int) -> None:
    (leaf,) = show_chain([ROOT.issue("mx.test", not_after=days).certificate], now())

    assert leaf.days == shown


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (rsa.generate_private_key(65537, 2048), "RSA 2048 bits"),
        (None, "EC 256 bits (secp256r1)"),
    ],
    ids=["Ed25519", "RSA", "EC"],
)
def test_keys(key: Key | None, shown: str) -> None:
    (leaf,) = show_chain([ROOT.issue("mx.test", key=key).certificate], now())

    assert leaf.key == shown


def test_what_strangers_write_is_cut_and_printable() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x1b[31m\n" + "x" * 50)])
    alternatives = x509.SubjectAlternativeName([x509.DNSName(f"n{n}.test") for n in range(300)])
    made = sign(ROOT, name, ROOT.key, -1, 1, [alternatives])

    (shown,) = show_chain([made], now())

    assert shown.subject.isprintable()
    assert len(shown.names) == MAX_NAMES


def test_what_cannot_be_read_is_left_empty() -> None:
    """The library reads the outline of a certificate, and raises for the rest when it is asked."""
    octets = LEAF.certificate.public_bytes(Encoding.DER)
    octets = octets.replace(
        b"\x0c\x07mx.test", b"\x0c\x07\xff\xff\xff\xff\xff\xff\xff"
    )  # not UTF-8
    curve = bytes.fromhex("06082a8648ce3d030107")  # RFC 5480 §2.1.1.1: secp256r1
    assert curve in octets
    broken = x509.load_der_x509_certificate(octets.replace(curve, curve[:-1] + b"\x6f"))

    (shown,) = show_chain([broken], now())

    assert (shown.subject, shown.issuer, shown.key) == ("", "CN=Two", "of an unknown kind")
    assert climb([broken, TWO.certificate]) == [broken, TWO.certificate]


def climbed(issued: Issued) -> list[x509.Certificate]:
    return climb(issued.chain)


def test_how_far_it_leads() -> None:
    own = make_self_signed("mx.test")
    leaf = LEAF.certificate

    assert climbed(LEAF) == [leaf, TWO.certificate, ONE.certificate]
    assert climbed(LEAF.showing(ROOT.certificate, ONE.certificate, TWO.certificate)) == [
        leaf, TWO.certificate, ONE.certificate, ROOT.certificate,
    ]  # fmt: skip
    assert climbed(LEAF.showing(ONE.certificate)) == [leaf]
    assert climbed(own.showing(ROOT.certificate)) == [own.certificate]
    assert climb(()) == []
    assert [is_self_issued(one) for one in (leaf, ROOT.certificate)] == [False, True]


def test_a_circle_ends() -> None:
    one = Authority("Circle", issuer=Authority("Other"))
    other = Authority("Other", issuer=Authority("Circle"))
    leaf = one.issue("mx.test")

    path = climb([leaf.certificate, *[one.certificate, other.certificate] * 3])

    assert len(path) == 7
