"""DKIM signatures (RFC 6376) for mail that we write ourselves. We never verify, nor sign for others.

Canonicalisation is relaxed/relaxed, the whole body is signed (no ``l=``, as RFC 8460 §3 demands), and
each field of FIELDS is named once more than it is there, so that none can be added either
(RFC 6376 §8.15).
"""

import base64
import re
import time
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from relay.errors import StartError

FIELDS = (
    *("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"),
    *("Content-Transfer-Encoding", "Auto-Submitted", "Reply-To", "TLS-Required"),
    *("TLS-Report-Domain", "TLS-Report-Submitter"),
)
_LEAST_BITS = 1024  # RFC 8301 §3.2: signers must use that many, and should use 2048
_BLANKS = re.compile(rb"[ \t]+")
_END = re.compile(rb"(?:\r\n)+\Z")

Key = RSAPrivateKey | Ed25519PrivateKey


class Signer:
    """Signs for one domain with one key."""

    def __init__(self, domain: str, selector: str, key: Key) -> None:
        """The public half stands at ``<selector>._domainkey.<domain>`` (A-labels)."""
        self.domain = domain
        self._selector = selector
        self._key = key

    def sign(self, message: bytes, *, now: float | None = None) -> bytes:
        """Return the DKIM-Signature field, with its CRLF, to put in front of ``message``.

        ``message``: lines end in CRLF, and a blank one ends the header. ``now``: seconds since 1970.
        """
        head, _, body = message.partition(b"\r\n\r\n")
        names, signed = _choose(head)
        seconds = int(time.time() if now is None else now)
        digest = base64.b64encode(sha256(relax_body(body)).digest())
        algorithm = "rsa" if isinstance(self._key, RSAPrivateKey) else "ed25519"
        field = (
            b"DKIM-Signature: v=1; a=%b-sha256; c=relaxed/relaxed;\r\n"
            b"\td=%b; s=%b; t=%d;\r\n\th=%b;\r\n\tbh=%b;\r\n\tb="
        ) % (
            algorithm.encode(),
            self.domain.encode("ascii"),
            self._selector.encode("ascii"),
            seconds,
            b":\r\n\t ".join(names),
            digest,
        )
        # RFC 6376 §3.7: the field itself comes last, with b= empty and without its CRLF.
        value = self._seal(b"".join(signed) + relax_field(field))
        lines = [value[start : start + 72] for start in range(0, len(value), 72)]
        return field + b"\r\n\t ".join(lines) + b"\r\n"

    def _seal(self, octets: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            seal = self._key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
        else:
            # RFC 8463 §3: Ed25519 signs the SHA-256 digest, not the octets.
            seal = self._key.sign(sha256(octets).digest())
        return base64.b64encode(seal)


def load_signer(domain: str, selector: str, key_file: str) -> Signer:
    """Read a private key, PEM without a password, RSA or Ed25519. Raises StartError."""
    said = f"tls_reports.dkim_key_file: cannot use {key_file}"
    wanted = "expected an RSA or Ed25519 private key, PEM, without a password"
    try:
        key = serialization.load_pem_private_key(Path(key_file).read_bytes(), password=None)
    except OSError as error:
        raise StartError(f"{said}: {error.strerror}; let this user read it") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StartError(f"{said}: {wanted}") from error
    if not isinstance(key, Key):
        raise StartError(f"{said}: {wanted}")
    if isinstance(key, RSAPrivateKey) and key.key_size < _LEAST_BITS:
        raise StartError(f"{said}: {key.key_size} bits are too few, make one of 2048")
    return Signer(domain, selector, key)


def relax_field(field: bytes) -> bytes:
    """Canonicalise a header field, without its CRLF (RFC 6376 §3.4.2)."""
    name, _, value = field.partition(b":")
    unfolded = _BLANKS.sub(b" ", value.replace(b"\r\n", b""))
    return name.strip(b" \t").lower() + b":" + unfolded.strip(b" ")


def relax_body(body: bytes) -> bytes:
    """Canonicalise a body (RFC 6376 §3.4.4)."""
    lines = [_BLANKS.sub(b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    text = _END.sub(b"", b"\r\n".join(lines))
    return text + b"\r\n" if text else b""


def _choose(head: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the names for h=, and the fields that they mean, canonical and each with its CRLF."""
    there: dict[bytes, list[bytes]] = defaultdict(list)
    for field in re.split(rb"\r\n(?![ \t])", head):
        there[field.partition(b":")[0].strip(b" \t").lower()].append(field)
    names: list[bytes] = []
    signed: list[bytes] = []
    for name in (name.encode() for name in FIELDS):
        fields = there[name.lower()]
        # RFC 6376 §5.4.2: of several the last one first. Once more: so that none may be added.
        signed += [relax_field(field) + b"\r\n" for field in reversed(fields)]
        names += [name] * (len(fields) + 1)
    return names, signed
