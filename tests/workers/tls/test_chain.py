"""The certificates that a host has shown: read after a real handshake, and from hostile octets."""

import socket
import ssl

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from relay.net.stream import Stream
from relay.net.tls import make_client_context
from tests.kit.authority import Authority, Issued, Key, make_alternatives, make_self_signed
from workers.tls.chain import (
    MOST,
    fingerprint,
    name_issuer,
    read_chain,
    read_names,
    read_public_key,
    to_der,
)

ROOT = Authority("The Root")
INTERMEDIATE = ROOT.make_intermediate("Below")
GOOD = INTERMEDIATE.issue("mx.test")


async def show(issued: Issued, *, minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> Stream:
    """Shake hands with a host that shows these; return our end."""
    context = issued.make_context()
    context.maximum_version = minimum
    ours, theirs = map(Stream, socket.socketpair())
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: theirs.start_tls(context, server_side=True))
            await ours.start_tls(make_client_context(verify=False), server_hostname="mx.test")
    theirs.close()
    return ours


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_all_that_was_shown_is_read_the_host_first(version: ssl.TLSVersion) -> None:
    stream = await show(GOOD, minimum=version)
    assert stream.tls is not None

    assert read_chain(stream.tls) == (GOOD.certificate, INTERMEDIATE.certificate)

    stream.close()


async def test_of_a_long_chain_only_the_beginning_is_read() -> None:
    stream = await show(GOOD.showing(*[Authority().certificate for _ in range(2 * MOST)]))
    assert stream.tls is not None

    chain = read_chain(stream.tls)

    assert len(chain) == MOST
    assert chain[0] == GOOD.certificate
    stream.close()


async def test_a_closed_connection_shows_nothing() -> None:
    stream = await show(GOOD)
    tls = stream.tls
    assert tls is not None
    stream.close()

    assert read_chain(tls) == ()


class Shown:
    """Stands where a socket does, as it is since Python 3.13."""

    def __init__(self, *octets: bytes) -> None:
        self.octets = octets
        self._sslobj = object()

    def get_unverified_chain(self) -> list[bytes]:
        return list(self.octets)


def test_without_the_host_there_is_no_chain() -> None:
    assert read_chain(Shown(b"\x30\x00", to_der(GOOD.certificate))) == ()  # type: ignore[arg-type]
    assert read_chain(Shown()) == ()  # type: ignore[arg-type]


def test_what_cannot_be_read_behind_it_is_left_out() -> None:
    octets = [to_der(GOOD.certificate), b"\x30\x00", to_der(INTERMEDIATE.certificate)]

    assert read_chain(Shown(*octets)) == (GOOD.certificate, INTERMEDIATE.certificate)  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_no_octets_make_it_fail(octets: bytes) -> None:
    assert len(read_chain(Shown(octets))) <= 1  # type: ignore[arg-type]


@given(st.integers(min_value=0, max_value=10_000), st.binary(min_size=1, max_size=4))
def test_a_spoilt_certificate_is_not_read_or_is_kept_as_it_came(place: int, octets: bytes) -> None:
    """Digests of certificates are made of what the library gives back: no octet may differ."""
    der = bytearray(to_der(GOOD.certificate))
    der[place % len(der) : place % len(der) + len(octets)] = octets

    chain = read_chain(Shown(bytes(der)))  # type: ignore[arg-type]

    for certificate in chain:
        assert to_der(certificate) == bytes(der)
        read_names(certificate)
        name_issuer(certificate)
        assert read_public_key(certificate) in der


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p256", "p521", "rsa", "ed25519"],
)
def test_the_public_key_is_taken_out_of_the_certificate(
    key: Key,
) -> None:
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    assert read_public_key(ROOT.issue("mx.test", key=key).certificate) == spki


def test_it_is_found_in_a_certificate_of_version_1_too() -> None:
    key = rsa.generate_private_key(65537, 2048)
    der = bytearray(to_der(ROOT.issue("mx.test", key=key).certificate))
    # RFC 5280 §4.1.2.1: version 1 is left out. Five octets less, in both lengths around them.
    version = der.index(bytes.fromhex("a003020102"))
    del der[version : version + 5]
    for place in (2, 6):
        shorter = int.from_bytes(der[place : place + 2]) - 5
        der[place : place + 2] = shorter.to_bytes(2)

    (certificate,) = read_chain(Shown(bytes(der)))  # type: ignore[arg-type]

    assert certificate.version is x509.Version.v1
    assert read_public_key(certificate) == read_public_key(ROOT.issue("x", key=key).certificate)


def test_names_are_alternative_names_and_addresses_in_lower_case() -> None:
    assert read_names(ROOT.issue("MX.Test", "*.a.test", "192.0.2.1").certificate) == (
        "mx.test",
        "*.a.test",
        "192.0.2.1",
    )
    assert read_names(ROOT.issue(common_name="mx.test").certificate) == ()


def test_an_extension_that_cannot_be_read_has_no_names() -> None:
    nonsense = x509.UnrecognizedExtension(make_alternatives(["x"]).oid, b"\x30\x03nonsense")

    assert read_names(ROOT.issue("mx.test", extensions=[nonsense]).certificate) == ()


def test_the_issuer_is_named_in_printable_words() -> None:
    assert name_issuer(GOOD.certificate) == "'Below'"
    assert name_issuer(make_self_signed("mx\r\n\x1b.test").certificate) == "'mx???.test'"
    assert len(name_issuer(Authority("x" * 64).certificate)) < 90


def test_a_fingerprint_is_sha256_in_hex() -> None:
    assert len(fingerprint(GOOD.certificate)) == 64
    assert fingerprint(GOOD.certificate) != fingerprint(ROOT.certificate)
