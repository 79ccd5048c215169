"""The certificates that we show: pairs of files, who they name, and which one a handshake gets.

A pair is loaded into a context of its own, so that a handshake has either the old pair or the new
one, and a connection keeps what it began with. Which of several pairs it is, the name decides that
the client asks for (SNI, RFC 6066 §3). Gmail asks for the MX host's; others ask for nothing, or
for a name that only they know us by: they get the first pair, because for a sender that does not
verify any certificate is better than none.
"""

import datetime as dt
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from relay.config import Config
from relay.config.schema import IngressTls
from relay.errors import CertificateRefused
from relay.net.tls import make_server_context

# Days before its end from which on a certificate wants to be renewed: those of 90 days are renewed
# 30 days ahead, so something is amiss by then.
AHEAD = 14

# Files that are being replaced: certificate, key and their names in the directory are not one write.
_TRIES = 3

# What cryptography raises for a file that is no certificate, or one that breaks RFC 5280.
_UNREADABLE = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

_Signature = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Certificate and key as files; ``place`` is where the configuration names them."""

    place: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a pair's certificate says: the names it is for, and since and until when."""

    pair: Pair
    names: tuple[str, ...]  # DNS names of the subject alternative name, in lower case
    starts: dt.datetime
    expires: dt.datetime

    def count_days(self, now: dt.datetime) -> int:
        """Return whole days until it expires; negative once it has."""
        return (self.expires - now) // dt.timedelta(days=1)

    def find_fault(self, now: dt.datetime) -> str:
        """Say why it does not hold now; "" when it does."""
        if now >= self.expires:
            return f"has expired, on {self.expires:%Y-%m-%d}"
        if now < self.starts:
            return f"is not valid before {self.starts:%Y-%m-%d %H:%M} UTC"
        return ""

    def ends_soon(self, now: dt.datetime) -> bool:
        """Tell whether fewer than AHEAD days are left."""
        return self.expires - now < dt.timedelta(days=AHEAD)

    def describe(self, now: dt.datetime) -> str:
        """Say whose it is, and how long it is good."""
        names = ", ".join(self.names) or "without a name"
        days = self.count_days(now)
        how = self.find_fault(now) or (
            f"is good until {self.expires:%Y-%m-%d} ({days} {'day' if days == 1 else 'days'})"
        )
        return f"the certificate {how}: {names} ({self.pair.certificate})"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pair that handshakes can use."""

    certificate: Certificate
    context: ssl.SSLContext
    signature: _Signature  # of the files that it came from


def list_pairs(tls: IngressTls) -> tuple[Pair, ...]:
    """Return the configured pairs, the one for all other names first; none without TLS."""
    if not tls.certificate:
        return ()
    more = (
        Pair(f"ingress.tls.more[{number}]", one.certificate, one.key)
        for number, one in enumerate(tls.more)
    )
    return (Pair("ingress.tls", tls.certificate, tls.key), *more)


def read_certificate(pair: Pair) -> Certificate:
    """Read the certificate's file, not the key's. Raises CertificateRefused."""
    try:
        with open(pair.certificate, "rb") as file:
            leaf = x509.load_pem_x509_certificates(file.read())[0]  # RFC 8446 §4.4.2: ours first
        names = _find_names(leaf)
    except OSError as error:
        raise _refuse(pair, f"the certificate cannot be read: {error.strerror or error}") from error
    except _UNREADABLE as error:
        raise _refuse(pair, "expected a certificate chain in PEM") from error
    return Certificate(pair, names, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def _find_names(leaf: x509.Certificate) -> tuple[str, ...]:
    """RFC 9525 §2: names stand in the subject alternative name, and nowhere else."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in found.value.get_values_for_type(x509.DNSName))


def load_pair(pair: Pair) -> Loaded:
    """Load certificate and key, and see that they belong together. Raises CertificateRefused.

    Whether it has expired is for the caller to judge.
    """
    for _ in range(_TRIES):
        signature = _sign(pair)
        try:
            context = make_server_context(pair.certificate, pair.key)
        except CertificateRefused as error:
            raise CertificateRefused(f"{pair.place}: {error}") from error
        certificate = read_certificate(pair)
        if signature == _sign(pair):  # else the names may be those of another certificate
            return Loaded(certificate, context, signature)
    raise _refuse(pair, "certificate and key are being written")


def renew(loaded: Loaded, now: dt.datetime) -> Loaded | None:
    """Load a pair again if its files have changed, None when they have not.

    Raises CertificateRefused when what is there now is no better than what is in use.
    """
    pair = loaded.certificate.pair
    if _sign(pair) == loaded.signature:
        return None
    fresh = load_pair(pair)
    if fault := fresh.certificate.find_fault(now):
        raise _refuse(pair, f"the certificate {fault}")
    return fresh


def _sign(pair: Pair) -> _Signature:
    """Return what tells files from those that took their place: links are followed to the end."""
    try:
        found = [os.stat(path) for path in (pair.certificate, pair.key)]
    except OSError as error:
        text = f"certificate or key cannot be read: {error.strerror or error}"
        raise _refuse(pair, text) from error
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def _refuse(pair: Pair, text: str) -> CertificateRefused:
    return CertificateRefused(f"{pair.place}: {text} ({pair.certificate}, {pair.key})")


def find_unready(config: Config, now: dt.datetime) -> list[str]:
    """Return why the ingress, started now, would not be trusted by who verifies it; [] is well.

    Reads the certificates' files. What a running ingress has in use is another question: it keeps
    a good pair when bad files take its place (``Certificates.find_unready``).
    """
    found = []
    for pair in list_pairs(config.ingress.tls):
        try:
            certificate = read_certificate(pair)
        except CertificateRefused as error:
            found.append(str(error))
        else:
            found += _find_unready(certificate, now)
    return found


def _find_unready(certificate: Certificate, now: dt.datetime) -> list[str]:
    if not certificate.find_fault(now):
        return []
    return [f"{certificate.pair.place}: {certificate.describe(now)}: renew it"]


class Certificates:
    """The pairs in use by one process."""

    def __init__(self, loaded: Sequence[Loaded]) -> None:
        """``loaded``: at least one; the first is for all names that no other has."""
        self._loaded = list(loaded)
        self._contexts: dict[str, ssl.SSLContext] = {}  # by name, "*.example.org" included
        self._index()

    @property
    def context(self) -> ssl.SSLContext:
        """What the next handshake is begun with."""
        return self._loaded[0].context

    @property
    def loaded(self) -> tuple[Loaded, ...]:
        """What is in use, in the order of the configuration."""
        return tuple(self._loaded)

    def replace(self, number: int, loaded: Loaded) -> None:
        """Use a newer pair, from the next handshake on."""
        self._loaded[number] = loaded
        self._index()

    def find_context(self, name: str) -> ssl.SSLContext:
        """Return what a client gets that asks for this name: exact, then wildcard, then first.

        RFC 9525 §6.3: the star is a whole label, and only one.
        """
        name = name.lower().rstrip(".")
        wildcard = "*." + name.partition(".")[2]
        return self._contexts.get(name) or self._contexts.get(wildcard) or self.context

    def find_unready(self, now: dt.datetime) -> list[str]:
        """Return why senders that verify us would turn away; [] when all is well."""
        return [text for one in self._loaded for text in _find_unready(one.certificate, now)]

    def _index(self) -> None:
        """Of several pairs with the same name the first has it."""
        self._contexts = {
            name: one.context for one in reversed(self._loaded) for name in one.certificate.names
        }
        if len(self._loaded) > 1:
            # Not for a single pair: without a choice there is nothing to ask. Python ends a
            # handshake with a name that is not ASCII before it would ask us (RFC 6066 forbids it).
            self.context.sni_callback = self._choose

    def _choose(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name:
            tls.context = self.find_context(name)


def load_certificates(tls: IngressTls) -> Certificates | None:
    """Load all pairs; None when there are none. Raises CertificateRefused (a StartError).

    An expired certificate is loaded all the same: most senders never look, and for them it is
    better than no mail at all. It fails readiness, and is reported.
    """
    loaded = [load_pair(pair) for pair in list_pairs(tls)]
    return Certificates(loaded) if loaded else None
