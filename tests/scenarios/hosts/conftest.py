"""What all tests about several hosts need: namespaces to put them in."""

import pytest

from tests.kit.hosts import find_obstacle


@pytest.fixture(autouse=True)
def hosts_possible() -> None:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
