"""Sealing: AES-256-GCM, so that who can read the disk or the bucket reads nothing, and changes nothing
unnoticed.

A sealed object:

    8   magic
    8   which key: the beginning of a digest of it
    16  salt, drawn anew for each object
    4   length of the sealed head, big-endian
    .   the head, sealed
    .   the message, sealed

Head and message are sealed apart, so that a search reads a few hundred octets of each object and
not its attachments; the entry's digest ties the two together.

Each object has a key of its own, HMAC-SHA-256 of ours over salt and name (SP 800-108), under which
the head has nonce 0 and the message nonce 1. With one key and nonces drawn by lot, GCM is good
for 2**32 of them (SP 800-38D §8.3): fewer messages than a busy gateway sees in a year.

The object's name is in the key and in the additional data: an object under another's name does not
open. The name is without the bucket's prefix, so that a copy may be moved.
"""

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.errors import ArchiveDamaged, StartError

MAGIC = b"OGSEAL1\n"
_KEY = 32
_SALT = 16
_PREAMBLE = len(MAGIC) + 8 + _SALT + 4
_HEAD_NONCE = (0).to_bytes(12, "big")
_MESSAGE_NONCE = (1).to_bytes(12, "big")
_MAX_KEYS = 100
_ADVICE = "expected 32 octets in base64, a key a line; `openssl rand -base64 32` makes one"


class Keys:
    """The keys of an archive: the first seals, all of them open."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = {
            hashlib.sha256(b"outgate archive key\0" + key).digest()[:8]: key for key in keys
        }
        self._first = next(iter(self._keys))

    def seal(self, name: str, head: bytes, message: bytes) -> list[bytes]:
        """Return an object's octets, in parts."""
        salt = os.urandom(_SALT)
        cipher, extra = _make_cipher(self._keys[self._first], salt, name), name.encode()
        sealed = cipher.encrypt(_HEAD_NONCE, head, extra)
        preamble = MAGIC + self._first + salt + len(sealed).to_bytes(4, "big")
        return [preamble, sealed, cipher.encrypt(_MESSAGE_NONCE, message, extra)]

    def open_head(self, name: str, octets: bytes) -> bytes:
        """Return the head. ``octets``: at least ``measure_head`` of them. Raises ArchiveDamaged."""
        end = measure_head(octets)
        return self._open(name, octets, _HEAD_NONCE, octets[_PREAMBLE:end])

    def open_message(self, name: str, octets: bytes) -> bytes:
        """Return the message of a whole object. Raises ArchiveDamaged."""
        end = measure_head(octets)
        return self._open(name, octets, _MESSAGE_NONCE, memoryview(octets)[end:])

    def _open(self, name: str, octets: bytes, nonce: bytes, sealed: bytes | memoryview) -> bytes:
        at = len(MAGIC)
        which, salt = octets[at : at + 8], octets[at + 8 : at + 8 + _SALT]
        key = self._keys.get(which)
        if key is None:
            raise ArchiveDamaged(
                f"it is sealed with key {which.hex()}, which archive.key_file has not"
            )
        try:
            return _make_cipher(key, salt, name).decrypt(nonce, sealed, name.encode())
        except (InvalidTag, ValueError):
            raise ArchiveDamaged(
                "its seal is broken: it was changed, cut off, or renamed"
            ) from None


def measure_head(octets: bytes) -> int:
    """Return how many octets hold a sealed object's head. Raises ArchiveDamaged when it is cut off."""
    if len(octets) < _PREAMBLE:
        raise ArchiveDamaged(f"it ends after {len(octets)} octets")
    return _PREAMBLE + int.from_bytes(octets[_PREAMBLE - 4 : _PREAMBLE], "big")


def _make_cipher(key: bytes, salt: bytes, name: str) -> AESGCM:
    return AESGCM(hmac.digest(key, b"outgate archive object\0" + salt + name.encode(), "sha256"))


def read_keys(path: str) -> Keys | None:
    """Read ``archive.key_file``; None without one. Raises StartError."""
    if not path:
        return None
    try:
        with Path(path).open("rb") as file:
            lines = file.read(64 * 1024).split(b"\n")
    except OSError as error:
        raise StartError(f"archive.key_file {path} cannot be read: {error.strerror}") from error
    # One loop over numbered lines, so that the report names the line and never the key.
    keys = [_read_key(path, n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    if not keys:
        raise StartError(f"archive.key_file {path} is empty: {_ADVICE}")
    if len(keys) > _MAX_KEYS:
        raise StartError(f"archive.key_file {path}: expected at most {_MAX_KEYS} keys")
    return Keys(keys)


def _read_key(path: str, number: int, line: bytes) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY:
        raise StartError(f"archive.key_file {path}, line {number}: {_ADVICE}")
    return key
