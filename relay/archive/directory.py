"""A directory that keeps objects, one file each, as Maildir does: written aside, then renamed.

Where is the object if the process, or the machine, dies?

    while the draft is written     in .tmp/, for nobody; swept a day later (``sweep``)
    after the rename, before the   under its name, whole; or in .tmp/, whole: the rename may be lost.
    folder is synced               put has not returned, so nothing was promised
    after that                     under its name

A file is synced before it gets its name, so that a name never stands for half an object. Files have
mode 0600 and folders 0700: the archive is its owner's.
"""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from relay.errors import ArchiveUnavailable, StartError

_TMP = ".tmp"
_LEFTOVER = 86_400.0  # seconds after which a draft has no owner any more
_JOIN = 128 * 1024  # octets up to which parts are written at once
_KNOWN = 10_000  # folders that are remembered as lasting


class Directory:
    """A depot in a directory of this host, or one that is mounted here."""

    kind = "directory"
    # So many syncs wait at a time: the file system writes them to its journal together.
    threads = 32

    def __init__(self, path: str) -> None:
        self.title = f"directory {path}"
        self._path = Path(path)
        self._known: set[str] = set()  # folders whose own names are on disk

    def prepare(self) -> None:
        """Make the directory, and see that it can be written to. Raises StartError."""
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._path / _TMP).mkdir(mode=0o700, exist_ok=True)
            _sync(self._path)
            draft, descriptor = self._open_draft("start")
            os.close(descriptor)
            draft.unlink()
        except OSError as error:
            raise StartError(
                f"archive.directory {self._path} cannot be used ({error.strerror}): make it "
                "writable for this user, or configure another"
            ) from error

    def sweep(self) -> int:
        """Remove what crashes have left in .tmp/, a day later; return how many."""
        swept, before = 0, time.time() - _LEFTOVER
        with contextlib.suppress(OSError), os.scandir(self._path / _TMP) as found:
            for file in found:
                # Another process may sweep at the same time.
                with contextlib.suppress(OSError):
                    if file.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(file.path)
                        swept += 1
        return swept

    def write(self, name: str, parts: Sequence[bytes]) -> None:
        """See Depot."""
        with self._explained("take", name):
            draft, descriptor = self._open_draft(name.rpartition("/")[2])
            try:
                try:
                    _write(descriptor, parts)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                self._place(draft, name)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise

    def _open_draft(self, name: str) -> tuple[Path, int]:
        draft = self._path / _TMP / f"{name}.{secrets.token_hex(8)}"
        return draft, os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _place(self, draft: Path, name: str) -> None:
        folder = name.rpartition("/")[0]
        self._make_lasting(folder)
        try:
            os.rename(draft, self._path / name)
        except FileNotFoundError:  # `purge` has taken the empty folder away
            self._known.discard(folder)
            self._make_lasting(folder)
            os.rename(draft, self._path / name)
        _sync(self._path / folder)

    def _make_lasting(self, folder: str) -> None:
        """Make a folder, and have it last.

        Not only who made it syncs the folder above: until that is done, whoever puts a file into it
        would promise what could go with the whole folder.
        """
        if folder in self._known:
            return
        at = self._path
        for part in folder.split("/"):
            with contextlib.suppress(FileExistsError):
                (at / part).mkdir(mode=0o700)
            _sync(at)
            at /= part
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(folder)

    def read(self, name: str, limit: int) -> bytes | None:
        """See Depot."""
        with self._explained("read", name):
            try:
                with (self._path / name).open("rb", buffering=0) as file:
                    return _read(file.fileno(), limit)
            except FileNotFoundError:
                return None

    def list_folders(self, folder: str) -> list[str]:
        """See Depot."""
        return sorted(self._scan(folder, folders=True))

    def list_page(self, folder: str, after: str) -> tuple[list[str], bool]:
        """See Depot. All of them: the system would read the whole folder for each page."""
        return sorted(name for name in self._scan(folder, folders=False) if name > after), False

    def _scan(self, folder: str, *, folders: bool) -> list[str]:
        with self._explained("list", folder):
            try:
                with os.scandir(self._path / folder) as found:
                    return [f.name for f in found if f.is_dir(follow_symlinks=False) == folders]
            except FileNotFoundError:
                if folder:
                    return []
                raise

    def remove(self, name: str) -> None:
        """See Depot."""
        with self._explained("remove", name):
            (self._path / name).unlink(missing_ok=True)

    def tidy(self, folder: str) -> None:
        """See Depot."""
        with self._explained("tidy", folder):
            path = self._path / folder
            try:
                _sync(path)
                path.rmdir()
                _sync(path.parent)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    @contextlib.contextmanager
    def _explained(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            raise ArchiveUnavailable(
                f"the archive ({self.title}) could not {verb} {name or 'itself'}: {why}"
            ) from error


def _write(descriptor: int, parts: Sequence[bytes]) -> None:
    # A small message is one call; a large one is not copied for it.
    if sum(map(len, parts)) <= _JOIN:
        parts = [b"".join(parts)]
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]


def _read(descriptor: int, limit: int) -> bytes:
    size = min(limit, os.fstat(descriptor).st_size)
    octets = os.read(descriptor, size)
    if len(octets) == size:  # almost always
        return octets
    pieces = [octets]
    while size > (have := sum(map(len, pieces))) and (piece := os.read(descriptor, size - have)):
        pieces.append(piece)
    return b"".join(pieces)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
