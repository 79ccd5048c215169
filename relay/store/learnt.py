"""When a host group has shown validated TLS: first, and last. On the server's clock."""

from relay.store.keys import find_shard, make_key
from relay.store.link import Link


class Learnt:
    """The memory, over one link. All of it raises StoreUnavailable, StoreError."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def note(self, group: str, *, lifetime: float) -> None:
        """Validated TLS was seen now; forgotten after ``lifetime`` seconds without another."""
        key = _find_key(group)
        seconds, _ = await self._link.call("TIME")
        # Plain commands: two at once write the same.
        pending = [
            self._link.send("HSETNX", key, "first", seconds),
            self._link.send("HSET", key, "last", seconds),
            self._link.send("EXPIRE", key, int(lifetime) + 1),
        ]
        for reply in pending:
            await reply.wait()

    async def read(self, group: str) -> tuple[int, int]:
        """Return when it was first and last seen, seconds since 1970; (0, 0): never."""
        first, last = await self._link.call("HMGET", _find_key(group), "first", "last")
        return int(first or 0), int(last or 0)


def _find_key(group: str) -> str:
    return make_key(find_shard(group), "learnt", group)
