"""Unpacks deflate, gzip, bzip2 and xz in memory, a little at a time, within a budget."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

from relay.mime.budget import Budget
from relay.mime.limits import Unreadable

Octets = bytes | bytearray

PEEK = 512  # octets that show what something is: a tar shows it at 257
# What is read to see them: deflate's tables, and twice as much as it would store.
_PEEK_READ = 2048
_CHUNK = 64 * 1024
# What bzip2 unpacks, and xz at least prepares for, before anything can be seen: half a hundred octets
# can do that, once for each entry of a directory that points to them.
_BLOCK = 900_000
# Streams behind each other in one file, as parallel packers write them. At the start of each one up
# to a chunk is copied.
_STREAMS = 4096
_XZ_MEMORY = 80 * 1024 * 1024  # `xz -9` takes 65 MiB


class Damaged(Exception):
    """Packed octets, or an archive, are not what they should be, or are cut off."""


class _Decoder(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflater:
    """zlib, with the interface of the others."""

    def __init__(self, bits: int) -> None:
        self._zlib = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


# How to begin, and what a further stream begins with; deflate in a zip is one stream.
_KINDS: dict[str, tuple[Callable[[], _Decoder], bytes]] = {
    "deflate": (lambda: _Inflater(-15), b""),
    "gz": (lambda: _Inflater(31), b"\x1f\x8b\x08"),
    "bz2": (bz2.BZ2Decompressor, b"BZh"),
    "xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY), b"\xfd7zXZ\0"),
}
PACKED = frozenset({"gz", "bz2", "xz"})


def peek(kind: str, octets: memoryview, budget: Budget) -> bytes:
    """Return the first octets of what is packed, PEEK of them or all. Raises Damaged, Unreadable."""
    cut = octets[:_PEEK_READ] if kind == "deflate" else octets[:_CHUNK]
    if kind in ("bz2", "xz"):
        cut = octets[: 16 * _CHUNK]  # a block of bzip2 shows nothing before it is whole
        budget.take_unpacked(_BLOCK)
    found, ended = _run(kind, cut, PEEK, budget)
    if len(found) < PEEK and not ended:
        if len(cut) < len(octets):
            raise Unreadable("something packed begins with much that unpacks to nothing")
        raise Damaged
    return bytes(found)


def unpack(kind: str, octets: memoryview, budget: Budget) -> bytearray:
    """Return all that is packed. Raises Damaged, and Unreadable when it is too much."""
    found, ended = _run(kind, octets, budget.unpacked + 1, budget)
    if not ended:
        raise Damaged
    return found


def _run(kind: str, octets: memoryview, most: int, budget: Budget) -> tuple[bytearray, bool]:
    """Unpack up to ``most`` octets; tell, too, whether that is the end."""
    begin, magic = _KINDS[kind]
    found = bytearray()
    decoder = begin()
    at, streams = 0, 1
    try:
        while len(found) < most:
            if decoder.eof:
                at -= len(decoder.unused_data)
                budget.take_read(-len(decoder.unused_data))
                # What is no further stream is padding: unpackers say so and ignore it.
                if not magic or octets[at : at + len(magic)] != magic:
                    return found, True
                streams += 1
                if streams > _STREAMS:
                    raise Unreadable(f"something is packed in more than {_STREAMS} streams")
                decoder = begin()
            chunk = octets[at : at + _CHUNK] if decoder.needs_input else octets[:0]
            at += len(chunk)
            budget.take_read(len(chunk))
            got = decoder.decompress(bytes(chunk), most - len(found))
            budget.take_unpacked(len(got))
            found += got
            if not got and not chunk and not decoder.eof:
                return found, False
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise Damaged from error
    return found, False
