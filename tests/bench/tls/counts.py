"""What generator and sink count: eight numbers in a file that both they and the bench have mapped.

Reading it costs a look at memory: nobody writes, wakes or waits.
"""

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_SHAPE = struct.Struct("=8Q")


class Counts(NamedTuple):
    """Since the process began. A session is a connection whose client has said EHLO."""

    sessions: int = 0
    handshakes: int = 0  # that came to their end
    resumed: int = 0  # of these: with a ticket of an earlier one, without certificates
    messages: int = 0  # final dots: sink, that have arrived; generator, that were answered with 250
    octets: int = 0  # of content
    most_octets: int = 0  # of the longest message
    open: int = 0  # sessions now
    most_open: int = 0


class Page:
    """The mapped file. One process writes, by ``note``; others ``read``."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SHAPE.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SHAPE.size)

    def note(self, *counts: int) -> None:
        """Write them all, in the order of Counts."""
        _SHAPE.pack_into(self._map, 0, *counts)

    def read(self) -> Counts:
        """Return them; a moment's mixture when the writer is at it."""
        return Counts(*_SHAPE.unpack_from(self._map))

    def close(self) -> None:
        """Unmap the file; it stays."""
        self._map.close()
