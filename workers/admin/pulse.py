"""Does the store answer? Asked once a second, so that nobody waits for a store that is known to be gone."""

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.store.link import Link

_BEAT = 1.0  # seconds


class Pulse:
    """``trouble`` says why the store does not answer; "" while it does."""

    def __init__(self, link: Link) -> None:
        self.trouble = ""
        self._link = link

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            try:
                await self._link.call("PING")
                self.trouble = ""
            except (StoreUnavailable, StoreError) as error:
                self.trouble = str(error)
            await trio.sleep(_BEAT)

    def check(self) -> None:
        """Raise StoreUnavailable when the store is known to be away."""
        if self.trouble:
            raise StoreUnavailable(self.trouble, executed=False)
