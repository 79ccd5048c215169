"""MTA-STS policies of domains, as fetched, for all workers (workers/tls/sts.py).

Plain commands, and the last one to write wins: whoever fetched, fetched what the domain published
at that moment.
"""

import msgspec

from relay.store.keys import find_shard, make_key
from relay.store.link import Link


class StoredSts(msgspec.Struct, frozen=True):
    """A policy. Times in seconds since 1970, on the clock of the worker that fetched it."""

    id: str  # of the DNS record that announced it
    text: str
    fetched: float
    expires: float


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredSts).decode


class StsCache:
    """The policies, over one link. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def read(self, domain: str) -> StoredSts | None:
        """Return the policy of a domain (lower case, A-labels); None when there is none."""
        raw = await self._link.call("GET", _find_key(domain))
        try:
            return None if raw is None else _decode(raw)
        except msgspec.MsgspecError:
            return None  # of another version of this program; the next fetch replaces it

    async def write(self, domain: str, stored: StoredSts, *, lifetime: float) -> None:
        """Keep a policy for so many seconds, in place of the one before it."""
        milliseconds = max(1, int(lifetime * 1000))
        await self._link.call("SET", _find_key(domain), _encode(stored), "PX", milliseconds)


def _find_key(domain: str) -> str:
    return make_key(find_shard(domain), "sts", domain)
