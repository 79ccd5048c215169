"""What tests of commands begin with: a store, and a place to call them from."""

from pathlib import Path

import pytest

from tests.kit.command import Desk, make_desk
from tests.kit.redis import Server


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    """A configuration with source a, tenants acme and globex, and the site "big" of y.test."""
    return make_desk(tmp_path, server, tables='[[site]]\nname = "big"\ndomains = ["y.test"]\n')
