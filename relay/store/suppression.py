"""Recipients that their hosts did not know, again and again: who is not to be tried any more.

Counted over all workers, by address, in the shard of its domain; a success forgets it all. Plain
commands and no scripts: that two of them may come between each other's costs one attempt more or
less. The domain of an address is the delivery's (lower case, A-labels), the local part is as it is.
"""

import time
from collections.abc import Collection, Iterable
from hashlib import blake2s
from typing import NamedTuple

from relay.address import find_domain
from relay.config import Config
from relay.store.keys import SHARDS, find_shard, make_key
from relay.store.link import Link


class Suppressed(NamedTuple):
    """A recipient that is not tried. ``until``: seconds since 1970."""

    address: bytes
    until: float


class Suppression:
    """The list, over one link. All of it raises StoreUnavailable, StoreError."""

    def __init__(self, link: Link, config: Config) -> None:
        self._link = link
        self._after = config.delivery.suppress_after
        self._lifetime = config.delivery.suppress_for

    async def find(self, domain: str, recipients: Collection[bytes]) -> frozenset[bytes]:
        """Return those of a domain's recipients that are not to be tried."""
        members = [_name(address, domain) for address in recipients]
        ends = await self._link.call("ZMSCORE", _find_list(domain), *members)
        now = time.time()
        return frozenset(
            address
            for address, end in zip(recipients, ends, strict=True)
            if end is not None and float(end) > now
        )

    async def note(
        self, domain: str, *, unknown: Iterable[bytes] = (), known: Iterable[bytes] = ()
    ) -> frozenset[bytes]:
        """Count what a host of the domain said about recipients.

        ``unknown``: nobody has that address. ``known``: it took a message for it. Returns those
        that will not be tried from now on.
        """
        shard = find_shard(domain)
        forgotten = [
            self._link.send(*command)
            for address in known
            for command in (
                ("DEL", _find_count(shard, _name(address, domain))),
                ("ZREM", _find_list(domain), _name(address, domain)),
            )
        ]
        counts = []
        for address in unknown:
            key = _find_count(shard, _name(address, domain))
            counts.append((address, self._link.send("INCR", key)))
            # Also what comes once a year is "in a row": so it must not be remembered for ever.
            forgotten.append(self._link.send("EXPIRE", key, int(self._lifetime) + 1))
        added = frozenset([a for a, count in counts if await count.wait() >= self._after])
        for address in added:
            await self._add(domain, address)
        for done in forgotten:
            await done.wait()
        return added

    async def _add(self, domain: str, address: bytes) -> None:
        now = time.time()
        key = _find_list(domain)
        await self._link.call("ZREMRANGEBYSCORE", key, "-inf", now)
        await self._link.call("ZADD", key, now + self._lifetime, _name(address, domain))
        # When its time is over it is tried again, and the counting begins anew.
        await self._link.call("DEL", _find_count(find_shard(domain), _name(address, domain)))

    async def listing(self, *, limit: int = 10_000) -> list[Suppressed]:
        """Return whoever is not tried, by address; at most ``limit`` of each of the shards."""
        now = time.time()
        pending = [
            self._link.send(
                *("ZRANGEBYSCORE", make_key(shard, "suppressed"), f"({now}", "+inf"),
                *("WITHSCORES", "LIMIT", 0, limit),
            )
            for shard in range(SHARDS)
        ]
        found: list[Suppressed] = []
        for reply in pending:
            pairs = await reply.wait()
            found += map(Suppressed, pairs[::2], map(float, pairs[1::2]))
        return sorted(found)

    async def lift(self, address: bytes) -> bool:
        """Let a recipient be tried again; False when nothing was held against it."""
        domain = find_domain(address)
        if domain is None:
            return False
        name = _name(address, domain)
        count = self._link.send("DEL", _find_count(find_shard(domain), name))
        removed = int(await self._link.call("ZREM", _find_list(domain), name))
        return bool(removed + int(await count.wait()))


def _name(address: bytes, domain: str) -> bytes:
    return address.rpartition(b"@")[0] + b"@" + domain.encode("ascii")


def _find_list(domain: str) -> str:
    return make_key(find_shard(domain), "suppressed")


def _find_count(shard: int, name: bytes) -> str:
    """An address may hold anything, so its count goes by a digest."""
    return make_key(shard, "unknown", blake2s(name, digest_size=16).hexdigest())
