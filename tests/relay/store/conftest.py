"""What tests of the queue begin with, and what they must leave behind."""

from collections.abc import Iterator

import pytest

from relay.store.queue import Store
from tests.kit.audit import check
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
