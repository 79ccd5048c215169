"""Fixtures for all tests: the store's server, and the link and the queue on it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.config import Config, read
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.redis import Server, open_server


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    with open_server() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """An empty store."""
    shared_server.fresh()
    return shared_server


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return read({"state_dir": "state"}, base=tmp_path, environment={})


@pytest.fixture
async def link(server: Server) -> AsyncIterator[Link]:
    link = Link(server.url, timeout=10)
    yield link
    await link.aclose()


@pytest.fixture
async def store(link: Link, config: Config) -> Store:
    return Store(link, config)
