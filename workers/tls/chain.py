"""The certificates that a host has shown, and what can be read off them.

A stranger made them. What cannot be read is as good as not shown: ``read_chain`` leaves it out.
What it returns has been read in outline only: cryptography looks at names, dates, keys and
extensions when it is asked for them, and then raises errors of a dozen types, some of its own.
Whoever asks is ready for ``Exception``; the functions here are.
"""

import contextlib
import ssl
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from workers.quote import limit

MOST = 10  # certificates that are looked at; a host needs two to four


def read_chain(tls: ssl.SSLSocket) -> tuple[x509.Certificate, ...]:
    """Return what the peer has shown, its own certificate first; () when that cannot be read.

    For use after the handshake, with or without verification by OpenSSL.
    """
    chain: list[x509.Certificate] = []
    for octets in _read_octets(tls)[:MOST]:
        with contextlib.suppress(Exception):
            chain.append(x509.load_der_x509_certificate(octets))
        if not chain:
            return ()
    return tuple(chain)


def _read_octets(tls: ssl.SSLSocket) -> list[bytes]:
    """Return the DER of each certificate shown."""
    below: Any = getattr(tls, "_sslobj", None)  # OpenSSL's object
    if below is None:
        return []  # closed
    if read := getattr(tls, "get_unverified_chain", None):  # since Python 3.13
        return cast("list[bytes]", read())
    shown = below.get_unverified_chain() or ()  # None before the handshake
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in shown]


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def read_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the host names and addresses that a certificate is for, in lower case; () for none.

    RFC 9525 §6.3: subject alternative names only, the common name is not looked at.
    """
    try:
        kind = x509.SubjectAlternativeName
        names = certificate.extensions.get_extension_for_class(kind).value
        addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
        return (*(n.lower() for n in names.get_values_for_type(x509.DNSName)), *addresses)
    except Exception:
        return ()


def name_issuer(certificate: x509.Certificate) -> str:
    """Say who has issued a certificate, in a few printable words."""
    try:
        issuer = certificate.issuer
        for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
            for attribute in issuer.get_attributes_for_oid(kind):
                return f"{limit(str(attribute.value), 80)!r}"
    except Exception:
        return "somebody whose name cannot be read"
    return "somebody without a name"


def read_public_key(certificate: x509.Certificate) -> bytes:
    """Return the public key as the certificate has it: SubjectPublicKeyInfo in DER.

    The octets themselves (RFC 6698 §2.1.2), of keys of any kind: reading the key and writing it
    again works for those that the library knows, and may give others than those in the zone.
    """
    inside = _open(certificate.tbs_certificate_bytes)
    # RFC 5280 §4.1: version (left out for 1), serial number, signature, issuer, validity, subject.
    for _ in range(6 if inside[0] == 0xA0 else 5):
        inside = inside[_measure(inside) :]
    return inside[: _measure(inside)]


def to_der(certificate: x509.Certificate) -> bytes:
    """Return the certificate as it was shown."""
    return certificate.public_bytes(Encoding.DER)


def _open(element: bytes) -> bytes:
    """Return what is inside of a DER element."""
    return element[_measure_head(element) : _measure(element)]


def _measure(octets: bytes) -> int:
    """Return how long the DER element at the beginning is (X.690 §8.1.3)."""
    head = _measure_head(octets)
    return head + (int.from_bytes(octets[2:head]) if head > 2 else octets[1])


def _measure_head(octets: bytes) -> int:
    return 2 + (octets[1] & 0x7F if octets[1] & 0x80 else 0)
