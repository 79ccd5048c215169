"""The seal at the end of a day: it commits to each line of the day, and may be signed.

Its digest is the SHA-256 over the day's lines' hashes, 32 octets each, in order. So whoever has the
list of hashes can check any single line of the day without having the others: that is what an
export is made of. The signature is an HMAC-SHA-256 (RFC 2104) with a key that the files do not have.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from relay.audit.line import UNREADABLE, Head, make_line, read_beginning
from relay.errors import StartError

LEAST_KEY = 32  # octets: as many as the hash has (RFC 2104 §3)
_MARK = b'"event":"seal",'


class Seal(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a seal says of its day. Without ``hmac`` it is not signed."""

    chain: str
    day: str
    lines: int
    first: int
    last: int
    digest: str
    time: float = 0.0
    hmac: str = ""


class Book:
    """Keeps the account of a day: which lines, and the digest over their hashes."""

    __slots__ = ("_digest", "first", "last", "note_hash")

    def __init__(self) -> None:
        self.first = 0
        self.last = 0
        self._digest = sha256()
        self.note_hash = self._digest.update  # for who keeps first and last himself

    @property
    def lines(self) -> int:
        """How many there are."""
        return self.last - self.first + 1 if self.first else 0

    def note(self, n: int, hashed: bytes) -> None:
        """Count a line; ``hashed``: its hash, 32 octets."""
        self.first = self.first or n
        self.last = n
        self._digest.update(hashed)

    def make_seal(self, chain: str, day: str, *, time: float, key: bytes) -> Seal:
        """Seal the day. ``key``: b"" leaves it unsigned."""
        seal = Seal(chain, day, self.lines, self.first, self.last, self._digest.hexdigest(), time)
        return msgspec.structs.replace(seal, hmac=_sign(seal, key)) if key else seal

    def find_fault(self, seal: Seal, chain: str, day: str) -> str:
        """Say how a seal differs from the day that it is the seal of; "" when it does not."""
        if (seal.chain, seal.day) != (chain, day):
            return f"it is the seal of {seal.chain}, {seal.day}"
        if (seal.lines, seal.first, seal.last) != (self.lines, self.first, self.last):
            return (
                f"it is for {seal.lines} lines, {seal.first} to {seal.last}; there are "
                f"{self.lines}, {self.first} to {self.last}"
            )
        return "" if seal.digest == self._digest.hexdigest() else "its digest is another"


def _sign(seal: Seal, key: bytes) -> str:
    what = ("outgate-audit-seal", seal.chain, seal.day, seal.lines, seal.first, seal.last)
    text = "\n".join(map(str, (*what, seal.digest, seal.time))).encode()
    return hmac.digest(key, text, "sha256").hex()


def is_signed(seal: Seal, keys: Sequence[bytes]) -> bool:
    """Tell whether one of the keys has signed it."""
    return any(hmac.compare_digest(seal.hmac.encode(), _sign(seal, key).encode()) for key in keys)


def make_event(seal: Seal) -> bytes:
    """Return the event that a seal's line is made of."""
    # Its name first: who reads a million lines must not take each apart to find the seal.
    return b"{" + _MARK + msgspec.json.encode(seal)[1:]


def is_seal(line: bytes, beginning: int) -> bool:
    """Tell whether a line is a seal. ``beginning``: how long number and hash in front of it are."""
    return line.startswith(_MARK, beginning)


def read_seal(line: bytes) -> Seal | None:
    """Read the line of a seal; None when it cannot be read, or is not written as we write it.

    What else stood in it, as a key that is there twice, would be seen by readers and not be signed.
    """
    begun = read_beginning(line)
    try:
        seal = msgspec.json.decode(line, type=Seal)
    except UNREADABLE:
        return None
    if begun is None or line != make_line(Head(begun.n - 1, begun.hash), make_event(seal)):
        return None
    return seal


def load_keys(file: str) -> tuple[bytes, ...]:
    """Return the keys of a file, a key a line: the first signs, all of them verify.

    No keys for "". Raises StartError, which does not say what is in the file.
    """
    if not file:
        return ()
    try:
        text = Path(file).read_bytes()
    except OSError as error:
        raise StartError(f"audit.key_file: cannot read {file}: {error.strerror}") from error
    keys = split_keys(text)
    if fault := find_key_fault(keys):
        raise StartError(f"audit.key_file: {fault}")
    return keys


def split_keys(text: bytes) -> tuple[bytes, ...]:
    """Return the lines of a key file."""
    return tuple(key for line in text.splitlines() if (key := line.strip()))


def find_key_fault(keys: Sequence[bytes]) -> str:
    """Say what is wrong with the lines of a key file; "" for nothing."""
    if keys and all(len(key) >= LEAST_KEY for key in keys):
        return ""
    return (
        f"expected a key a line, of at least {LEAST_KEY} octets; `openssl rand -hex 32` makes one"
    )
