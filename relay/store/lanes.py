"""Lanes: where queues wait for their turn, and how they come from one to another.

    list_lanes ...    which lanes have something, since when, how much
    survey, assign    a queue's site is looked up, and it changes lanes
    pause             it is left alone for a while
    promote, hurry    due -> ready: its time has come; or before it has
    adopt, unpin      a lane's pool or source is gone: others take it over
    reopen            an operator's suspension has ended

None of these touches a message's state but ``promote`` and ``hurry``; all may be repeated.
"""

import math
from collections.abc import Callable, Sequence

from relay.store.keys import SHARDS, WAKE_CHANNEL, find_shard, make_key, read_lane, read_queue
from relay.store.view import View

_PAGE = 1000  # lanes that are read in one go
_PROMOTED = 200  # deliveries that `promote` moves in one go
_HURRIED = 100  # deliveries that `hurry` moves in one go


class Lanes(View):
    """The lanes of a store, over one link. Raises StoreUnavailable, StoreError, as the link does."""

    async def tell(self, news: str) -> None:
        """Publish something to all workers (workers/pool.py, ``ring``)."""
        await self.link.call("PUBLISH", WAKE_CHANNEL, news)

    async def count_ready(self, places: Sequence[tuple[int, str]]) -> list[int]:
        """Return for lanes, each with its shard, how many deliveries are ready, about."""
        asked = [
            self.link.start("count", make_key(shard, "ledger"), lane) for shard, lane in places
        ]
        return [await count.wait() for count in asked]

    async def survey(
        self, shard: int, lane: str, *, limit: int, patience: float
    ) -> tuple[list[str], float | None]:
        """Return queues of a lane whose site is to be looked up; others leave them alone meanwhile.

        With them the seconds until there is another one, None: no more.
        """
        wait, *queues = await self.link.run(
            "survey", make_key(shard, "ledger"), lane, limit, int(patience * 1000)
        )
        return [queue.decode() for queue in queues], None if wait < 0 else wait / 1000

    async def assign(self, shard: int, queue: str, lane: str, site: str) -> None:
        """Move a queue from a lane to the same one of another site."""
        pool = read_lane(lane).pool
        await self.link.run("assign", make_key(shard, "ledger"), queue, pool, lane, site)

    async def pause(self, shard: int, queue: str, lane: str, wait: float) -> None:
        """Leave a queue alone for ``wait`` seconds."""
        await self.link.run("pause", make_key(shard, "ledger"), queue, lane, int(wait * 1000))

    async def reopen(self, shard: int, lane: str) -> int:
        """Let suspended queues go whose suspension has ended; return how many are suspended."""
        return int(await self.link.run("reopen", make_key(shard, "ledger"), lane))

    async def list_unserved(self, shard: int, seconds: float) -> list[tuple[str, float]]:
        """Return lanes that were not served for so long, and when last, s since 1970; 100 at most."""
        now, microseconds = await self.link.call("TIME")
        latest = int(now) * 1000 + int(microseconds) // 1000 - int(seconds * 1000)
        flat = await self.link.call(
            "ZRANGEBYSCORE", make_key(shard, "lanes"), "-inf", latest, "WITHSCORES", "LIMIT", 0, 100
        )
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return [(lane.decode(), float(served) / 1000) for lane, served in pairs]

    async def list_round(self, shard: int, lane: str, first: int, count: int) -> list[str]:
        """Return queues of a lane, whoever was served longest ago first."""
        key = make_key(shard, "round", lane)
        queues = await self.link.call("ZRANGE", key, first, first + count - 1)
        return [queue.decode() for queue in queues]

    async def list_lanes(self, shard: int) -> list[str]:
        """Return the lanes of a shard that have something ready."""
        lanes: list[str] = []
        while True:
            first = len(lanes)
            key = make_key(shard, "lanes")
            piece = await self.link.call("ZRANGE", key, first, first + _PAGE - 1)
            lanes += [lane.decode() for lane in piece]
            if len(piece) < _PAGE:
                return lanes

    async def promote_all(self) -> float:
        """Let what is due anywhere go; return the seconds until more is (infinity for never)."""
        keys = [make_key(shard, "ledger") for shard in range(SHARDS)]
        asked = [self.link.start("promote", key, _PROMOTED) for key in keys]
        waits = [await reply.wait() for reply in asked]
        return min((wait / 1000 for wait in waits if wait >= 0), default=math.inf)

    async def hurry(
        self, queue: str, *, ahead: float, go_on: Callable[[], bool] = lambda: True
    ) -> int:
        """Let what a queue holds for within ``ahead`` seconds go now; return how many.

        Piece by piece; ``go_on`` is asked before each but the first.
        """
        shard = find_shard(read_queue(queue).domain)
        moved = 0
        while True:
            key = make_key(shard, "ledger")
            piece = int(await self.link.run("hurry", key, queue, int(ahead * 1000)))
            moved += piece
            if piece < _HURRIED or not go_on():
                return moved

    async def adopt(self, shard: int, lane: str, pool: str, *, limit: int = 100) -> int:
        """Move queues of a lane to another pool's; return how many."""
        return int(await self.link.run("adopt", make_key(shard, "ledger"), lane, pool, limit))

    async def unpin(self, shard: int, lane: str, *, limit: int = 100) -> int:
        """Let any source have what waits for one that does not come; return how many moved."""
        return int(await self.link.run("unpin", make_key(shard, "ledger"), lane, limit))
