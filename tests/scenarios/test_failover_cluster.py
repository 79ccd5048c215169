"""A Cluster whose masters change and whose slots move, under load: nothing is lost, the books add up."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.kit.cluster import TAG_SLOTS, Cluster, open_cluster
from tests.kit.failover import lose_nothing

pytestmark = [pytest.mark.slow, pytest.mark.heavy]

SLOT = TAG_SLOTS[0]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with open_cluster() as cluster:
        yield cluster


def kill(cluster: Cluster) -> None:
    """A master is dead at once, and comes back as the replica of its own."""
    old = cluster.find_master(SLOT)
    old.kill()
    cluster.wait_for_failover(old, SLOT)
    old.start()
    cluster.wait_until_well()


def hang(cluster: Cluster) -> None:
    """A master hears and says nothing until another is elected, then goes on as if nothing were."""
    old = cluster.find_master(SLOT)
    old.pause()
    try:
        cluster.wait_for_failover(old, SLOT)
    finally:
        old.go_on()
    cluster.wait_until_well()


def ask(cluster: Cluster) -> None:
    """Somebody wants another master; the old one holds its clients back until the new one has all."""
    old = cluster.find_master(SLOT)
    cluster.command(cluster.find_replica(old), "CLUSTER", "FAILOVER")
    cluster.wait_for_failover(old, SLOT)
    cluster.wait_until_well()


def move(cluster: Cluster) -> None:
    """Two shards move to another master, key by key, while mail for them comes and goes."""
    source = cluster.find_master(SLOT)
    target = next(
        master for slot in TAG_SLOTS if (master := cluster.find_master(slot)) is not source
    )
    cluster.begin_move(SLOT, source, target)
    for _ in range(10):
        cluster.move_keys(SLOT, source, target, most=3)
        time.sleep(0.1)  # mail comes that finds a part here and a part there
    cluster.move_keys(SLOT, source, target)
    cluster.end_move(SLOT, source, target)


@pytest.mark.parametrize("change", [kill, hang, ask, move])
def test_nothing_acknowledged_is_lost(cluster: Cluster, change: Callable[[Cluster], None]) -> None:
    how = lose_nothing(cluster.url, lambda: change(cluster), cluster.client)
    print(f"{change.__name__}: {how}")  # noqa: T201
