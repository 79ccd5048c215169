"""Puts other words in the place of words: the same for the same one, with its shape, by a secret key.

Letters become consonants, in their case; digits become digits; letters beyond ASCII become others of
their script with as many octets. So nothing changes its length, nothing that separates words is
touched, and what was one address in two places still is. Without the key nobody can look up a word; but
how often one occurs, and how long it is, still shows.

A domain's last label becomes one that does not exist, so that no scrubbed address is by chance real.
"""

import hashlib
import re
import unicodedata
from functools import lru_cache

_CONSONANTS = b"bcdfghjklmnpqrstvwxz"
_REMEMBERED = 1 << 16
_LONGEST = 256  # octets of a word; more are several
_TOKEN = re.compile(
    rb"(?P<keep>\x1b[\x20-\x2f]{1,3}[\x30-\x7e]"  # changes the character set (ISO 2022)
    rb"|-----(?:BEGIN|END) [A-Z ]{1,40}-----"  # armour
    rb"|(?:^|(?<=\n))>*From(?= )"  # what mailbox files quote
    rb"|\b(?:https?|ftp|mailto)(?=:))"
    rb"|(?P<percent>(?:%[0-9A-Fa-f]{2})+)"
    rb"|(?P<network>(?<![0-9A-Za-z.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z.]))"
    rb"|(?P<host>(?:[A-Za-z0-9_-]{1,63}\.){1,12}[A-Za-z]{2,24}(?![A-Za-z0-9\x80-\xff-]))"
    rb"|(?P<word>[A-Za-z0-9\x80-\xff]{1,256})"
)
_HOST = re.compile(rb"(?:[A-Za-z0-9_-]{1,63}\.){1,12}[A-Za-z]{2,24}(?![A-Za-z0-9\x80-\xff-])")
_WORD = re.compile(rb"[A-Za-z0-9\x80-\xff]{1,256}")
# RFC 3629 §4: well-formed sequences of two octets and more.
_WIDE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}"
    rb"|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
# Two letters that ISO 3166 leaves to users; no top-level domain begins with "zq".
_TWO = (
    b"qm",
    b"qn",
    b"qo",
    b"qp",
    b"qq",
    b"qr",
    b"qs",
    b"qt",
    b"qv",
    b"qw",
    b"qx",
    b"qy",
    b"qz",
    b"zz",
)


class Words:
    """Replaces words; one for a corpus. ``key``: a secret."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(key).digest()
        self._find = lru_cache(maxsize=_REMEMBERED)(self._make)

    def replace_all(self, text: bytes, vocabulary: frozenset[bytes] = frozenset()) -> bytes:
        """Return a text with other words; those of the vocabulary stay."""

        def replace(found: re.Match[bytes]) -> bytes:
            kind, token = found.lastgroup, found[0]
            if kind == "keep" or token.lower() in vocabulary:
                return token
            if kind == "percent":
                return self._replace_escaped(token)
            if kind == "network":
                return b".".join(_limit(self.replace(part)) for part in token.split(b"."))
            if kind == "host":
                return self._replace_host(token, vocabulary)
            return self.replace(token)

        return _TOKEN.sub(replace, text)

    def replace(self, word: bytes) -> bytes:
        """Return what stands for a word of letters and digits, with its capitals."""
        if len(word) > _LONGEST:
            parts = range(0, len(word), _LONGEST)
            return b"".join(self.replace(word[at : at + _LONGEST]) for at in parts)
        lower = word.lower()
        other = self._find(lower)
        if lower == word:
            return other
        pairs = zip(word, lower, other, strict=True)
        return bytes([new - 32 if old != small else new for old, small, new in pairs])

    def replace_hosts(self, text: bytes) -> bytes:
        """Return a text with other host names, and all else as it is."""
        return _HOST.sub(lambda found: self._replace_host(found[0], frozenset()), text)

    def make_noise(self, octets: bytes) -> bytes:
        """Return octets that look like chance, as many; the same for the same ones."""
        return hashlib.shake_256(self._key + hashlib.sha256(octets).digest()).digest(len(octets))

    def _make(self, word: bytes) -> bytes:
        """Return another word; ``word`` is in lower case, as far as it is ASCII."""
        other = word
        for attempt in range(4):
            chance = hashlib.shake_256(self._key + bytes([attempt]) + word).digest(len(word))
            other = _translate(word, chance)
            if other != word:
                break
        return other

    def _replace_escaped(self, token: bytes) -> bytes:
        """Replace the words in what a URL has as %41%62."""
        octets = _WORD.sub(
            lambda found: self.replace(found[0]), bytes.fromhex(token.replace(b"%", b"").decode())
        )
        upper = token != token.lower()
        return b"".join(b"%%%02X" % one if upper else b"%%%02x" % one for one in octets)

    def _replace_host(self, token: bytes, vocabulary: frozenset[bytes]) -> bytes:
        front, dot, last = token.rpartition(b".")
        front = _WORD.sub(lambda found: self.replace(found[0]), front)
        if last.lower() in vocabulary:
            return front + dot + last
        return front + dot + self._replace_top(last)

    def _replace_top(self, label: bytes) -> bytes:
        """Return a top-level domain that does not exist, of this length."""
        other = self.replace(label)
        if len(label) == 2:
            return _TWO[sum(other) % len(_TWO)]
        return b"test" if len(label) == 4 else b"zq" + other.lower()[2:]


def _translate(word: bytes, chance: bytes) -> bytes:
    """Put other letters in the place of each; ``chance``: as many octets."""
    out = bytearray(word)
    at = 0
    while at < len(word):
        octet = word[at]
        if octet < 0x80:
            digit = 0x30 <= octet <= 0x39
            out[at] = 0x30 + chance[at] % 10 if digit else _CONSONANTS[chance[at] % 20]
            at += 1
        elif wide := _WIDE.match(word, at):
            out[at : wide.end()] = _replace_wide(wide[0], chance[at])
            at = wide.end()
        else:
            # Of an 8-bit set: letters and signs are from A1 on, what controls is below.
            if octet > 0xA0:
                out[at] = 0xA1 + chance[at] % 94
            at += 1
    return bytes(out)


@lru_cache(maxsize=4096)
def _list_letters(block: int, length: int) -> tuple[bytes, ...]:
    """Return the letters and digits among 64 characters, as UTF-8 of one length."""
    found = (
        chr(code) for code in range(block * 64, block * 64 + 64) if not 0xD800 <= code < 0xE000
    )
    kept = (one.encode() for one in found if unicodedata.category(one)[0] in "LN")
    return tuple(one for one in kept if len(one) == length)


def _replace_wide(sequence: bytes, chance: int) -> bytes:
    """Return another letter for one beyond ASCII; what is none stays."""
    character = sequence.decode()
    if unicodedata.category(character)[0] not in "LN":
        return sequence
    others = _list_letters(ord(character) // 64, len(sequence))
    other = others[chance % len(others)]
    if other == sequence:
        other = others[(chance + 1) % len(others)]
    return other


def _limit(number: bytes) -> bytes:
    """Make a part of an address one that can be: at most 255, without a zero in front."""
    if len(number) == 3:
        return b"1" + number[1:]
    return b"1" + number[1:] if len(number) == 2 and number.startswith(b"0") else number
