"""Signatures of our own: on mail that we write, and on tenants' mail that a rule has changed.

Canonicalisation is relaxed/relaxed, and the whole body is signed (no ``l=``, as RFC 8460 §3
demands). Fields that may be there once, and say who writes what to whom or how the body is to be
read, are named once more than they are there, so that none can be added either (RFC 6376 §8.15).
Fields that mailing lists and forwarders put on top are named as often as they are there.
"""

import base64
import re
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from relay.dkim.canon import RelaxedBody, relax_field
from relay.dkim.fields import Fields, cut_message
from relay.dkim.key import LEAST_BITS
from relay.errors import StartError

# Named once more than they are there, also when they are not there.
FROZEN = (
    *("From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To"),
    *("References", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    *("Auto-Submitted", "TLS-Required"),
)
# Named if they are there: all names that match (RFC 6376 §5.4.1). Only plain ones: a name stands in
# h=, and a field's may have a ";" in it.
_ALSO = re.compile(rb"sender|(?:content|list|resent|tls-report)-[a-z0-9-]+")

_WIDTH = 72  # of a line of h= or b=, without its indent

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
        RSA takes about half a millisecond, and each 100 KiB of body one.
        """
        head, body = cut_message(message)
        hashed = RelaxedBody()
        hashed.feed(body)
        return self.sign_head(head, hashed.finish(), now=now)

    def sign_head(self, head: bytes, digest: bytes, *, now: float | None = None) -> bytes:
        """Return the field for a head and the digest of its body, made by RelaxedBody.

        ``head``: lines that end in CRLF, without the blank one after them.
        """
        fields = Fields(head)
        names = list(_choose(fields))
        algorithm = b"rsa" if isinstance(self._key, RSAPrivateKey) else b"ed25519"
        field = (
            b"DKIM-Signature: v=1; a=%b-sha256; c=relaxed/relaxed;\r\n"
            b"\td=%b; s=%b; t=%d;\r\n\th=%b;\r\n\tbh=%b;\r\n\tb="
        ) % (
            algorithm,
            self.domain.encode("ascii"),
            self._selector.encode("ascii"),
            int(time.time() if now is None else now),
            _fold(names),
            base64.b64encode(digest),
        )
        signed = [relax_field(one) for one in fields.choose(name.lower() for name in names)]
        # RFC 6376 §3.7: the field itself comes last, with b= empty and without its CRLF.
        signed.append(relax_field(field))
        value = self._seal(b"\r\n".join(signed))
        lines = [value[start : start + _WIDTH] for start in range(0, len(value), _WIDTH)]
        return field + b"\r\n\t ".join(lines) + b"\r\n"

    def _seal(self, octets: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            seal = self._key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
        else:
            # RFC 8463 §3: Ed25519 signs the SHA-256 digest, not the octets.
            seal = self._key.sign(sha256(octets).digest())
        return base64.b64encode(seal)


def load_signer(
    domain: str, selector: str, key_file: str, *, said: str = "tls_reports.dkim_key_file"
) -> Signer:
    """Read a private key, PEM without a password, RSA or Ed25519. Raises StartError.

    ``said``: where the configuration names the file.
    """
    said = f"{said}: cannot use {key_file}"
    wanted = "expected an RSA or Ed25519 private key, PEM, without a password"
    try:
        key = serialization.load_pem_private_key(Path(key_file).read_bytes(), password=None)
    except OSError as error:
        raise StartError(f"{said}: {error.strerror}; let this user read it") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StartError(f"{said}: {wanted}") from error
    if not isinstance(key, Key):
        raise StartError(f"{said}: {wanted}")
    if isinstance(key, RSAPrivateKey) and key.key_size < LEAST_BITS:
        raise StartError(f"{said}: {key.key_size} bits are too few, make one of 2048")
    return Signer(domain, selector, key)


def _choose(fields: Fields) -> Iterator[bytes]:
    """Yield the names for h=."""
    for name in FROZEN:
        encoded = name.encode("ascii")
        yield from [encoded] * (len(fields.find(encoded.lower())) + 1)
    frozen = {name.lower().encode("ascii") for name in FROZEN}
    for encoded in fields.names:
        if _ALSO.fullmatch(encoded) and encoded not in frozen:
            yield from [encoded] * len(fields.find(encoded))


def _fold(names: list[bytes]) -> bytes:
    """Join names with colons, a line break wherever one would get too long."""
    lines: list[bytes] = []
    line = b""
    for name in names:
        if line and len(line) + 1 + len(name) > _WIDTH:
            lines.append(line)
            line = name
        else:
            line = line + b":" + name if line else name
    return b":\r\n\t ".join([*lines, line])
