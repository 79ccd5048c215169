"""A Cluster whose masters change and whose slots move, under load: nothing is lost, the books add up."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.kit.audit import assert_sound
from tests.kit.cluster import TAG_SLOTS, Cluster, open_cluster
from tests.kit.failover import change_under_load, make_gateway
from tests.kit.inbox import Inbox
from tests.kit.promises import check_promises

pytestmark = [pytest.mark.slow, pytest.mark.heavy]

SLOT = TAG_SLOTS[0]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with open_cluster() as cluster:
        yield cluster


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox(pause=lambda: time.sleep(0.01)) as inbox:
        yield inbox


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
def test_nothing_acknowledged_is_lost(
    cluster: Cluster, inbox: Inbox, change: Callable[[Cluster], None]
) -> None:
    with make_gateway(cluster.url, inbox, replicas=1) as gateway:
        load, ledger, longest = change_under_load(gateway, inbox, lambda: change(cluster))
        said = gateway.read_output()
    assert ledger.is_closed, (ledger, said)
    with cluster.client() as client:
        assert_sound(client, leftover=True)
        kept = check_promises(client, [load], inbox.arrived, ledger)
    assert kept.promised > 40
    print(f"{change.__name__}: {kept}; mail flowed again after {longest:.1f} s")  # noqa: T201
