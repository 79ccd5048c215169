"""Certificates put into words, for people and programs that want to see what a host shows."""

import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from workers.quote import limit
from workers.tls.chain import fingerprint, read_names, read_public_key

MAX_NAMES = 100  # of one certificate

_T = TypeVar("_T")


class Shown(msgspec.Struct, frozen=True):
    """One certificate of a chain. ``tlsa``: the record that stands for its key; "": none can."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    starts: dt.datetime | None
    expires: dt.datetime | None
    days: int | None  # whole ones that are left; negative once it has expired
    key: str  # "EC 256 bits (secp256r1)"
    fingerprint: str  # SHA-256, in hex
    tlsa: str


def show_chain(chain: Sequence[x509.Certificate], now: dt.datetime) -> tuple[Shown, ...]:
    """Describe what a host has shown; what cannot be read is left empty."""
    return tuple(
        _show(certificate, 2 if number else 3, now) for number, certificate in enumerate(chain)
    )


def climb(chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the host's certificate, its issuer's, and so on as far as they were shown.

    By names only: whether one has signed the other is not looked at.
    """
    path, left = list(chain[:1]), list(chain[1:])
    while path and not is_self_issued(path[-1]):
        above = next((one for one in left if _is_above(one, path[-1])), None)
        if above is None:
            break
        left.remove(above)
        path.append(above)
    return path


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate names itself as its issuer: a root, or one made at home."""
    return _is_above(certificate, certificate)


def _is_above(one: x509.Certificate, other: x509.Certificate) -> bool:
    return _read(lambda: one.subject == other.issuer, default=False)


def _show(certificate: x509.Certificate, usage: int, now: dt.datetime) -> Shown:
    expires = _read(lambda: certificate.not_valid_after_utc, default=None)
    return Shown(
        subject=_read(lambda: limit(certificate.subject.rfc4514_string(), 200), default=""),
        issuer=_read(lambda: limit(certificate.issuer.rfc4514_string(), 200), default=""),
        names=tuple(limit(name, 255) for name in read_names(certificate)[:MAX_NAMES]),
        starts=_read(lambda: certificate.not_valid_before_utc, default=None),
        expires=expires,
        days=(expires - now) // dt.timedelta(days=1) if expires is not None else None,
        key=_read(lambda: _describe_key(certificate), default="of an unknown kind"),
        fingerprint=fingerprint(certificate),
        tlsa=_read(lambda: _make_tlsa(certificate, usage), default=""),
    )


def _read(read: Callable[[], _T], *, default: _T) -> _T:
    """Return what can be read off a stranger's certificate; see chain.py."""
    try:
        return read()
    except Exception:
        return default


def _describe_key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size} bits"
        case ec.EllipticCurvePublicKey() as key:
            return f"EC {key.key_size} bits ({key.curve.name})"
        case dsa.DSAPublicKey() as key:
            return f"DSA {key.key_size} bits"
        case key:
            return type(key).__name__.strip("_").removesuffix("PublicKey")


def _make_tlsa(certificate: x509.Certificate, usage: int) -> str:
    # RFC 7671 §5.1, §5.2: the key, not the certificate, which is another at each renewal.
    return f"{usage} 1 1 {hashlib.sha256(read_public_key(certificate)).hexdigest()}"
