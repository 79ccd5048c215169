"""Archives for tests: ordinary ones, and those that somebody made to do harm."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping


def make_zip(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            # Of a fixed date, for what is made is part of tests' names, and these must not change.
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def make_tar(files: Mapping[str, bytes], mode: str = "w", style: int = tarfile.PAX_FORMAT) -> bytes:
    """``mode``: "w", "w:gz", "w:bz2", "w:xz"."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=style) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def make_gzip(content: bytes, name: str = "") -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=file, mtime=0) as archive:
        archive.write(content)
    return file.getvalue()


def deflate(content: bytes, *, ends: bool = True) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(zlib.Z_FINISH if ends else zlib.Z_SYNC_FLUSH)


def make_raw_zip(
    entries: list[tuple[bytes, int, int]],
    data: bytes,
    *,
    method: int = 8,
    flags: int = 0,
    count: int | None = None,
) -> bytes:
    """Write a ZIP by hand. ``entries``: central name, offset of a local header in data, packed size."""
    directory = b"".join(
        struct.pack(
            "<4s4B4H3L5H2L", b"PK\x01\x02", 20, 0, 20, 0, flags, method, 0, 0,
            0, packed, packed, len(name), 0, 0, 0, 0, 0, offset,
        ) + name
        for name, offset, packed in entries
    )  # fmt: skip
    said = min(len(entries), 0xFFFE) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, said, said, len(directory), len(data), 0)
    return data + directory + end


def make_local(name: bytes, packed: bytes, method: int = 8) -> bytes:
    """Write an entry's local header, with its content."""
    head = struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", 20, 0, method, 0, 0, 0, len(packed), len(packed), len(name), 0
    )
    return head + name + packed


def make_overlapping(count: int, packed: bytes, name: bytes = b"x") -> bytes:
    """Return a ZIP with many entries that all point to the same octets."""
    data = make_local(name, packed)
    return make_raw_zip([(name, 0, len(packed))] * count, data)


def make_quine() -> bytes:
    """Return what holds archives in archives, deeper than anybody looks."""
    archive = make_zip({"evil.exe": b"MZ"})
    for _ in range(50):
        archive = make_zip({"r.zip": archive})
    return archive
