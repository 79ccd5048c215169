"""Desks for sessions, with and without a store behind them; certificates."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from relay.ingress.desk import Desk
from relay.model import Delivery
from relay.net.certificates import Certificates, load_pair
from relay.store.keys import SHARDS
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.pairs import write_pair
from tests.kit.visit import (
    make_config,
    make_desk,
)


@pytest.fixture
async def nowhere(tmp_path: Path) -> AsyncIterator[Store]:
    """A store that nobody serves: for sessions that do not get so far."""
    link = Link(f"unix://{tmp_path}/nobody", timeout=1)
    yield Store(link, make_config(tmp_path))
    await link.aclose()


@pytest.fixture
def desk(tmp_path: Path, nowhere: Store) -> Desk:
    return make_desk(make_config(tmp_path), nowhere)


@pytest.fixture
def real_desk(tmp_path: Path, store: Store) -> Desk:
    return make_desk(make_config(tmp_path), store)


@pytest.fixture
def find_queued(store: Store) -> Callable[[], Awaitable[dict[str, Delivery]]]:
    """What is queued, by recipient domain. It is claimed with that: to be asked once."""

    async def find() -> dict[str, Delivery]:
        found = {}
        for shard in range(SHARDS):
            for lane in await store.list_lanes(shard):
                claimed = await store.claim(
                    shard, lane, [10], token=f"{shard}/{lane}", octets=1 << 20, inline=1 << 10
                )
                found |= {claim.delivery.domain: claim.delivery for _, claim in claimed.claims}
        return found

    return find


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificates(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pair = write_pair(tmp_path_factory.mktemp("tls"), authority.issue_cert("gw.example.net"))
    return Certificates([load_pair(pair)])


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
