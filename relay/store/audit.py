"""How far the chains of the audit trail are, as the processes that write them say (relay/audit).

The files alone cannot show that their end is missing, or that a whole chain is: this does.
"""

from collections.abc import Sequence

from relay.audit.line import Head
from relay.store.keys import make_key
from relay.store.link import Link, Pending


class AuditHeads:
    """The records, over one link. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._heads = make_key(0, "heads")
        self._lost = make_key(0, "lost")

    def send(self, chain: str, head: Head) -> Pending:
        """Say how far a chain is; nobody need wait for it."""
        return self._link.send("HSET", self._heads, chain, _show(head))

    async def note(self, chain: str, head: Head) -> None:
        """Say how far a chain is."""
        await self.send(chain, head).wait()

    async def note_seal(self, chain: str, day: str, head: Head) -> None:
        """Keep the line that sealed a day."""
        await self._link.call("HSET", make_key(0, "seals", chain), day, _show(head))

    async def keep_lost(self, chain: str, head: Head) -> None:
        """Keep what a chain had once and has not any more."""
        await self._link.call("HSET", self._lost, f"{chain} {head.n}", head.hash)

    async def read(self, chain: str) -> Head | None:
        """Return how far a chain is, None when nobody has said."""
        found = await self._link.call("HGET", self._heads, chain)
        return None if found is None else _read(found)

    async def read_all(self) -> dict[str, Head]:
        """Return how far each chain is."""
        flat = await self._link.call("HGETALL", self._heads)
        return {
            name.decode(): _read(head) for name, head in zip(flat[::2], flat[1::2], strict=True)
        }

    async def read_seals(self, chain: str) -> dict[str, Head]:
        """Return the sealing line of each day of a chain."""
        flat = await self._link.call("HGETALL", make_key(0, "seals", chain))
        return {day.decode(): _read(head) for day, head in zip(flat[::2], flat[1::2], strict=True)}

    async def read_lost(self) -> list[tuple[str, Head]]:
        """Return what chains had once and have not any more."""
        flat = await self._link.call("HGETALL", self._lost)
        found = []
        for name, hashed in zip(flat[::2], flat[1::2], strict=True):
            chain, _, number = name.decode().rpartition(" ")
            found.append((chain, Head(int(number), hashed)))
        return sorted(found)

    async def forget(self, chain: str, days: Sequence[str], *, up_to: int, whole: bool) -> None:
        """Forget days that were purged, and what was lost of them; ``whole``: and the chain."""
        if days:
            await self._link.call("HDEL", make_key(0, "seals", chain), *days)
        for name, head in await self.read_lost():
            if name == chain and head.n <= up_to:
                await self._link.call("HDEL", self._lost, f"{chain} {head.n}")
        if whole:
            await self._link.call("HDEL", self._heads, chain)


def _show(head: Head) -> bytes:
    return b"%d %b" % head


def _read(text: bytes) -> Head:
    number, _, hashed = text.partition(b" ")
    return Head(int(number), hashed)
