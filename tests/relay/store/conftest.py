"""What tests of the queue begin with, and what they must leave behind."""

from collections.abc import Iterator

import pytest

from relay.store.gate import Gates
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.clock import Clock, use_virtual_time
from tests.kit.messages import Claims
from tests.kit.redis import Server


@pytest.fixture
def audited(server: Server) -> Iterator[None]:
    """What a test leaves in the store must be sound."""
    yield
    check(server, leftover=True)


@pytest.fixture
def claims(store: Store) -> Claims:
    return Claims(store)


@pytest.fixture
async def clock(link: Link, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Gates go by this clock."""
    use_virtual_time(monkeypatch)
    clock = Clock(link)
    await clock.set(clock.now)
    return clock


@pytest.fixture
def gates(link: Link) -> Gates:
    return Gates(link, lease=60)
