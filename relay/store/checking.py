"""What the last look at our own sources found, and the lease of who looks (workers/doctor/watch.py).

A field of ``checked`` is a source and a check, "a dnsbl". It is kept so that a change is told once,
whoever finds it and however often workers are started again. Two workers that both believe in their
lease (lease.py) find the same.
"""

from collections.abc import Iterable, Mapping

import msgspec

from relay.store.keys import make_key
from relay.store.lease import Lease
from relay.store.link import Link

LEASE = 60.0  # s; who looks renews it, for as long as it lives


class Checked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a check has found of a source: ok, notice, warning, error. ``since``: seconds since 1970."""

    level: str
    text: str = ""
    since: float = 0.0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Checked).decode

Key = tuple[str, str]  # the source's name, the check's


class Checking:
    """The record and the lease, over one link. All of it raises StoreUnavailable, StoreError."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.lease = Lease(link, make_key(0, "checking"), LEASE)  # of who looks
        self._record = make_key(0, "checked")

    async def read(self) -> dict[Key, Checked]:
        """Return what was found last; what is another version's is left out."""
        raw = await self._link.call("HGETALL", self._record)
        found: dict[Key, Checked] = {}
        for field, record in zip(raw[::2], raw[1::2], strict=True):
            source, _, check = field.decode("utf-8", "replace").rpartition(" ")
            try:
                found[source, check] = _decode(record)
            except msgspec.MsgspecError:
                continue
        return found

    async def write(self, found: Mapping[Key, Checked]) -> None:
        """Keep what was found, in place of what was before."""
        fields = [part for key, one in found.items() for part in (" ".join(key), _encode(one))]
        if fields:
            await self._link.call("HSET", self._record, *fields)

    async def forget(self, keys: Iterable[Key]) -> None:
        """Forget checks that nobody makes any more, and sources that are gone."""
        if fields := [" ".join(key) for key in keys]:
            await self._link.call("HDEL", self._record, *fields)
