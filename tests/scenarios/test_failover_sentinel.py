"""Another master by Sentinels, under load: what was acknowledged to senders arrives, and once.

With ``store.replicas`` nothing may be lost when a master dies, or hangs and comes back with what it
believed then. Without it something can be; the test measures it, see relay/store/DESIGN.md.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.kit.failover import change_under_load, lose_nothing
from tests.kit.sentinel import SERVICE, Watched, open_watched

pytestmark = [pytest.mark.slow, pytest.mark.heavy]


@pytest.fixture
def watched() -> Iterator[Watched]:
    with open_watched() as watched:
        yield watched


def kill(watched: Watched) -> None:
    """The master is dead at once, and comes back as whatever the others say."""
    old = watched.find_master()
    old.kill()
    watched.wait_for_failover(old)
    old.start()


def hang(watched: Watched) -> None:
    """The master hears and says nothing until another is elected, then goes on as if nothing were."""
    old = watched.find_master()
    old.pause()
    try:
        watched.wait_for_failover(old)
    finally:
        old.go_on()


def ask(watched: Watched) -> None:
    """Somebody wants another master, and lets nothing be written while there are two."""
    old = watched.find_master()
    with old.client() as client:
        client.execute_command("CLIENT PAUSE", 20_000, "WRITE")
        client.execute_command("WAIT", 2, 5000)
    with watched.sentinels[0].client() as client:
        client.execute_command("SENTINEL FAILOVER", SERVICE)
    watched.wait_for_failover(old)


def ask_roughly(watched: Watched) -> None:
    """Somebody wants another master, and for a moment there are two that are written to."""
    old = watched.find_master()
    with watched.sentinels[0].client() as client:
        client.execute_command("SENTINEL FAILOVER", SERVICE)
    watched.wait_for_failover(old)


@pytest.mark.parametrize("change", [kill, hang, ask])
def test_nothing_acknowledged_is_lost(watched: Watched, change: Callable[[Watched], None]) -> None:
    how = lose_nothing(watched.url, lambda: change(watched), lambda: watched.find_master().client())
    print(f"{change.__name__}: {how}")  # noqa: T201


@pytest.mark.parametrize("change", [kill, hang, ask_roughly])
def test_without_replicas_the_store_is_whole_though_it_may_have_forgotten(
    watched: Watched, change: Callable[[Watched], None]
) -> None:
    passage = change_under_load(
        watched.url,
        lambda: change(watched),
        lambda: watched.find_master().client(),
        replicas=0,
    )
    lost, accepted = passage.find_lost(), len(passage.load.accepted)
    twice = sum(count - 1 for count in passage.arrived.values())
    print(  # noqa: T201
        f"{change.__name__}: {len(lost)} of {accepted} messages lost, {twice} twice, "
        f"mail flowed again after {passage.longest:.1f} s"
    )
    assert len(lost) < accepted // 2
