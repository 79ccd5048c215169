"""TLS sessions of a day, counted for reports (RFC 8460), and the lease of who sends these.

A field of ``sessions`` is one kind of session: all that a report says of it, as JSON; its value says
how often there was one. Plain commands and no scripts: these are statistics. What a lost reply
leaves in doubt is taken for counted. Two workers that both believe in their lease (lease.py) make
the same reports, under the same ids.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Literal

import msgspec

from relay.errors import StoreUnavailable
from relay.store.keys import make_key
from relay.store.lease import Lease
from relay.store.link import Link

PolicyType = Literal["tlsa", "sts", "no-policy-found"]

DAY = 86_400  # s
KEEP = 3 * DAY  # what no report was made of, s
MAX_FIELDS = 50_000  # of one hash
CHUNK = 200  # commands sent together: mail must not wait behind thousands of ours
_LEASE = 300.0  # s; renewed with each report


class Session(msgspec.Struct, frozen=True, array_like=True):
    """One kind of TLS session, or of failure to get one (RFC 8460 §4.4).

    ``domain``: the recipients'. ``strings``: the policy, as reports show it. ``mx_pattern``: the MX
    patterns of an STS policy; for TLSA the base domain. The rest tells failures apart: ``failing``
    is a result type, "" a success; ``source`` and ``address`` are IP addresses, ours and the host's.
    """

    domain: str
    kind: PolicyType
    strings: tuple[str, ...] = ()
    mx_pattern: tuple[str, ...] = ()
    host: str = ""
    source: str = ""
    failing: str = ""
    text: str = ""
    address: str = ""


class _Domain(msgspec.Struct, array_like=True):
    """What comes first in a field."""

    domain: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Session).decode
_decode_domain = msgspec.json.Decoder(_Domain).decode

Fields = dict[bytes, int]  # encoded Session -> how many


class Sessions:
    """The counts, over one link. All of it raises StoreUnavailable, StoreError (also StoreFull)."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.lease = Lease(link, make_key(0, "reporting"), _LEASE)  # of who makes reports

    async def add(self, day: int, shard: int, counts: Mapping[Session, int]) -> int:
        """Add what was counted on a day (since 1970, UTC) to a shard; at most CHUNK kinds.

        Returns how many sessions found no room. StoreUnavailable says whether they may be counted.
        """
        assert len(counts) <= CHUNK
        key = make_key(shard, "sessions", day)
        fields = {_encode(session): count for session, count in counts.items()}
        try:
            kept = await self._make_room(key, fields)
        except StoreUnavailable as error:  # whatever did run, it counted nothing
            raise StoreUnavailable(str(error), executed=False) from error
        pending = [self._link.send("HINCRBY", key, field, fields[field]) for field in kept]
        if kept:
            pending.append(self._link.send("EXPIRE", key, KEEP))
        for done in pending:
            await done.wait()
        return sum(fields.values()) - sum(fields[field] for field in kept)

    async def _make_room(self, key: str, fields: Collection[bytes]) -> list[bytes]:
        """Return the fields that may be written: those that are there, and as many as fit."""
        room = MAX_FIELDS - int(await self._link.call("HLEN", key))
        if room >= len(fields):
            return list(fields)
        asked = [(field, self._link.send("HEXISTS", key, field)) for field in fields]
        there = [field for field, reply in asked if await reply.wait()]
        new = (field for field in fields if field not in set(there))
        return there + list(islice(new, max(0, room)))

    async def read(self, day: int, shard: int) -> dict[str, Fields]:
        """Return what was counted on a day, by domain; ``decode`` makes sense of it."""
        found: dict[str, Fields] = {}
        cursor = 0
        while True:
            cursor, pairs = await self._link.call(
                "HSCAN", make_key(shard, "sessions", day), cursor, "COUNT", 500
            )
            for field, count in zip(pairs[::2], pairs[1::2], strict=True):
                found.setdefault(_find_domain(field), {})[field] = int(count)
            if not (cursor := int(cursor)):
                return found

    async def remove(self, day: int, shard: int, fields: Sequence[bytes]) -> None:
        """Forget what a report was made of."""
        key = make_key(shard, "sessions", day)
        for start in range(0, len(fields), CHUNK):
            await self._link.call("HDEL", key, *fields[start : start + CHUNK])


def decode(fields: Fields) -> dict[Session, int]:
    """Make sense of what was read; what there is none in (another version's) is left out."""
    found: dict[Session, int] = {}
    for field, count in fields.items():
        try:
            found[_decode(field)] = count
        except msgspec.DecodeError:
            continue
    return found


def _find_domain(field: bytes) -> str:
    try:
        return _decode_domain(field).domain
    except msgspec.DecodeError:
        return ""
