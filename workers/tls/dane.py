"""A host's certificates against its zone's TLSA records, for SMTP (RFC 6698, RFC 7671, RFC 7672).

A record names a certificate, or its public key: the host's own (usage 3, DANE-EE), or that of an
authority above it (usage 2, DANE-TA). The records come from a DNS answer that was validated, and
that is not decided here.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.verification import Store

from relay.net.resolver import Tlsa
from workers.tls.chain import MOST, read_public_key, to_der
from workers.tls.guard import TlsUntrusted
from workers.tls.pkix import verify_path

Verified = Literal["dane-ee", "dane-ta"]

# RFC 7218 §2: usages, selectors and matching types by their names.
_TA, _EE = 2, 3
_CERT, _SPKI = 0, 1
_FULL, _SHA256, _SHA512 = 0, 1, 2
_DIGESTS = {_SHA256: hashlib.sha256, _SHA512: hashlib.sha512}
_LENGTHS = {_SHA256: 32, _SHA512: 64}

# Whole certificates and keys of authorities in a zone: each costs checks of signatures, with keys
# that a stranger has chosen to be slow. Nobody needs more than two, the old and the new.
_MOST_GIVEN = 4


def find_usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Return the records that a certificate can be held against.

    None of a secure answer being usable, TLS must be used all the same, with any certificate
    (RFC 7672 §2.2).
    """
    return tuple(record for record in records if _is_usable(record))


def verify(
    chain: Sequence[x509.Certificate],
    records: Iterable[Tlsa],
    names: Sequence[str],
    now: dt.datetime,
) -> Verified:
    """Hold what a host has shown against its TLSA records; one that matches is enough.

    ``names`` (A-labels) matter for usage 2 only: one of them must be in the certificate. Raises
    TlsUntrusted: with "tlsa-invalid" when no record is usable, with "validation-failure" when none
    matches, and as ``pkix`` does when an authority matches but its path does not hold.
    """
    strongest = _keep_strongest(find_usable(records))
    if not strongest:
        raise TlsUntrusted("tlsa-invalid", "none of its TLSA records can be used")
    if not chain:
        raise TlsUntrusted("validation-failure", "no certificate that can be read was shown")
    # RFC 7671 §5.1, RFC 7672 §3.1.1: the zone vouches for the key, so neither names nor dates nor
    # who has issued the certificate are looked at.
    if _stand_for((one for one in strongest if one.usage == _EE), chain[0]):
        return "dane-ee"
    anchors = _find_anchors(chain[:MOST], [one for one in strongest if one.usage == _TA])
    if not anchors:
        raise TlsUntrusted("validation-failure", _explain(chain[0], len(strongest)))
    # RFC 7671 §5.2, RFC 7672 §3.1.2: below an authority everything counts, the name too.
    verify_path(Store(anchors), chain, names, now, "the authority that its TLSA records name")
    return "dane-ta"


# -- records


def _is_usable(record: Tlsa) -> bool:
    # RFC 7672 §3.1.3: usages 0 and 1 are none for SMTP: there is no list of authorities that both
    # sides know.
    if record.usage not in (_TA, _EE) or record.selector not in (_CERT, _SPKI):
        return False
    if record.matching == _FULL:
        return _is_readable(record)
    # RFC 7671 §9: a digest of the wrong length is malformed.
    return len(record.data) == _LENGTHS.get(record.matching)


def _is_readable(record: Tlsa) -> bool:
    try:
        if record.selector == _CERT:
            Store([x509.load_der_x509_certificate(record.data)])  # reads its subject
        else:
            load_der_public_key(record.data)
    except Exception:  # ValueError, UnsupportedAlgorithm, and others of the library's own
        return False
    return True


def _keep_strongest(records: Sequence[Tlsa]) -> list[Tlsa]:
    """Drop digests where there are stronger ones.

    RFC 7671 §9: for each usage and selector, after unusable records are gone; whole certificates
    and keys (matching type 0) always count. A forger of SHA-256 gains nothing where SHA-512 is.
    """
    best: dict[tuple[int, int], int] = {}
    for record in records:
        kind = record.usage, record.selector
        best[kind] = max(best.get(kind, _FULL), record.matching)
    return [
        record
        for record in records
        if record.matching in (_FULL, best[record.usage, record.selector])
    ]


def _describe(certificate: x509.Certificate) -> frozenset[tuple[int, int, bytes]]:
    """Return what records for a certificate can say: selector, matching type and data.

    RFC 6698 §2.1.2 to §2.1.4. All six at once: records can be many and certificates long.
    """
    return frozenset(
        (selector, matching, _DIGESTS[matching](data).digest() if matching else data)
        for selector, data in ((_CERT, to_der(certificate)), (_SPKI, read_public_key(certificate)))
        for matching in (_FULL, *_DIGESTS)
    )


def _stand_for(records: Iterable[Tlsa], certificate: x509.Certificate) -> bool:
    """Tell whether one of these records is for a certificate."""
    described = _describe(certificate)
    return any(record[1:] in described for record in records)


def _explain(leaf: x509.Certificate, count: int) -> str:
    digest = hashlib.sha256(read_public_key(leaf)).hexdigest()
    return f"none of {count} TLSA records matches; that of the key shown would be 3 1 1 {digest}"


# -- authorities


def _find_anchors(
    chain: Sequence[x509.Certificate], records: Sequence[Tlsa]
) -> list[x509.Certificate]:
    """Return the certificates that these records let stand at the top of a path.

    The host's own certificate may be one of them: the zone vouches for it, if for less than with
    usage 3. RFC 7671 §5.2 does not say; RFC 6698 §2.1.1 takes any certificate that matches.
    """
    anchors = [one for one in chain if _stand_for(records, one)]
    given = [record for record in records if record.matching == _FULL][:_MOST_GIVEN]
    for record in given:
        # RFC 7671 §5.2.2, §5.2.3: what stands in the zone in full need not be shown.
        if record.selector == _CERT:
            anchors.append(x509.load_der_x509_certificate(record.data))
        else:
            anchors += [one for one in chain if _is_signed_by(one, record.data)]
    return anchors


def _is_signed_by(certificate: x509.Certificate, key_data: bytes) -> bool:
    """Tell whether a certificate is signed with a key of which there is no certificate.

    Then it stands for the key: it is at the top of the path, and must hold like an anchor.
    """
    try:
        signature, signed = certificate.signature, certificate.tbs_certificate_bytes
        digest = certificate.signature_hash_algorithm
        scheme = certificate.signature_algorithm_parameters
        match load_der_public_key(key_data):
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey() as key:
                key.verify(signature, signed)
            case rsa.RSAPublicKey() as key if isinstance(scheme, AsymmetricPadding):
                key.verify(signature, signed, scheme, _check_digest(digest))
            case ec.EllipticCurvePublicKey() as key if isinstance(scheme, ec.ECDSA):
                _check_digest(digest)
                key.verify(signature, signed, scheme)
            case _:
                return False  # a key of another kind than the signature
    except Exception:  # InvalidSignature, and what chain.py warns of
        return False
    return True


def _check_digest(digest: hashes.HashAlgorithm | None) -> hashes.HashAlgorithm:
    """Raises ValueError for a digest that can be forged. The rest of the path has none, either."""
    if isinstance(digest, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        return digest
    raise ValueError("digest that can be forged")
