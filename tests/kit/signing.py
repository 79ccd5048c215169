"""Domains that sign their mail: keys, their records for a name server, and signed messages."""

import base64
import functools
import re
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from relay.dkim.sign import Key, Signer

SELECTOR = "s1"


@functools.cache
def make_rsa_key() -> RSAPrivateKey:
    """Return a key; the same each time, for it takes a while to make one."""
    return generate_private_key(65537, 2048)


class SigningDomain:
    """A domain with a key: ``sign`` messages as it would, and publish ``zone``."""

    def __init__(self, domain: str, *, selector: str = SELECTOR, key: Key | None = None) -> None:
        self.domain = domain
        self.key: Key = key or Ed25519PrivateKey.generate()
        self._selector = selector
        self._signer = Signer(domain, selector, self.key)

    @property
    def zone(self) -> dict[str, dict[str, list[str]]]:
        """The record of the public key, as tests/kit/nameserver.py has it."""
        public = self.key.public_key()
        if isinstance(self.key, RSAPrivateKey):
            kind = "rsa"
            octets = public.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        else:
            kind = "ed25519"
            octets = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        record = f"v=DKIM1; k={kind}; p={base64.b64encode(octets).decode()}"
        strings = [f'"{part}"' for part in re.findall(".{1,200}", record)]
        return {f"{self._selector}._domainkey.{self.domain}": {"TXT": [" ".join(strings)]}}

    def sign(self, message: bytes, *, now: float | None = None) -> bytes:
        """Return the message with a signature on top."""
        return self._signer.sign(message, now=time.time() if now is None else now) + message

    def write_key(self) -> bytes:
        """Return the private key as PEM."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
