"""What looking into one message may cost, and what has been spent of it."""

from collections.abc import Iterable

from relay.mime.limits import Limits, Unreadable


class Budget:
    """Counts for one message, over all its archives. Each method raises Unreadable past a limit.

    What is read to unpack counts as well as what comes out: packed octets that make nothing can be
    pointed to by every entry of a directory.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts = limits.parts
        self._names = limits.names
        self._characters = limits.name_characters
        self._read = limits.unpacked
        self.unpacked = limits.unpacked  # octets that are left

    def take_part(self) -> None:
        """Count a part of a message."""
        self._parts -= 1
        if self._parts < 0:
            raise Unreadable(f"it has more than {self._limits.parts} parts")

    def take_name(self) -> None:
        """Count an entry of an archive."""
        self._names -= 1
        if self._names < 0:
            raise Unreadable(f"its archives have more than {self._limits.names} names")

    def take_characters(self, names: Iterable[str]) -> None:
        """Count what an entry is called: all entries of a ZIP can share one name of 64 KiB."""
        self._characters -= sum(map(len, names))
        if self._characters < 0:
            most = self._limits.name_characters
            raise Unreadable(f"the names in its archives have more than {most} characters")

    def take_read(self, octets: int) -> None:
        """Count octets that are read to be unpacked, or copied."""
        self._read -= octets
        if self._read < 0:
            raise Unreadable(f"more than {self._limits.unpacked} octets of its archives are packed")

    def take_unpacked(self, octets: int) -> None:
        """Count octets that were unpacked."""
        self.unpacked -= octets
        if self.unpacked < 0:
            raise Unreadable(f"its archives unpack to more than {self._limits.unpacked} octets")
