"""Public keys: records in the DNS (RFC 6376 §3.6), and what they verify."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from relay.dkim.signature import Algorithm
from relay.dkim.tags import Unproven, parse_tags, read_list, read_octets
from relay.net.resolver import Resolver

LEAST_BITS = 1024  # RFC 8301 §3.2: what is signed with fewer does not count
_MOST_BITS = 8192  # it asks for 4096; the time that one takes grows with the square
_RECORD_OCTETS = 4096  # a key of 8192 bits is 1.4 KiB

_PADDING, _HASH = padding.PKCS1v15(), hashes.SHA256()

# A record of our own, or one without v= that has p=. A wildcard may bring SPF or DMARC here.
_KEY = re.compile(rb"[ \t\r\n]*(?:v[ \t\r\n]*=[ \t\r\n]*DKIM1[ \t\r\n]*(?:;|\Z)|(?!v[ \t\r\n]*=))")
_HAS_P = re.compile(rb"(?:^|;)[ \t\r\n]*p[ \t\r\n]*=")


@dataclass(frozen=True, slots=True)
class RsaKey:
    """A key that signs mail. ``exact``: i= must be d= itself, and nothing below it (t=s)."""

    key: RSAPublicKey
    exact: bool = False
    algorithm: ClassVar[Algorithm] = "rsa"  # what a= must name

    def verify(self, seal: bytes, octets: bytes) -> bool:
        """Tell whether ``seal`` was made of these octets with the private half."""
        try:
            self.key.verify(seal, octets, _PADDING, _HASH)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Ed25519Key:
    """The same of the other kind (RFC 8463)."""

    key: Ed25519PublicKey
    exact: bool = False
    algorithm: ClassVar[Algorithm] = "ed25519"

    def verify(self, seal: bytes, octets: bytes) -> bool:
        """Tell whether ``seal`` was made of these octets with the private half."""
        try:
            # RFC 8463 §3: Ed25519 signs the SHA-256 digest, not the octets.
            self.key.verify(seal, sha256(octets).digest())
        except InvalidSignature:
            return False
        return True


PublicKey = RsaKey | Ed25519Key


class Keys:
    """Finds keys in the DNS. Answers are kept by the resolver, parsed keys here."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def find(self, selector: str, domain: str) -> PublicKey:
        """Return the key at ``<selector>._domainkey.<domain>``.

        Raises NameUnavailable, when nobody can say now; Unproven, when there is none that counts.
        """
        found = await self._resolver.find_txt(f"{selector}._domainkey.{domain}")
        return read_key(found.records)


def choose_record(records: Sequence[bytes]) -> bytes:
    """Return the one that is a key. Raises Unproven.

    RFC 6376 §3.6.2.2: what several mean is undefined. Those that are no keys do not count.
    """
    keys = [one for one in records if _KEY.match(one) and _HAS_P.search(one)]
    if len(keys) == 1:
        return keys[0]
    if keys:
        raise Unproven("several keys in the DNS")
    raise Unproven("no key in the DNS" if not records else "what is in the DNS is no key")


@functools.lru_cache(maxsize=1024)
def read_key(records: tuple[bytes, ...]) -> PublicKey:
    """Return the key among the records of a name. Raises Unproven.

    Remembered by what they say: parsing takes longer than verifying.
    """
    return parse_key(choose_record(records))


def parse_key(record: bytes) -> PublicKey:
    """Read a record (RFC 6376 §3.6.1). Raises Unproven."""
    if len(record) > _RECORD_OCTETS:
        raise Unproven(f"the key record has more than {_RECORD_OCTETS} octets")
    tags = parse_tags(record)
    flags = read_list(tags.get(b"t", b""))
    if b"sha256" not in read_list(tags.get(b"h", b"sha256")):
        raise Unproven("the key is not for SHA-256 (h=)")
    if not {b"*", b"email"} & set(read_list(tags.get(b"s", b"*"))):
        raise Unproven("the key is not for mail (s=)")
    if b"y" in flags:
        # §3.6.1: as if the message were not signed at all.
        raise Unproven("the key is only being tested (t=y)")
    octets = read_octets(tags.get(b"p", b""))
    if not octets:
        raise Unproven("the key is revoked (p= is empty)")
    match tags.get(b"k", b"rsa").lower():
        case b"rsa":
            return RsaKey(_read_rsa(octets), b"s" in flags)
        case b"ed25519":
            return Ed25519Key(_read_ed25519(octets), b"s" in flags)
        case _:
            raise Unproven("the kind of key is not known (k=)")


def _read_rsa(octets: bytes) -> RSAPublicKey:
    """Read a SubjectPublicKeyInfo, or the bare RSAPublicKey that RFC 6376 §3.6.1 speaks of."""
    try:
        key = serialization.load_der_public_key(octets)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unproven("p= is no RSA key") from None
    if not isinstance(key, RSAPublicKey):
        raise Unproven("p= is no RSA key")
    if not LEAST_BITS <= key.key_size <= _MOST_BITS:
        raise Unproven(f"the RSA key has {key.key_size} bits")
    return key


def _read_ed25519(octets: bytes) -> Ed25519PublicKey:
    """Read the 32 octets of a key (RFC 8463 §4)."""
    try:
        return Ed25519PublicKey.from_public_bytes(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise Unproven("p= is no Ed25519 key") from None
