"""Opens files that may be compressed, and reads tar archives as they stream by.

Memory stays bounded whatever is in them: no archive is unpacked, no index is kept, and what grows
beyond all measure while it is decompressed ends the file.
"""

import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from relay.errors import OutgateError
from relay.mime import tarred, unpack
from workers.replay.zstandard import load_zstd

_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
_BLOCK = 512
_BUFFER = 256 * 1024
_LONGEST = 64 * 1024  # of a name or a pax header in an archive
_LATEST = 253_402_300_800.0  # the year 10000, which no file system knows either; seconds since 1970
_WINDOW = 27  # zstd: the decompressor's memory, as a power of two; what `zstd` itself allows
# Real mail is compressed to a tenth, the same message over and over to a thousandth.
_FREE, _RATIO = 1 << 30, 2_000
_RECORD = re.compile(rb"([0-9]{1,9}) (path|size|mtime)=([^\n]*)\n")


class _Decompressor(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class Damaged(OutgateError):
    """A file of the corpus cannot be read further: what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive; ``stream`` can be read until the next one is asked for."""

    name: str
    stamp: float
    stream: io.BufferedReader


class Opened:
    """A file on the disk, decompressed as it is read; ``position``: octets of it that were read."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; StartError when a library for it is missing."""
        self._file: IO[bytes] = path.open("rb")
        try:
            self.stream = self._decompress(path)
        except BaseException:
            self._file.close()
            raise

    @property
    def position(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        """Close it."""
        self.stream.close()
        self._file.close()

    def _decompress(self, path: Path) -> io.BufferedReader:
        magic = self._file.read(4)
        self._file.seek(0)
        inner: _Decompressor
        if magic == _ZSTD:
            inner = _open_zstd(path, self._file)
        elif magic.startswith(_GZIP):
            inner = gzip.GzipFile(fileobj=self._file, mode="rb")
        else:
            return io.BufferedReader(_Raw(self._file.read), _BUFFER)
        return io.BufferedReader(_Raw(_Measured(inner, self._file).read), _BUFFER)


def _open_zstd(path: Path, file: IO[bytes]) -> _Decompressor:
    zstd = load_zstd(path)
    inner: _Decompressor = zstd.ZstdFile(
        file, options={zstd.DecompressionParameter.window_log_max: _WINDOW}
    )
    return inner


class _Measured:
    """Reads what is decompressed, as long as it is in proportion to what was compressed."""

    def __init__(self, inner: _Decompressor, file: IO[bytes]) -> None:
        self._inner = inner
        self._file = file
        self._out = 0
        self._problem: Damaged | None = None

    def read(self, size: int) -> bytes:
        """Return what is there, a block at least; b"" at the end. What is whole comes before Damaged."""
        octets = b""
        while self._problem is None and len(octets) < min(size, _BLOCK):
            try:
                piece = self._inner.read1(size - len(octets))
            except (EOFError, OSError, zlib.error) as error:
                self._problem = Damaged(f"cannot be decompressed: {error}")
            except Exception as error:
                if type(error).__name__ != "ZstdError":  # of a module that may not be there
                    raise
                self._problem = Damaged(f"cannot be decompressed: {error}")
            else:
                if not piece:
                    break
                octets += piece
        if self._problem is not None and not octets:
            raise self._problem
        self._out += len(octets)
        if self._out > _FREE + _RATIO * self._file.tell():
            raise Damaged(f"decompresses to more than {_RATIO} times its size: a bomb")
        return octets


class _Raw(io.RawIOBase):
    """What ``read(size)`` gives, as a raw stream: to its end, or exactly ``left`` octets of it."""

    def __init__(self, read: Callable[[int], bytes], left: int | None = None) -> None:
        super().__init__()
        self._read = read
        self.left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever can be written to
        wanted = len(buffer) if self.left is None else min(len(buffer), self.left)
        octets = self._read(wanted)
        if self.left is not None:
            if not octets and self.left:
                raise Damaged("ends in the middle of a file in it")
            self.left -= len(octets)
        buffer[: len(octets)] = octets
        return len(octets)


# -- tar ------------------------------------------------------------------------------------------


def is_tar(stream: io.BufferedReader) -> bool:
    """Tell whether a tar archive begins here."""
    return _is_header(stream.peek(_BLOCK)[:_BLOCK])


def _is_header(block: bytes) -> bool:
    try:
        return tarred.is_header(block)
    except unpack.Damaged:  # where its sum should be is no number
        return False


def read_entries(stream: io.BufferedReader) -> Iterator[Entry]:
    """Yield the regular files of a tar archive (POSIX.1-2017 "pax", GNU). Raises Damaged.

    Links, devices and directories are nobody's mail, and sparse files are not in order: they are
    passed over.
    """
    said: dict[bytes, bytes] = {}  # by what stands in front of the entry: name, size, time
    while len(block := stream.read(_BLOCK)) == _BLOCK and any(block):
        if not _is_header(block):
            raise Damaged("is no tar archive any more, half way through")
        kind, length = block[156:157], _read_number(block[124:136])
        if kind in (b"L", b"K", b"x", b"g", b"X"):
            said |= _read_extension(kind, _read_exactly(stream, length))
            continue
        length = int(said.get(b"size", b"%d" % length))
        raw = _Raw(stream.read, length)
        if kind in (b"0", b"\0", b"7"):
            stamp = float(said.get(b"mtime", b"%d" % _read_number(block[136:148])))
            stamp = stamp if stamp < _LATEST else 0.0
            name = said.get(b"path") or _find_name(block)
            yield Entry(name.decode("utf-8", "replace"), stamp, io.BufferedReader(raw, _BUFFER))
        while raw.left:  # what its reader has not wanted
            raw.readinto(bytearray(min(raw.left, _BUFFER)))
        _read_exactly(stream, -length % _BLOCK, padded=True)
        said = {}


def _read_extension(kind: bytes, octets: bytes) -> dict[bytes, bytes]:
    """Return what an entry's forerunner says of it: a long name, or a pax header's records."""
    if kind == b"L":
        return {b"path": octets.partition(b"\0")[0]}
    said = {}
    if kind in (b"x", b"X"):
        for _, key, value in _RECORD.findall(octets):
            pattern = rb"[0-9]{1,18}" if key == b"size" else rb"[0-9]{1,18}(\.[0-9]*)?"
            if key == b"path" or re.fullmatch(pattern, value):
                said[key] = value
    return said


def _read_exactly(stream: io.BufferedReader, length: int, *, padded: bool = False) -> bytes:
    if length > _LONGEST:
        raise Damaged("has a name longer than anybody gives")
    size = length if padded else -(-length // _BLOCK) * _BLOCK
    octets = stream.read(size)
    if len(octets) < size and not padded:
        raise Damaged("ends in the middle of a name")
    return octets[:length]


def _find_name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0]
    # GNU's own format has other things in the prefix' place.
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _read_number(field: bytes) -> int:
    """Read a number: in octal, or if it is large in base 256. What is none is 0."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & (1 << 8 * len(field) - 2) - 1
    with contextlib.suppress(ValueError):
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    return 0
