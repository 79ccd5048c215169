"""Sets of networks as they were last published, for all ingress processes (relay/ingress/networks).

For each set there is the last good answer, and beside it one that was refused and waits for an
operator. Plain commands, and the last one to write wins: whoever asked, asked the same. Times are
the store's, so that hosts whose clocks disagree agree about who asked last.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from relay.config.units import Network
from relay.store.keys import make_key
from relay.store.link import Link, Reply

_REFUSED = "?"  # in front of a set's name; no name has it


class StoredSet(msgspec.Struct, frozen=True):
    """One answer. ``origin`` is whom it was had from: what another set of that name had is no use."""

    networks: tuple[str, ...]
    time: float  # seconds since 1970, on the store's clock
    origin: str
    why: str = ""  # it was refused

    def read_networks(self) -> tuple[Network, ...]:
        """Return the networks. Raises ValueError for a record that is not ours."""
        return tuple(map(ipaddress.ip_network, self.networks))


@dataclass(frozen=True, slots=True)
class Listing:
    """What the store has of some sets, by name, and its time."""

    now: float
    good: dict[str, StoredSet] = field(default_factory=dict)
    refused: dict[str, StoredSet] = field(default_factory=dict)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredSet).decode


class StoredSets:
    """The sets, over one link. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._key = make_key(0, "networks")

    async def read(self, names: Iterable[str]) -> Listing:
        """Return what there is of the sets of these names."""
        wanted = list(names)
        clock = self._link.send("TIME")
        fields = [*wanted, *(_REFUSED + name for name in wanted)]
        raw = await self._link.call("HMGET", self._key, *fields) if fields else []
        found = [_read(record) for record in raw]
        good, refused = found[: len(wanted)], found[len(wanted) :]
        return Listing(
            _read_time(await clock.wait()),
            {name: one for name, one in zip(wanted, good, strict=True) if one},
            {name: one for name, one in zip(wanted, refused, strict=True) if one},
        )

    async def write(self, name: str, networks: Iterable[Network], origin: str) -> StoredSet:
        """Keep a good answer in place of the one before it, and of one that was refused."""
        stored = StoredSet(tuple(map(str, networks)), await self._read_clock(), origin)
        # What waited for an operator is out of date now. If we die in between, it is gone, and the
        # next look brings it back or does not.
        self._link.send("HDEL", self._key, _REFUSED + name)
        await self._link.call("HSET", self._key, name, _encode(stored))
        return stored

    async def refuse(
        self, name: str, networks: Iterable[Network], origin: str, why: str
    ) -> StoredSet:
        """Keep an answer beside the good one, for an operator to decide about."""
        stored = StoredSet(tuple(map(str, networks)), await self._read_clock(), origin, why)
        await self._link.call("HSET", self._key, _REFUSED + name, _encode(stored))
        return stored

    async def _read_clock(self) -> float:
        return _read_time(await self._link.call("TIME"))


def _read_time(reply: Reply) -> float:
    seconds, microseconds = reply
    return int(seconds) + int(microseconds) / 1e6


def _read(record: bytes | None) -> StoredSet | None:
    try:
        return None if record is None else _decode(record)
    except msgspec.MsgspecError:
        return None  # of another version of this program; the next answer replaces it
