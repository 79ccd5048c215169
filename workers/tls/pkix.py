"""Chain and name of a certificate, against the authorities that we trust (RFC 5280, RFC 9525).

Why not OpenSSL in the handshake: there a certificate that does not hold ends the session. Whether
it must hold, and who says so, is decided elsewhere; and we want to report what was wrong.
"""

import contextlib
import datetime as dt
import functools
import ipaddress
import os
import re
import ssl
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import certifi
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
)

from relay.errors import StartError
from workers.quote import limit
from workers.tls.chain import MOST, fingerprint, name_issuer, read_names, to_der
from workers.tls.guard import TlsUntrusted

_SHOWN_NAMES = 5  # of those in a certificate, in a text for people
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# What OpenSSL looks at in a directory: files named after a hash of the subject (openssl rehash).
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]{1,3}")


class Authorities:
    """Those whose certificates we believe. ``origin`` says how many, and where they came from."""

    def __init__(self, certificates: Iterable[x509.Certificate], where: str) -> None:
        roots = {fingerprint(certificate): certificate for certificate in certificates}
        self._roots = list(roots.values())
        self._store = Store(self._roots)
        many = "authority" if len(roots) == 1 else "authorities"
        self.origin = f"{len(roots)} {many} from {where}"

    @classmethod
    @functools.cache
    def load(cls, ca_file: str = "") -> Self:
        """Read a file of authorities, else the system's, else those that come with certifi.

        Once for each process. Raises StartError when ``ca_file`` cannot be used.
        """
        if ca_file:
            return cls(_read_configured(ca_file), ca_file)
        found, where = _read_system()
        if found:
            return cls(found, where)
        # Slim containers have no store; none at all would mean that nobody can be verified.
        return cls(_read_file(certifi.where()), "certifi, as the system has none")

    def verify(
        self, chain: Sequence[x509.Certificate], names: Sequence[str], now: dt.datetime
    ) -> None:
        """Hold what a host has shown against these authorities, and one of these names.

        Names are A-labels; the time has a zone. Raises TlsUntrusted.
        """
        verify_path(self._store, chain, names, now, "an authority that we trust")

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let OpenSSL trust the same."""
        context.load_verify_locations(cadata=b"".join(map(to_der, self._roots)))


# -- where they come from


def _read_configured(path: str) -> list[x509.Certificate]:
    """Read the operator's file. Here a bad certificate is an error: he has just put it there."""
    try:
        found = _read_file(path, skip=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(
            f"delivery.ca_file: cannot use {path}: {reason}; expected certificates of authorities "
            "in PEM (leave it out for the system's)"
        ) from error
    if not found:
        raise StartError(
            f"delivery.ca_file: no certificate in {path}; expected those of authorities in PEM "
            "(leave it out for the system's)"
        )
    return found


def _read_system() -> tuple[list[x509.Certificate], str]:
    """Return what OpenSSL would trust by default, and where that is."""
    paths = ssl.get_default_verify_paths()  # SSL_CERT_FILE and SSL_CERT_DIR, else built in
    places: list[str] = []
    files: list[str] = []
    if paths.cafile:
        places.append(paths.cafile)
        files.append(paths.cafile)
    if paths.capath and (not paths.cafile or paths.openssl_capath_env in os.environ):
        places.append(paths.capath)
        files += [str(one) for one in _list_hashed(Path(paths.capath))]
    found: list[x509.Certificate] = []
    for file in files:
        try:
            found += _read_file(file)
        except OSError:
            continue
    return found, " and ".join(places)


def _list_hashed(directory: Path) -> list[Path]:
    try:
        return sorted(one for one in directory.iterdir() if _HASHED.fullmatch(one.name))
    except OSError:
        return []


def _read_file(path: str, *, skip: bool = True) -> list[x509.Certificate]:
    """Read all certificates in a PEM file; ``skip`` those that cannot be read.

    Raises OSError; without ``skip`` also ValueError.
    """
    found: list[x509.Certificate] = []
    with warnings.catch_warnings():
        # Old roots have serial numbers that RFC 5280 no longer allows.
        warnings.simplefilter("ignore")
        for block in _BLOCK.findall(Path(path).read_bytes()):
            try:
                certificate = x509.load_pem_x509_certificate(block)
                Store([certificate])  # reads its subject
                found.append(certificate)
            except ValueError:
                if not skip:
                    raise
    return found


# -- one certificate


def verify_path(
    store: Store,
    chain: Sequence[x509.Certificate],
    names: Sequence[str],
    now: dt.datetime,
    goal: str,
) -> None:
    """Find a path from the host's certificate to a trust anchor, for one of these names, now.

    ``goal`` says what the anchors are. An anchor must hold like the others (valid, an authority);
    the host's own certificate can be one. Raises TlsUntrusted.
    """
    if not chain:
        raise TlsUntrusted(
            "certificate-not-trusted", "the host has shown no certificate that can be read"
        )
    leaf, others = chain[0], _thin(chain[1:MOST], now)
    builder = PolicyBuilder().store(store).time(now.astimezone(dt.UTC))
    builder = builder.extension_policies(ca_policy=_FOR_AUTHORITIES, ee_policy=_FOR_HOSTS)
    reason = "no name to look for"
    for name in names:
        try:
            builder.build_server_verifier(_make_subject(name)).verify(leaf, others)
            return
        except Exception as error:  # VerificationError, or what chain.py warns of
            reason = str(error)
    try:
        fault = _explain(leaf, names, now, goal, reason)
    except Exception:
        fault = TlsUntrusted("certificate-not-trusted", "the certificate cannot be read")
    raise fault


def _make_subject(name: str) -> x509.DNSName | x509.IPAddress:
    """A host of a route may be named by its address: then that is what the certificate must bear."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _thin(others: Sequence[x509.Certificate], now: dt.datetime) -> list[x509.Certificate]:
    """Leave one certificate for each subject, the first that is valid.

    Four of the same subject, signed by each other, make a path-finder that tries everything
    verify signatures for half a minute (cryptography 45; later ones stop after a hundred).
    OpenSSL, too, goes on from the first that fits.
    """
    kept: dict[bytes, x509.Certificate] = {}
    for other in others:
        with contextlib.suppress(Exception):
            subject = other.subject.public_bytes()
            if subject not in kept or not _is_valid(kept[subject], now):
                kept[subject] = other
    return list(kept.values())


def _is_valid(certificate: x509.Certificate, now: dt.datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _explain(
    leaf: x509.Certificate, names: Sequence[str], now: dt.datetime, goal: str, reason: str
) -> TlsUntrusted:
    """Say what is wrong with a certificate that does not hold: the first thing of three."""
    issuer = name_issuer(leaf)
    since, until = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now > until:
        text = f"certificate expired on {until:%Y-%m-%d %H:%M} UTC (issued by {issuer})"
        return TlsUntrusted("certificate-expired", text)
    if now < since:
        text = f"certificate is not valid before {since:%Y-%m-%d %H:%M} UTC (issued by {issuer})"
        return TlsUntrusted("certificate-not-trusted", text)
    found = read_names(leaf)
    if not any(covers(pattern, name) for pattern in found for name in names):
        text = f"certificate is for {_list(found)}, not for {_list(names)} (issued by {issuer})"
        return TlsUntrusted("certificate-host-mismatch", text)
    return TlsUntrusted("certificate-not-trusted", _explain_path(leaf, issuer, goal, reason))


def _explain_path(leaf: x509.Certificate, issuer: str, goal: str, reason: str) -> str:
    if leaf.issuer == leaf.subject:
        text = f"certificate of {issuer} is signed by itself, and so does not lead to {goal}"
    else:
        text = f"certificate was issued by {issuer}, and does not lead to {goal}"
    # The library's ways to say that an issuer is not there; the second when a root of their own,
    # which can always be put on top of itself, was shown.
    if "no interior errors" in reason or "max depth" in reason:
        return text
    return f"{text}: {limit(reason.removeprefix('validation failed: '), 200)}"


def covers(pattern: str, name: str) -> bool:
    """Tell whether a name in a certificate stands for a host (A-label): to explain what was decided.

    RFC 9525 §6.3: a wildcard is a whole label, the leftmost.
    """
    name = name.lower()
    return pattern == name or (pattern[:2] == "*." and pattern[1:] == name[name.find(".") :])


def _list(names: Sequence[str]) -> str:
    """Return some of a stranger's names, in printable characters."""
    if not names:
        return "no host name"
    text = ", ".join(limit(name, 80) for name in names[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{text} and {more} more" if more > 0 else text


# -- what certificates must have and may have
#
# The library's own policy is that of the CA/Browser forum, and refuses what mail hosts have:
# certificates of private authorities, or from before its rules. What makes a path safe is asked
# for; OpenSSL asks for the same. (Basic constraints and names the library itself looks at.)


def _check_signer(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    # RFC 5280 §4.2.1.3: with key usage, an authority's says that it signs certificates.
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("key usage of an issuer does not allow it to sign certificates")


def _check_purpose(_: Policy, __: x509.Certificate, purposes: x509.ExtendedKeyUsage | None) -> None:
    # RFC 5280 §4.2.1.12: without the extension a key is for everything.
    allowed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if purposes is not None and allowed.isdisjoint(purposes):
        raise ValueError("certificate is not for TLS servers (extended key usage)")


_FOR_AUTHORITIES = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_signer)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_purpose)
)
_FOR_HOSTS = (
    ExtensionPolicy.permit_all()
    .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_purpose)
)
