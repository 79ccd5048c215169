"""Writes a corpus without what is personal: as files, or as one archive; names and folders are new."""

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from relay.errors import StartError
from workers.replay.files import Reading
from workers.replay.scrub.message import scrub
from workers.replay.scrub.words import Words
from workers.replay.zstandard import load_zstd

_SHORTEST = 16  # octets of a key
_TOGETHER = 1000  # files in one directory
_EVERY = 1000  # messages between two lines
_PACKED = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.zst": "zst", ".tzst": "zst"}

_Put = Callable[[int, bytes, float], None]


def scrub_corpus(
    reading: Reading, out: Path, key_file: Path | None, console: Console, most: int | None = None
) -> int:
    """Write what ``reading`` finds to ``out``, which must be new; return the exit code.

    ``most``: messages. Raises StartError.
    """
    words = Words(_read_key(key_file))
    count = octets = 0
    with _open(out) as put:
        for letter in islice(reading.read(), most):
            count += 1
            octets += len(letter.content)
            put(count, scrub(letter.content, words), letter.stamp or letter.changed)
            if count % _EVERY == 0:
                console.print(f"{count:,} messages, {octets / 1e6:,.1f} MB", soft_wrap=True)
    for why, number in reading.left.reasons.items():
        console.print(f"left out: {number:,} x {why}", soft_wrap=True, markup=False)
    for problem in reading.left.damaged:
        console.print(f"damaged: {problem}", soft_wrap=True, markup=False)
    console.print(
        f"{count:,} messages written to {out}. Signatures (DKIM, ARC, S/MIME, PGP) in them do not hold "
        "any more. Dates, sizes and how often a word occurs are as they were.",
        soft_wrap=True,
        markup=False,
    )
    return 0 if count and not reading.left.damaged else 1


def _read_key(path: Path | None) -> bytes:
    if path is None:
        return os.urandom(32)
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise StartError(f"--scrub-key-file {path}: {error.strerror}") from error
    if len(key) < _SHORTEST:
        raise StartError(
            f"--scrub-key-file {path}: expected {_SHORTEST} octets or more: openssl rand -hex 32"
        )
    return key


@contextlib.contextmanager
def _open(out: Path) -> Iterator[_Put]:
    """Make a place to put messages in. Raises StartError."""
    packing = next((kind for end, kind in _PACKED.items() if out.name.endswith(end)), None)
    try:
        if packing is None:
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(out.iterdir()):
                raise StartError(f"--scrub {out}: the directory is not empty; name a new one")
            yield lambda number, octets, stamp: _write_file(out, number, octets, stamp)
        else:
            with out.open("xb") as file, _compress(file, packing) as stream:
                with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    yield lambda number, octets, stamp: _write_entry(archive, number, octets, stamp)
    except OSError as error:
        raise StartError(f"--scrub {out}: {error.strerror or error}; name another one") from error


@contextlib.contextmanager
def _compress(file: IO[bytes], packing: str) -> Iterator[Any]:
    if packing == "gz":
        import gzip

        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as stream:
            yield stream
    elif packing == "zst":
        with load_zstd(file.name).ZstdFile(file, "wb") as stream:
            yield stream
    else:
        yield file


def _name(number: int) -> str:
    return f"{number // _TOGETHER:05}/{number:08}.eml"


def _write_file(out: Path, number: int, octets: bytes, stamp: float) -> None:
    path = out / _name(number)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(octets)
    if stamp:
        os.utime(path, (stamp, stamp))


def _write_entry(archive: tarfile.TarFile, number: int, octets: bytes, stamp: float) -> None:
    entry = tarfile.TarInfo(_name(number))
    entry.size = len(octets)
    entry.mtime = int(stamp)
    entry.mode = 0o600
    archive.addfile(entry, io.BytesIO(octets))
    archive.members = []  # type: ignore[attr-defined]  # its index would grow with the corpus, and nobody reads it
