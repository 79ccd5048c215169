"""Objects of the archive: an entry and its message, or ArchiveDamaged.

The first octet: with the key, or without. The rest is the object.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.archive.entry import Entry, complete, encode_entry
from relay.archive.form import unpack, unpack_entry
from relay.archive.name import find_place, find_time, read_name
from relay.archive.seal import MAGIC, Keys
from relay.errors import ArchiveDamaged
from tests.fuzz.target import take_octet

_ID = "01KAMB2V3H5Y8RZ3CW7QXK0N"
_PLACE = find_place("acme", _ID)
_KEY = bytes(32)
_KEYS = Keys([_KEY])
_MESSAGE = b"From: a@acme.test\r\nMessage-ID: <1@acme.test>\r\n\r\nx\r\n"
_HEAD = encode_entry(
    complete(
        Entry(id=_ID, tenant="acme", time=1.0, sender="a@acme.test", recipients=("b@y.test",)),
        _MESSAGE,
    )
)


def _seal(head: bytes, message: bytes) -> bytes:
    """Seal with a salt that is the same in every run."""
    salt, name = bytes(16), _PLACE.name.encode()
    cipher = AESGCM(hmac.digest(_KEY, b"outgate archive object\0" + salt + name, "sha256"))
    sealed = cipher.encrypt(bytes(12), head, name)
    which = hashlib.sha256(b"outgate archive key\0" + _KEY).digest()[:8]
    return (
        MAGIC + which + salt + len(sealed).to_bytes(4, "big") + sealed
        + cipher.encrypt((1).to_bytes(12, "big"), message, name)
    )  # fmt: skip


SEEDS = [
    b"\0" + _HEAD + _MESSAGE,
    b"\1" + _seal(_HEAD, _MESSAGE),
    b"\0" + _seal(_HEAD, _MESSAGE),
    b"\1" + _seal(b"{", b""),
    b"\1" + MAGIC + b"\xff" * 40,
    b"\0" + _HEAD.replace(b'"format":1', b'"format":2') + _MESSAGE,
    b"\0" + _HEAD.replace(b"acme.test", b"\xff\xfe", 1) + _MESSAGE,
    b'\0{"x":' + b"[" * 20_000 + b"\n",
    b"\0\n",
]


def _check_names(text: str) -> None:
    """A name is ours, or none."""
    place = read_name("acme", "2026-01-01", f"{text}.mail")
    try:
        assert find_place("acme", text).time == find_time(text)
        assert place is not None
    except ValueError:
        pass


def check(octets: bytes) -> None:
    """What opens is what was kept: the digest holds, and so does the place."""
    how, content = take_octet(octets)
    keys = _KEYS if how & 1 else None
    _check_names(content[:24].decode("latin-1"))
    try:
        first = unpack_entry(_PLACE, content[:2000], keys)
    except ArchiveDamaged:
        first = None
    try:
        entry, message = unpack(_PLACE, content, keys)
    except ArchiveDamaged:
        return
    assert first is None or first == entry
    assert (entry.id, entry.tenant) == (_ID, "acme")
    assert hashlib.sha256(message).hexdigest() == entry.digest
    if content.startswith(MAGIC):
        assert (encode_entry(entry), message) == (_HEAD, _MESSAGE), "a seal was forged"
