"""How a command that only asks gets to the store: one link, no durability check, then gone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.config import Config
from relay.errors import StartError, StoreUnavailable
from relay.store.opening import open_link
from relay.store.queue import Store


@asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[Store]:
    """Connect to the running system's store. Raises StartError when there is none."""
    link = open_link(config)
    try:
        await link.call("PING")
        yield Store(link, config)
    except StoreUnavailable as error:
        hint = "start it, or correct store.url" if config.store.url else "is `outgate up` running?"
        raise StartError(f"{error}; {hint}") from error
    finally:
        await link.aclose()
