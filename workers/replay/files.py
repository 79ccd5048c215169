"""Finds the messages of a corpus: eml, mbox, Maildir, directories of those, archives of those.

What a path on the command line names is taken for what it is, whatever it is called. In directories
and archives the name decides: ``*.eml``, ``*.mbox``, ``*.mbx``, archives (not in archives), whatever
stands in a ``cur`` or ``new`` (Maildir), and files whose name is a number (MH). Order is by name, the
same each time, so that a journal can count.
"""

import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay.errors import StartError
from workers.replay.letter import Leftovers, Letter
from workers.replay.mbox import Quoting, split
from workers.replay.packed import Damaged, Opened, is_tar, read_entries

_DEEPEST = 40  # directories in directories
_PACKED = (".tar", ".tgz", ".tzst", ".gz", ".zst")
_MAIL = (".eml", ".mbox", ".mbx")
_MH = re.compile(r"[0-9]{1,12}")
# The name that a Maildir's file begins with when it is delivered: seconds since 1970.
_MAILDIR = re.compile(r"([0-9]{9,10})\.")


@dataclass(slots=True)
class Reading:
    """How a corpus is read. ``most``: octets of a message; larger ones are left out."""

    paths: Sequence[Path]
    quoting: Quoting = "mboxrd"
    most: int = 50 << 20
    left: Leftovers = field(default_factory=Leftovers)

    def read(self) -> Iterator[Letter]:
        """Yield the messages, in order. Raises StartError for a path that is not there.

        What cannot be read further on is noted in ``left``, and the rest goes on.
        """
        position = 0
        for path, is_named in self._find():
            size = path.stat().st_size if path.exists() else 0
            try:
                yield from self._read_file(path, position)
            except (OSError, Damaged) as error:
                said = error.strerror if isinstance(error, OSError) else str(error)
                if is_named and isinstance(error, OSError):
                    raise StartError(f"{path}: cannot be read: {said}") from error
                self.left.complain(f"{path}: {said}")
            position += size

    def measure(self) -> int:
        """Return the octets of all files, for a bar that shows how far it is."""
        return sum(path.stat().st_size for path, _ in self._find() if path.exists())

    def _find(self) -> Iterator[tuple[Path, bool]]:
        """Yield the files, and whether each was named."""
        for path in self.paths:
            if path.is_dir():
                for found in self._walk(path, 0):
                    yield found, False
            else:
                yield path, True

    def _walk(self, directory: Path, depth: int) -> Iterator[Path]:
        if depth > _DEEPEST:
            self.left.complain(f"{directory}: more than {_DEEPEST} directories in each other")
            return
        try:
            with os.scandir(directory) as entries:
                found = sorted(
                    (entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries
                )
        except OSError as error:
            self.left.complain(f"{directory}: {error.strerror}")
            return
        for name, is_directory in found:
            path = directory / name
            if is_directory:
                # What is in tmp is still being delivered.
                if name != "tmp" or not (directory / "cur").is_dir():
                    yield from self._walk(path, depth + 1)
            elif is_mail(str(path), archives=True) and path.is_file():
                yield path

    def _read_file(self, path: Path, position: int) -> Iterator[Letter]:
        opened = Opened(path)
        try:
            changed = path.stat().st_mtime
            if not is_tar(opened.stream):
                for letter in self._read_stream(opened.stream, str(path), changed):
                    yield _place(letter, position + opened.position)
                return
            for entry in read_entries(opened.stream):
                if not is_mail(entry.name, archives=False):
                    self.left.leave("no mail, by its name")
                    continue
                name = f"{path}:{entry.name}"
                for letter in self._read_stream(entry.stream, name, entry.stamp):
                    yield _place(letter, position + opened.position)
        finally:
            opened.close()

    def _read_stream(
        self, stream: io.BufferedReader, name: str, changed: float
    ) -> Iterator[Letter]:
        """Yield what is in a file: one message, or a mailbox of them."""
        if stream.peek(5)[:5] != b"From ":
            content = stream.read(self.most + 1)
            if len(content) > self.most:
                self.left.leave(f"larger than {self.most:,} octets")
            elif content:
                yield Letter(name, content, _find_stamp(name), changed)
            else:
                self.left.leave("empty")
            return
        for number, (found, came) in enumerate(split(stream, self.quoting, self.most), 1):
            if found is None:
                self.left.leave(f"larger than {self.most:,} octets")
            elif found:
                yield Letter(f"{name}#{number}", found, came, changed)
            else:
                self.left.leave("empty")


def is_mail(name: str, *, archives: bool) -> bool:
    """Tell whether a file in a directory, or in an archive, is taken for mail."""
    *folders, file = name.split("/")
    lower = file.lower()
    if lower.endswith(_MAIL) or (archives and lower.endswith(_PACKED)):
        return True
    if folders and folders[-1] in ("cur", "new"):
        return True
    return _MH.fullmatch(file) is not None


def _find_stamp(name: str) -> float:
    """Return when a Maildir's message came, by its file's name; 0 for another file."""
    *folders, file = name.split("/")
    found = _MAILDIR.match(file) if folders and folders[-1] in ("cur", "new") else None
    return float(found[1]) if found else 0.0


def _place(letter: Letter, position: int) -> Letter:
    return Letter(letter.name, letter.content, letter.stamp, letter.changed, position)
