"""What an operator has suspended, and the record of who decided what.

A suspension names a tenant, a site, a source or a source at a site, and every worker knows all of
them; or a domain (of one tenant, or of all), and then its shard knows. Until when is on the store's
clock; None: until it is resumed.

If whoever suspends dies half way, the record is there and the shard does not know yet: `outgate
suspend` again does the rest. Nothing here touches a message.
"""

from collections.abc import Sequence

import msgspec

from relay.store.keys import SHARDS, WAKE_CHANNEL, find_shard, make_key
from relay.store.link import Link, Reply

FOREVER = 1 << 52  # ms; sorted sets hold whole numbers up to 2**53
_KEPT = 1000  # decisions


class Suspension(msgspec.Struct, frozen=True, omit_defaults=True):
    """One suspension. What is empty stands for all."""

    tenant: str = ""
    domain: str = ""
    site: str = ""
    source: str = ""
    until: float | None = None  # seconds since 1970, on the store's clock
    since: float = 0.0
    who: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """What is suspended: "site=google source=a". The same for the same things."""
        parts = ("tenant", "domain", "site", "source")
        return " ".join(f"{part}={getattr(self, part)}" for part in parts if getattr(self, part))

    def covers(self, *, tenant: str = "", site: str = "", source: str = "") -> bool:
        """Tell whether all that matches these is suspended. Domains are their shard's matter."""
        return (
            not self.domain
            and self.tenant in ("", tenant)
            and self.site in ("", site)
            and self.source in ("", source)
        )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Suspension).decode


class Suspensions:
    """The records, over one link. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._key = make_key(0, "suspensions")

    async def read(self) -> list[Suspension]:
        """Return all that have not ended."""
        clock, raw = self._link.send("TIME"), self._link.send("HVALS", self._key)
        now = _read_time(await clock.wait())
        found = [_decode(record) for record in await raw.wait()]
        return [one for one in found if one.until is None or one.until > now]

    async def read_clock(self) -> float:
        """Return the store's time, seconds since 1970."""
        return _read_time(await self._link.call("TIME"))

    async def suspend(self, suspension: Suspension) -> None:
        """Begin a suspension, or change one; workers are told."""
        # The record first: what is only closed, nobody could resume.
        await self._link.call("HSET", self._key, suspension.name, _encode(suspension))
        if suspension.domain:
            ends = FOREVER if suspension.until is None else int(suspension.until * 1000)
            await self._link.call("HSET", *self._find_closed(suspension), ends)
        await self._tell()

    async def resume(self, suspension: Suspension) -> bool:
        """End a suspension; False when there was none of that name."""
        if suspension.domain:
            await self._link.call("HDEL", *self._find_closed(suspension))
        found = bool(await self._link.call("HDEL", self._key, suspension.name))
        await self._tell()
        return found

    @staticmethod
    def _find_closed(suspension: Suspension) -> tuple[str, str]:
        key = make_key(find_shard(suspension.domain), "closed")
        return key, f"{suspension.tenant or '*'}/{suspension.domain}"

    async def _tell(self) -> None:
        await self._link.call("PUBLISH", WAKE_CHANNEL, "suspensions")

    # -- decisions ----------------------------------------------------------------------------

    async def record(self, decision: bytes) -> None:
        """Keep an operator's command, an encoded event, among the last thousand."""
        key = make_key(0, "decisions")
        self._link.send("LPUSH", key, decision)
        await self._link.call("LTRIM", key, 0, _KEPT - 1)

    async def read_decisions(self, limit: int = 100) -> Sequence[bytes]:
        """Return the last commands, latest first."""
        lines: list[bytes] = await self._link.call("LRANGE", make_key(0, "decisions"), 0, limit - 1)
        return lines


def _read_time(reply: Reply) -> float:
    seconds, microseconds = reply
    return int(seconds) + int(microseconds) / 1e6


def find_shards(domain: str) -> Sequence[int]:
    """Return where queues of a domain are; all shards for ""."""
    return [find_shard(domain)] if domain else range(SHARDS)
