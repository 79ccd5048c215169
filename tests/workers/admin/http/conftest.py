"""What tests of the HTTP interface begin with: a store, a configuration, and the service on both."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.command import Desk, make_desk
from tests.kit.office import Visit, open_office
from tests.kit.redis import Server

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    """A configuration with source a, tenants acme and globex, and the site "big" of y.test."""
    return make_desk(tmp_path, server, tables='[[site]]\nname = "big"\ndomains = ["y.test"]\n')


@pytest.fixture
async def visit(desk: Desk) -> AsyncIterator[Visit]:
    """On loopback, without tokens."""
    async with open_office(desk.config) as visit:
        yield visit


@pytest.fixture
async def guarded(server: Server, tmp_path: Path) -> AsyncIterator[Visit]:
    """Tokens are needed; TOKEN is one."""
    (tmp_path / "tokens").write_text(f"{'f' * 32}\n{TOKEN}\n")
    desk = make_desk(tmp_path, server, tables='[admin]\ntoken_file = "tokens"\n')
    async with open_office(desk.config) as visit:
        yield visit
