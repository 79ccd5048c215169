"""Certificate authorities that make every kind of certificate, good and bad.

    root = Authority()
    intermediate = root.make_intermediate()
    issued = intermediate.issue("mx.test", not_after=-1)     # expired yesterday
    host = ScriptedHost(tls=issued.make_context())            # shows leaf and intermediate
    config = {"delivery": {"ca_file": str(root.write(tmp_path))}}

Who is shown is a matter of the chain: ``issued.showing()`` leaves the intermediate out,
``issued.showing(intermediate.certificate, root.certificate)`` adds the root (DANE-TA).

Times are in days from now. Keys are ECDSA P-256 unless given, so a certificate costs less than a millisecond.
It is not the demo's authority (``workers/emulation``), which makes good ones only.
"""

import datetime as dt
import hashlib
import ipaddress
import itertools
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.net.resolver import Tlsa

_DER = serialization.Encoding.DER
_PEM = serialization.Encoding.PEM
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_numbers = itertools.count(1)


def make_tlsa(certificate: x509.Certificate, usage: int, selector: int, matching: int) -> Tlsa:
    """Return the record that stands for a certificate (RFC 6698 §2.1)."""
    if selector == 0:
        data = certificate.public_bytes(_DER)
    else:
        data = certificate.public_key().public_bytes(_DER, _SPKI)
    if matching:
        data = _DIGESTS[matching](data).digest()
    return Tlsa(usage, selector, matching, data)


def to_pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(_PEM) for certificate in certificates)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and what a host shows: the certificate first, no root."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...]

    def showing(self, *others: x509.Certificate) -> Self:
        """The same, shown with these certificates behind it and no others."""
        return replace(self, chain=(self.certificate, *others))

    def tlsa(self, usage: int = 3, selector: int = 1, matching: int = 1) -> Tlsa:
        """Return the record that stands for this certificate."""
        return make_tlsa(self.certificate, usage, selector, matching)

    def write(self, directory: Path, name: str = "server") -> tuple[Path, Path]:
        """Write ``name.pem`` (the chain) and ``name.key``; return their paths."""
        chain, key = directory / f"{name}.pem", directory / f"{name}.key"
        chain.write_bytes(to_pem(*self.chain))
        key.touch(mode=0o600)
        key.write_bytes(
            self.key.private_bytes(
                _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return chain, key

    def make_context(self) -> ssl.SSLContext:
        """Return the context of a server that shows the chain."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as directory:
            context.load_cert_chain(*self.write(Path(directory)))
        return context


class Authority:
    """An authority: a root, or an intermediate (``issuer`` is the one above it)."""

    def __init__(
        self,
        name: str = "",
        *,
        issuer: "Authority | None" = None,
        not_before: float = -1000,
        not_after: float = 1000,
        key: Key | None = None,
        extensions: Sequence[x509.ExtensionType] | None = None,
    ) -> None:
        """``extensions``: instead of those that an authority must have."""
        self.key: Key = key or ec.generate_private_key(ec.SECP256R1())
        self.issuer = issuer
        self.name = make_name(name or f"Authority {next(_numbers)}")
        if extensions is None:
            extensions = make_authority_extensions()
        self.certificate = sign(
            issuer or self, self.name, self.key, not_before, not_after, extensions
        )

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """This authority's certificate and those above it, without the root."""
        return (self.certificate, *self.issuer.chain) if self.issuer else ()

    def make_intermediate(
        self,
        name: str = "",
        *,
        ca: bool = True,
        may_sign: bool = True,
        path_length: int | None = None,
        permitted: Sequence[str] = (),
        excluded: Sequence[str] = (),
        not_before: float = -500,
        not_after: float = 500,
    ) -> "Authority":
        """Return an authority below this one.

        ``ca=False`` or ``may_sign=False`` (key usage): it must not issue anything, and does.
        ``permitted``, ``excluded``: host names that it may and may not issue for.
        """
        extensions = make_authority_extensions(ca=ca, may_sign=may_sign, path_length=path_length)
        if permitted or excluded:
            constraints = x509.NameConstraints(
                [x509.DNSName(one) for one in permitted] or None,
                [x509.DNSName(one) for one in excluded] or None,
            )
            extensions.append(constraints)
        return Authority(
            name,
            issuer=self,
            not_before=not_before,
            not_after=not_after,
            extensions=extensions,
        )

    def issue(
        self,
        *names: str,
        common_name: str = "",
        not_before: float = -90,
        not_after: float = 90,
        via: "Authority | None" = None,
        key: Key | None = None,
        extensions: Sequence[x509.ExtensionType] | None = None,
    ) -> Issued:
        """Issue a certificate for host names (and addresses); "*.example" is a wildcard.

        Without names but with a ``common_name`` it is as they were before RFC 2818. ``via``: by
        that intermediate. ``key``: for this key instead of a new one. ``extensions``: instead of
        those that a host's certificate has.
        """
        issuer = via or self
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = make_name(common_name or names[0])
        if extensions is None:
            extensions = make_host_extensions(names)
        certificate = sign(issuer, subject, key, not_before, not_after, extensions)
        return Issued(certificate, key, (certificate, *issuer.chain))

    def tlsa(self, usage: int = 2, selector: int = 0, matching: int = 1) -> Tlsa:
        """Return the record that stands for this authority."""
        return make_tlsa(self.certificate, usage, selector, matching)

    def write(self, directory: Path, name: str = "ca.pem") -> Path:
        """Write the certificate, as a file of trusted authorities; return its path."""
        path = directory / name
        path.write_bytes(to_pem(self.certificate))
        return path


def make_self_signed(
    *names: str,
    ca: bool = False,
    not_before: float = -90,
    not_after: float = 90,
    key: Key | None = None,
) -> Issued:
    """Return a certificate that a host has made for itself; ``ca``: one that may issue others."""
    extensions = make_authority_extensions() if ca else make_host_extensions(())
    self = Authority(
        names[0],
        not_before=not_before,
        not_after=not_after,
        key=key,
        extensions=[*extensions, make_alternatives(names)],
    )
    return Issued(self.certificate, self.key, (self.certificate,))


def make_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def make_authority_extensions(
    *, ca: bool = True, may_sign: bool = True, path_length: int | None = None
) -> list[x509.ExtensionType]:
    return [
        x509.BasicConstraints(ca=ca, path_length=path_length if ca else None),
        make_usage(digital_signature=not may_sign, key_cert_sign=may_sign),
    ]


def make_host_extensions(names: Sequence[str]) -> list[x509.ExtensionType]:
    extensions: list[x509.ExtensionType] = [
        x509.BasicConstraints(ca=False, path_length=None),
        make_usage(digital_signature=True),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    ]
    return [*extensions, make_alternatives(names)] if names else extensions


def make_alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_read_name(name) for name in names])


def make_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def sign(
    issuer: Authority,
    subject: x509.Name,
    key: Key,
    not_before: float,
    not_after: float,
    extensions: Sequence[x509.ExtensionType],
) -> x509.Certificate:
    """Sign a certificate, with the key identifiers that OpenSSL's strict checks want to see."""
    now = dt.datetime.now(dt.UTC)
    above = x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=not_before))
        .not_valid_after(now + dt.timedelta(days=not_after))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False
        )
    )
    for extension in extensions:
        critical = not isinstance(extension, x509.SubjectAlternativeName | x509.ExtendedKeyUsage)
        builder = builder.add_extension(extension, critical=critical)
    # Ed25519 has its digest built in.
    digest = None if isinstance(issuer.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer.key, digest)


def _read_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
