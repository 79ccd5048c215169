"""The archive as a configuration has it: none, one copy of each message, or two."""

from functools import partial
from typing import Protocol

import trio

from relay.archive import form
from relay.archive.bucket import Bucket
from relay.archive.directory import Directory
from relay.archive.entry import Entry, complete
from relay.archive.name import Place, find_place
from relay.archive.seal import Keys, read_keys
from relay.archive.together import together
from relay.archive.vault import Vault
from relay.config.schema import Config

_INLINE = 64 * 1024  # octets that are hashed and sealed faster than a thread is woken


class Archive(Protocol):
    """What a session needs of it."""

    async def put(self, entry: Entry, message: bytes) -> None:
        """Keep a message. It lasts, in every copy, when this returns.

        Again for the same id: the same. Raises ArchiveUnavailable; then the message must not be
        accepted (451), and a copy of it may be there all the same.
        """


class Copies:
    """An archive in one vault, or the same in several: all have it before ``put`` returns."""

    def __init__(self, vaults: tuple[Vault, ...], keys: Keys | None) -> None:
        self.vaults = vaults
        self._keys = keys

    async def put(self, entry: Entry, message: bytes) -> None:
        """See Archive."""
        place = find_place(entry.tenant, entry.id)
        if len(message) <= _INLINE:
            parts = self._pack(place, entry, message)
        else:
            parts = await trio.to_thread.run_sync(self._pack, place, entry, message)
        if len(self.vaults) == 1:
            await self.vaults[0].write(place.name, parts)
        else:
            await together([partial(one.write, place.name, parts) for one in self.vaults])

    def _pack(self, place: Place, entry: Entry, message: bytes) -> list[bytes]:
        return form.pack(place, complete(entry, message), message, self._keys)


def open_archive(config: Config) -> Copies | None:
    """Return the archive for a service, ready to be written to; None: it is not configured.

    Blocks for a moment. Raises StartError: the directory cannot be used, a key file is not one, or
    boto3 is missing. Whether the bucket is there turns out with the first message.
    """
    directory = _open_directory(config)
    if directory is not None:
        directory.prepare()
        directory.sweep()
    return _open(config, directory)


def open_copies(config: Config) -> Copies | None:
    """Return the archive for who reads it; makes no directory. Raises StartError as above."""
    return _open(config, _open_directory(config))


def _open_directory(config: Config) -> Directory | None:
    return Directory(config.archive.directory) if config.archive.directory else None


def _open(config: Config, directory: Directory | None) -> Copies | None:
    archive = config.archive
    keys = read_keys(archive.key_file)
    vaults = []
    if directory is not None:
        vaults.append(Vault(directory, keys, archive.timeout))
    if archive.s3.bucket:
        vaults.append(Vault(Bucket(archive.s3, archive.timeout), keys, archive.timeout))
    return Copies(tuple(vaults), keys) if vaults else None
