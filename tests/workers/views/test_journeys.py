"""The price of a look: while mail flows at full speed each journey to the store waits for a sync."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from relay.config import Config, read
from relay.store.link import Pending, Reply
from relay.store.queue import Store
from tests.kit.command import post
from tests.kit.messages import Claims
from workers.admin.service import LEISURE
from workers.views.backlog import read_backlog
from workers.views.explain import explain
from workers.views.grid import read_grid
from workers.views.listing import list_deliveries
from workers.views.queues import describe
from workers.views.selection import Selection
from workers.views.sites import read_sites
from workers.views.sources import read_sources
from workers.views.status import read_status
from workers.views.tenants import read_tenants

DOMAINS = [f"d{number}.test" for number in range(12)]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    tables = {
        "state_dir": "state",
        "source": [{"name": name, "address": f"127.0.0.1{name}"} for name in "123"],
        "pool": {"default": dict.fromkeys("123", 1)},
        "tenant": [{"name": "acme", "domains": ["acme.example"], "networks": ["127.0.0.0/8"]}],
        "site": [{"name": "big", "domains": ["d1.test"]}],
    }
    return read(tables, base=tmp_path, environment={})


@pytest.fixture
async def journeys(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands travelled together, each time."""
    made: list[int] = []
    exchange = store.link._exchange

    async def count(calls: list[Pending]) -> list[Reply]:
        made.append(len(calls))
        return await exchange(calls)

    monkeypatch.setattr(store.link, "_exchange", count)
    monkeypatch.setattr(store.link, "_leisure", LEISURE)
    return made


async def put_off(store: Store, domain: str) -> None:
    """Defer what is ready at a domain."""
    for claim in await Claims(store).take(domain):
        assert await store.defer(claim, b"", wait=300, attempted=False)


async def test_what_each_page_costs(store: Store, config: Config, journeys: list[int]) -> None:
    message_id = await post(store, *(f"x@{domain}" for domain in DOMAINS))
    backlog, _ = await read_backlog(store, Selection())
    assert len(backlog) == len(DOMAINS)
    pages: dict[str, tuple[int, Callable[[], Awaitable[Any]]]] = {
        "status": (2, lambda: read_status(store, config, backlog)),
        "sources": (2, lambda: read_sources(store, config, backlog=backlog)),
        "sites": (2, lambda: read_sites(store, config, backlog=backlog)),
        "grid": (2, lambda: read_grid(store, config, backlog)),
        "tenants": (2, lambda: read_tenants(store, config, backlog)),
        "queues": (2, lambda: describe(store, config, backlog)),
        "backlog": (12, lambda: read_backlog(store, Selection())),
        "explain": (4, lambda: explain(store, config, message_id)),
        "a page": (4, lambda: list_deliveries(store, config, "acme", DOMAINS[0])),
    }
    late = await post(store, "x@late.test")
    await put_off(store, "late.test")
    pages["explain what is due"] = (4, lambda: explain(store, config, late))
    too_many = {}
    for name, (most, look) in pages.items():
        journeys.clear()
        assert await look()
        assert journeys
        if len(journeys) > most:
            too_many[name] = len(journeys)
    assert not too_many
