"""The journal of a replay: which messages are done, so that one that was cut short goes on.

A text file, a line for each message: its number, what it was, and how it ended: ``A`` accepted, ``P``
by some of its recipients, ``R`` refused, ``F`` failed for the time being (it is sent again). A line is
written, by one system call, as soon as the answer is there and before its connection begins anything
else. So after ``kill -9`` at most what was in flight is sent again: the server may have it, and nobody
knows. (After a power failure it can be some more: nobody waits for the disk.)
"""

import fcntl
import hashlib
import os
import re
from array import array
from pathlib import Path
from typing import Literal

from relay.errors import StartError

Ending = Literal["A", "P", "R", "F"]

_TITLE = b"outgate replay journal 1\n"
_LINE = re.compile(rb"([0-9]{1,9}) ([0-9a-f]{16}) ([APRF])\n")
_ENDINGS: dict[int, Ending] = {65: "A", 80: "P", 82: "R"}  # those that stay, by their letter
_MOST = 100_000_000  # messages; nine octets of memory for each


class Journal:
    """One open journal. Belongs to one process: it is locked."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises StartError when it is in use, or no journal."""
        self._path = path
        self._digests = array("Q")
        self._endings = bytearray()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"--state {path}: {error.strerror}; name another file") from error
        try:
            self._lock()
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(
                f"--state {self._path}: another replay has it: wait for its end, or name another file"
            ) from None

    def _load(self) -> None:
        with os.fdopen(os.dup(self._file), "rb") as file:
            first = file.readline(len(_TITLE) + 1)
            if first not in (b"", _TITLE):
                raise StartError(
                    f"--state {self._path}: is not a journal of ours; name another file"
                )
            end = len(first)
            for line in file:
                found = _LINE.fullmatch(line)
                if found is None:  # torn, when the machine went down
                    break
                self._note(int(found[1]), int(found[2], 16), found[3])
                end += len(line)
        os.truncate(self._file, end)
        if not end:
            os.write(self._file, _TITLE)

    def _note(self, number: int, digest: int, ending: bytes) -> None:
        if number >= _MOST:
            raise StartError(f"--state {self._path}: more than {_MOST:,} messages")
        missing = number + 1 - len(self._endings)
        if missing > 0:
            self._digests.frombytes(bytes(8 * missing))
            self._endings += bytes(missing)
        self._digests[number] = digest
        self._endings[number] = ending[0]

    def find(self, number: int, name: str, size: int) -> Ending | None:
        """Return how a message ended; None when it has not (or is to be sent again).

        Raises StartError when the corpus has changed since.
        """
        if number >= len(self._endings) or not self._endings[number]:
            return None
        if self._digests[number] != _digest(name, size):
            raise StartError(
                f"--state {self._path}: message {number + 1} was another one, not {name}: the corpus, or "
                "--repeat, has changed since; name another file to begin again"
            )
        return _ENDINGS.get(self._endings[number])

    def write(self, number: int, name: str, size: int, ending: Ending) -> None:
        """Note how a message ended. ``size``: of its content, octets. Raises StartError."""
        line = b"%d %016x %b\n" % (number, _digest(name, size), ending.encode())
        try:
            os.write(self._file, line)
        except OSError as error:
            raise StartError(
                f"--state {self._path}: cannot be written: {error.strerror}"
            ) from error

    def close(self) -> None:
        """See to it that it is on the disk, and let go of it."""
        os.fsync(self._file)
        os.close(self._file)


def _digest(name: str, size: int) -> int:
    # Of names as they are on the disk: what is not UTF-8 stands in them as a surrogate.
    text = f"{size} {name}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
