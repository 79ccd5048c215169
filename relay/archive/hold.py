"""Legal holds: what must not be purged, whatever its age.

A hold is an object of the archive, ``.holds/<name>.json``, in every copy of it. One object each, and
not one list of all: two operators at once would overwrite each other's, and no two stores agree on
how to prevent that. In how many copies it is: a hold that is in any of them counts, so an operator's
process that dies between two copies has either held, or not yet released. A hold that cannot be read
is an error, not an absence: nothing is purged then.
"""

import re
import secrets
import time

import msgspec

from relay.archive.archive import Copies
from relay.archive.name import OWN, Place
from relay.archive.vault import Vault
from relay.errors import ArchiveDamaged

_FOLDER = OWN + "holds"
_SUFFIX = ".json"
_MAX = 1 << 20  # octets
_NAME = re.compile(r"[a-z0-9-]{1,64}")


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """One hold. What is empty stands for all; all that is given must match."""

    name: str
    tenant: str = ""
    ids: tuple[str, ...] = ()  # of messages
    first: str = ""  # the first day and the last one, of those in the archive
    last: str = ""
    since: float = 0.0  # seconds since 1970
    who: str = ""
    why: str = ""

    def covers(self, place: Place) -> bool:
        """Say whether a message is held."""
        return (
            self.tenant in ("", place.tenant)
            and (not self.ids or place.message_id in self.ids)
            and self.first <= place.day
            and (not self.last or place.day <= self.last)
        )

    def describe(self) -> dict[str, object]:
        """Return what is held, for an event and for programs."""
        facts = {"tenant": self.tenant, "ids": list(self.ids), "from": self.first, "to": self.last}
        return {"hold": self.name, **{key: value for key, value in facts.items() if value}}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Hold).decode


def make_name() -> str:
    """Return a name for a hold: its day, and chance."""
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}-{secrets.token_hex(3)}"


def is_name(text: str) -> bool:
    """Say whether this could be the name of a hold."""
    return bool(_NAME.fullmatch(text))


async def place_hold(copies: Copies, hold: Hold) -> None:
    """Begin a hold. Raises ArchiveUnavailable."""
    for vault in copies.vaults:
        await vault.write(_find_object(hold.name), [_encode(hold), b"\n"])


async def read_hold(copies: Copies, name: str) -> Hold | None:
    """Return a hold that is in any copy; None: there is none of that name.

    Raises ArchiveUnavailable, and ArchiveDamaged when it cannot be read.
    """
    held = [await _read(vault, name) for vault in copies.vaults]
    return next((hold for hold in held if hold is not None), None)


async def release_hold(copies: Copies, name: str) -> None:
    """End a hold, in every copy. Raises ArchiveUnavailable."""
    for vault in copies.vaults:
        await vault.remove([_find_object(name)])


async def read_holds(copies: Copies) -> list[Hold]:
    """Return all holds, in any copy. Raises ArchiveUnavailable and ArchiveDamaged."""
    found: dict[str, Hold] = {}
    for vault in copies.vaults:
        for file in await vault.list_files(_FOLDER):
            hold = await _read(vault, file.removesuffix(_SUFFIX))
            if hold is not None:  # released since it was listed
                found[hold.name] = hold
    return [found[name] for name in sorted(found)]


async def _read(vault: Vault, name: str) -> Hold | None:
    octets = await vault.read(_find_object(name), _MAX)
    if octets is None:
        return None
    try:
        hold = _decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArchiveDamaged(
            f"{vault.title}: {_find_object(name)} cannot be read ({error}); "
            "nothing is purged until it is repaired, or removed"
        ) from error
    if hold.name != name:
        raise ArchiveDamaged(f"{vault.title}: {_find_object(name)} is hold {hold.name}")
    return hold


def _find_object(name: str) -> str:
    return f"{_FOLDER}/{name}{_SUFFIX}"
