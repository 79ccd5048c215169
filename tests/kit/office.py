"""The admin service in the test's own loop: HTTP on a free port, over a real store.

async with open_office(desk.config) as visit:
    assert await visit.ask("status") == ...
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2
import trio

from relay.config import Config
from relay.net.listen import open_listener
from workers.admin.http.tokens import Tokens
from workers.admin.office import Office
from workers.admin.service import run, spell_address

HERE = {"X-Outgate": "1"}


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks in. ``port``: of 127.0.0.1."""

    client: httpx2.AsyncClient
    office: Office
    port: int
    stop: trio.Event

    async def ask(self, path: str, **query: Any) -> Any:
        """Return what GET answers; it must be 200."""
        answer = await self.client.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def order(self, name: str, **words: Any) -> Any:
        """Return what POST answers; it must be 200."""
        answer = await self.client.post(f"/api/v1/{name}", json=words, headers=HERE)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refresh(self) -> None:
        """Have what waits counted anew, and nothing remembered."""
        await self.office.snapshot.refresh()
        self.office.memo.forget()


@asynccontextmanager
async def open_office(config: Config) -> AsyncIterator[Visit]:
    """Run the service until the block ends."""
    tokens, stop = Tokens(config.admin.token_file), trio.Event()
    with open_listener("127.0.0.1", 0) as listener:
        url = spell_address(listener)
        async with trio.open_nursery() as nursery:
            office = await nursery.start(partial(run, config, tokens, [listener], stop))
            # Tests share a machine with whatever runs there.
            async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
                yield Visit(client, office, listener.getsockname()[1], stop)
            stop.set()
