"""A lease: what one of all workers does for all, and another takes up when that one is gone.

Its key holds the name of who has it, and ends by itself. Plain commands and no scripts: our own may
end between two of them, and another take it. So two may both believe that they have it; what is done
under a lease must bear that.
"""

from relay.store.link import Link


class Lease:
    """One lease, over one link. All of it raises StoreUnavailable, StoreError (also StoreFull)."""

    def __init__(self, link: Link, key: str, seconds: float) -> None:
        """``seconds``: how long it lasts, unless it is said otherwise."""
        self._link = link
        self._key = key
        self._seconds = seconds

    async def take(self, worker: str) -> bool:
        """Become the one that has it, if nobody is; when we are already, it is renewed."""
        for _ in range(2):  # once more: our own may end between the two commands
            taken = await self._link.call(
                "SET", self._key, worker, "NX", "PX", int(self._seconds * 1000)
            )
            if taken is not None or await self.hold(worker):
                return True
        return False

    async def hold(self, worker: str, seconds: float | None = None) -> bool:
        """Let it end in ``seconds`` from now; False: it is not ours.

        SET, not PEXPIRE: a store that is over its limit refuses it, and what is done under a lease
        can wait until there is room for mail.
        """
        if await self._link.call("GET", self._key) != worker.encode():
            return False
        wait = self._seconds if seconds is None else seconds
        await self._link.call("SET", self._key, worker, "PX", max(1, int(wait * 1000)))
        return True

    async def leave(self, worker: str) -> None:
        """Let another have it, if it was ours."""
        if await self._link.call("GET", self._key) == worker.encode():
            await self._link.call("DEL", self._key)
