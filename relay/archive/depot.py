"""A place that keeps objects by name: what the archive asks of a directory, or of a bucket."""

from collections.abc import Sequence
from typing import Protocol


class Depot(Protocol):
    """Keeps objects; all of it blocks, and is called in threads, several at a time.

    Names are those of ``name.py``; a folder is what stands before a slash, "" the top. Everything
    raises ArchiveUnavailable, whose text names the depot.
    """

    title: str  # for people: "directory /srv/archive", "bucket mail"
    kind: str  # "directory" or "s3"
    threads: int  # calls at a time

    def write(self, name: str, parts: Sequence[bytes]) -> None:
        """Keep an object: on disk when it returns, whole or not at all. Replaces one of that name."""

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the first ``limit`` octets of an object; None when there is none."""

    def list_folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, without it, in order."""

    def list_page(self, folder: str, after: str) -> tuple[list[str], bool]:
        """Return names of objects in a folder, in order, those behind ``after``; True: there are more."""

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""

    def tidy(self, folder: str) -> None:
        """Have removals from a folder last; an empty one goes."""
