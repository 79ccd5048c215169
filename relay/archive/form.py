"""The form of an object: the entry's line, then the message; in clear, or sealed.

In clear it can be read with ``head -1`` and ``tail -n +2``. An object in clear begins with ``{``, a
sealed one with its magic, so a key that is configured later leaves the older objects readable.
"""

import hashlib

from relay.archive.entry import Entry, decode_entry, encode_entry
from relay.archive.name import Place
from relay.archive.seal import MAGIC, Keys, measure_head
from relay.errors import ArchiveDamaged

# 100,000 recipients, the most that can be configured, of 320 octets, each of which may be escaped.
MAX_HEAD = 64 << 20
FIRST_READ = 16 * 1024  # octets that hold almost every head


def pack(place: Place, entry: Entry, message: bytes, keys: Keys | None) -> list[bytes]:
    """Return the octets of an object, in parts. The entry is complete."""
    head = encode_entry(entry)
    return [head, message] if keys is None else keys.seal(place.name, head, message)


def is_sealed(octets: bytes) -> bool:
    """Say whether an object is sealed, by its first octets."""
    return octets.startswith(MAGIC)


def measure(octets: bytes) -> int:
    """Return how many octets of an object hold its entry; more than MAX_HEAD: nobody knows.

    Raises ArchiveDamaged.
    """
    if is_sealed(octets):
        return measure_head(octets)
    end = octets.find(b"\n")
    return end + 1 if end >= 0 else MAX_HEAD + 1


def unpack_entry(place: Place, octets: bytes, keys: Keys | None) -> Entry:
    """Return an object's entry; ``octets``: its beginning, or all. Raises ArchiveDamaged."""
    end = measure(octets)
    if end > min(len(octets), MAX_HEAD):
        raise ArchiveDamaged("it ends within its first line, or has none")
    head = _need(keys).open_head(place.name, octets) if is_sealed(octets) else octets[:end]
    entry = decode_entry(head)
    # Sealed objects do not open under another name; those in clear say what they are.
    if (entry.id, entry.tenant) != (place.message_id, place.tenant):
        raise ArchiveDamaged(f"it is {entry.id} of {entry.tenant}, under another's name")
    return entry


def unpack(place: Place, octets: bytes, keys: Keys | None) -> tuple[Entry, bytes]:
    """Return entry and message of a whole object, the digest verified. Raises ArchiveDamaged."""
    entry = unpack_entry(place, octets, keys)
    if is_sealed(octets):
        message = _need(keys).open_message(place.name, octets)
    else:
        message = octets[measure(octets) :]
    if hashlib.sha256(message).hexdigest() != entry.digest:
        raise ArchiveDamaged("its message is not the one that was kept: the digest differs")
    return entry, message


def _need(keys: Keys | None) -> Keys:
    if keys is None:
        raise ArchiveDamaged("it is sealed, and archive.key_file is not set")
    return keys
