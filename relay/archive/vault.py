"""A depot as the rest sees it: on trio, within a time, sealed.

Each call runs in a thread of the depot's own few (a disk that hangs must not take the threads that
look up names), and is waited for no longer than ``archive.timeout``, the wait for a thread included.
A thread that is given up goes on by itself: what it writes is whole or nothing, and a message too
many in the archive is harmless.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio

from relay.archive import form
from relay.archive.depot import Depot
from relay.archive.entry import Entry
from relay.archive.name import OWN, Place, find_place, is_day, read_name
from relay.archive.seal import Keys
from relay.archive.together import together
from relay.errors import ArchiveDamaged, ArchiveUnavailable

_T = TypeVar("_T")
AT_ONCE = 32  # objects that are read, or removed, at a time
# The largest message that can be configured, its head, and the seals.
_MAX_OBJECT = (1 << 30) + form.MAX_HEAD + 1024


@dataclass(frozen=True, slots=True)
class Found:
    """An object of the archive: its entry, or what is wrong with it."""

    place: Place
    entry: Entry | None
    sealed: bool = False
    damage: str = ""


class Vault:
    """One depot. Everything raises ArchiveUnavailable."""

    def __init__(self, depot: Depot, keys: Keys | None, timeout: float) -> None:
        """``timeout``: seconds for each call of the depot."""
        self.title = depot.title
        self.kind = depot.kind
        self.has_keys = keys is not None
        self._depot = depot
        self._keys = keys
        self._timeout = timeout
        self._limiter = trio.CapacityLimiter(depot.threads)

    async def write(self, name: str, parts: Sequence[bytes]) -> None:
        """Keep an object; it lasts when this returns."""
        await self._call(partial(self._depot.write, name, parts))

    async def read(self, name: str, limit: int) -> bytes | None:
        """Return the first ``limit`` octets of an object; None: there is none."""
        return await self._call(partial(self._depot.read, name, limit))

    async def remove(self, names: Sequence[str]) -> None:
        """Remove objects of one folder, and the folder if it is empty then."""
        for start in range(0, len(names), AT_ONCE):
            batch = names[start : start + AT_ONCE]
            await together([partial(self._remove, name) for name in batch])
        for folder in {name.rpartition("/")[0] for name in names}:
            await self._call(partial(self._depot.tidy, folder))

    async def _remove(self, name: str) -> None:
        await self._call(partial(self._depot.remove, name))

    # -- messages -----------------------------------------------------------------------------

    async def read_message(self, place: Place) -> tuple[Found, bytes] | None:
        """Return a message, its digest verified; None: it is not here. Raises ArchiveDamaged."""
        octets = await self.read(place.name, _MAX_OBJECT)
        if octets is None:
            return None
        try:
            entry, message = await trio.to_thread.run_sync(form.unpack, place, octets, self._keys)
        except ArchiveDamaged as error:
            raise ArchiveDamaged(f"{self.title}: {place.name}: {error}") from error
        return Found(place, entry, form.is_sealed(octets)), message

    async def read_entries(self, places: Sequence[Place]) -> list[Found]:
        """Return what is there of these places, in their order; at most a few dozen."""
        found = await together([partial(self._read_entry, place) for place in places])
        return [one for one in found if one is not None]

    async def _read_entry(self, place: Place) -> Found | None:
        octets = await self.read(place.name, form.FIRST_READ)
        if octets is None:
            return None
        try:
            needed = form.measure(octets)
            if needed > len(octets) == form.FIRST_READ:  # hundreds of recipients
                octets = await self.read(place.name, min(needed, form.MAX_HEAD)) or b""
            entry = form.unpack_entry(place, octets, self._keys)
        except ArchiveDamaged as error:
            return Found(place, None, damage=f"{self.title}: {place.name}: {error}")
        return Found(place, entry, form.is_sealed(octets))

    # -- folders ------------------------------------------------------------------------------

    async def list_tenants(self) -> list[str]:
        """Return whose messages are here, also of tenants that are not configured any more."""
        folders = await self._call(partial(self._depot.list_folders, ""))
        return [name for name in folders if not name.startswith(OWN)]

    async def list_days(self, tenant: str) -> list[str]:
        """Return the days of a tenant's messages, in order."""
        folders = await self._call(partial(self._depot.list_folders, tenant))
        return [name for name in folders if is_day(name)]

    async def list_places(self, tenant: str, day: str) -> list[Place]:
        """Return the messages of a day, in order: all of them, about 100 octets each."""
        files = await self.list_files(f"{tenant}/{day}")
        return [place for file in files if (place := read_name(tenant, day, file)) is not None]

    async def list_files(self, folder: str) -> list[str]:
        """Return the names of the objects in a folder, without it, in order."""
        found: list[str] = []
        is_more = True
        while is_more:
            after = found[-1] if found else ""
            page, is_more = await self._call(partial(self._depot.list_page, folder, after))
            found += page
        return found

    async def find_places(self, message_id: str, tenant: str = "") -> list[Place]:
        """Return where a message may be: with its tenant, or with any. Raises ValueError."""
        tenants = [tenant] if tenant else await self.list_tenants()
        return [find_place(name, message_id) for name in tenants]

    async def _call(self, work: Callable[[], _T]) -> _T:
        try:
            with trio.fail_after(self._timeout):
                return await trio.to_thread.run_sync(
                    work, limiter=self._limiter, abandon_on_cancel=True
                )
        except trio.TooSlowError:
            raise ArchiveUnavailable(
                f"the archive ({self.title}) did not answer within {self._timeout:g} s"
            ) from None
