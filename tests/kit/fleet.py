"""Several workers that serve the same sources, and a steady stream of mail for them.

async with open_fleet(server, tmp_path, routes={"y.test": [receiver.make_host()]}) as fleet:
    async with fleet.send_steadily(b"bob@y.test", rate=50):
        ...
    await fleet.finish(...)
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import workers.rounds
from relay.store.standing import Standing, Standings
from tests.kit.redis import Server
from tests.kit.works import SOURCES, Works, make_config, open_works

_BEAT = 0.1  # s
_LOOK = 0.02


class Fleet:
    """Works on one store."""

    def __init__(self, works: Sequence[Works]) -> None:
        self.works = works
        self.posted = 0

    @property
    def first(self) -> Works:
        return self.works[0]

    async def post(self, count: int, recipient: bytes = b"bob@y.test", **more: Any) -> None:
        """Accept so many messages at once."""
        await self.first.post_many(count, recipient, **more)
        self.posted += count

    @asynccontextmanager
    async def send_steadily(
        self, *recipients: bytes, rate: float, **more: Any
    ) -> AsyncIterator[None]:
        """Accept ``rate`` messages a second, turn by turn for each recipient, within the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_steadily, recipients, rate, more)
            yield
            nursery.cancel_scope.cancel()

    async def _send_steadily(
        self, recipients: Sequence[bytes], rate: float, more: dict[str, Any]
    ) -> None:
        start, sent = trio.current_time(), 0
        while True:
            wanted = math.floor((trio.current_time() - start) * rate)
            with trio.CancelScope(shield=True):  # what is accepted is counted
                for number in range(sent, wanted):
                    await self.post(1, recipients[number % len(recipients)], **more)
            sent = wanted
            await trio.sleep(_BEAT)

    def read_events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a name that any worker wrote, in the order of time."""
        for one in self.works:
            one.events.flush()
        return sorted(self.first.read_events(name), key=lambda event: float(event["time"]))

    async def wait_for_events(
        self, name: str, count: int = 1, *, seconds: float = 20, **wanted: object
    ) -> list[dict[str, Any]]:
        """Wait until so many events of a name and with these fields are in the log."""
        with trio.fail_after(seconds):
            while True:
                found = [e for e in self.read_events(name) if wanted.items() <= e.items()]
                if len(found) >= count:
                    return found
                await trio.sleep(_LOOK)

    async def read_standing(self, site: str, source: str) -> Standing:
        """Return what the store knows. Raises KeyError when that is nothing."""
        first = self.first
        standings = Standings(first.store.link, first.config)
        return (await standings.read([site], first.pool.desk.now()))[site, source]

    async def finish(self, *, seconds: float = 30) -> None:
        """Wait until all that was posted is delivered; stop in order, and check the books."""
        await self.first.wait_for(delivered=self.posted, queued=0, bounced=0, seconds=seconds)
        for one in self.works:
            await one.finish()
        self.first.check()


@asynccontextmanager
async def open_fleet(
    server: Server,
    base: Path,
    *,
    crews: Sequence[Sequence[str]] = ("abc", "abc"),
    **settings: Any,
) -> AsyncIterator[Fleet]:
    """Run a worker for each crew, the sources that it serves, until each knows of all."""
    addresses = settings.pop("addresses", SOURCES)
    config = make_config(base, addresses=addresses, **settings)
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(workers.rounds, "ANNOUNCE", 0.1)
        works = [
            await stack.enter_async_context(
                open_works(server, base, config=config, names=tuple(crew))
            )
            for crew in crews
        ]
        with trio.fail_after(10):
            while not all(_sees(one, len(addresses)) for one in works):  # noqa: ASYNC110
                await trio.sleep(_LOOK)
        yield Fleet(works)


def _sees(works: Works, count: int) -> bool:
    return len(works.pool.desk.find_weights("default")) == count
