"""Tenants: what waits, what is held against them, who has stopped them."""

from pathlib import Path

import pytest

from relay.config import Config, read
from relay.store.queue import Store
from relay.store.share import Counts, Shares
from relay.store.suspension import Suspension, Suspensions
from workers.views.backlog import Backlog
from workers.views.tenants import read_tenants


@pytest.fixture
def config(tmp_path: Path) -> Config:
    tenants = [
        {"name": name, "domains": [f"{name}.example"], "networks": ["127.0.0.0/8"]}
        for name in ("acme", "globex")
    ]
    return read({"state_dir": "state", "tenant": tenants}, base=tmp_path, environment={})


async def test_what_is_said_of_tenants(store: Store, config: Config) -> None:
    shares = Shares(store.link, config.reputation.tenant)
    await shares.add("acme", Counts(tried=1000, unknown=900, content=10, complaints=1))
    await Suspensions(store.link).suspend(Suspension(tenant="globex", who="ann", why="bill"))
    backlog = [Backlog("acme", "y.test", ready=2, due=1), Backlog("acme", "z.test", claimed=4)]
    acme, globex = await read_tenants(store, config, backlog)
    assert (acme["name"], acme["domains"], acme["queued"]) == ("acme", ["acme.example"], 7)
    assert acme["state"] == "slow"
    assert "unknown users 90" in acme["reason"]
    assert acme["shares"] == {"tried": 1000, "unknown": 0.9, "content": 0.01, "complaints": 0.001}
    assert acme["since"] > 1e9
    assert (globex["state"], globex["queued"], globex["since"]) == ("", 0, None)
    assert globex["shares"]["unknown"] is None
    assert "suspended by ann: bill" in globex["suspended"]
