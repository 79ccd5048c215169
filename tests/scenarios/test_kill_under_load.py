"""kill -9 of ingress, workers and store in turn, under load: nothing is lost, the ledger adds up.

Set OUTGATE_SEED to repeat a run's moments of killing, as far as moments can be repeated.
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
import redis

from tests.kit.alive import is_alive
from tests.kit.audit import assert_sound
from tests.kit.family import find_family, find_role, wait_for_role
from tests.kit.gateway import Gateway
from tests.kit.inbox import Inbox
from tests.kit.load import Load
from tests.kit.ports import find_free_port
from tests.kit.promises import check_promises

pytestmark = pytest.mark.slow

ROUNDS = ("ingress", "worker", "store") * 3 + ("worker",)
WORKERS = 2
DOMAINS = [f"d{number}.load.test" for number in range(12)]
DELIVERY = f'processes = {WORKERS}\nclaim = "2s"\nretry = ["1s"]\nidle = "1s"'


@pytest.fixture
def chance() -> random.Random:
    seed = os.environ.get("OUTGATE_SEED") or str(random.randrange(1 << 32))
    print(f"OUTGATE_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


@pytest.fixture
def inbox(chance: random.Random) -> Iterator[Inbox]:
    """Takes a moment for every message, so that attempts are open when somebody dies."""
    with Inbox(pause=lambda: time.sleep(chance.random() * 0.05)) as inbox:
        yield inbox


def open_client(gateway: Gateway) -> redis.Redis:
    connection = json.loads((gateway.directory / "state/store/connection.json").read_bytes())
    return redis.Redis.from_url(connection["url"])


def wait_for_traffic(load: Load, inbox: Inbox) -> None:
    """Wait until everything works again: who kills what is dead already proves nothing."""
    accepted, arrived = len(load.accepted) + 20, len(inbox.arrived) + 20
    deadline = time.monotonic() + 20
    while len(load.accepted) < accepted or len(inbox.arrived) < arrived:
        assert time.monotonic() < deadline, "no traffic any more"
        time.sleep(0.02)


def test_nothing_is_lost(inbox: Inbox, chance: random.Random) -> None:
    with Gateway({"*.load.test": inbox.port}, delivery=DELIVERY) as gateway:
        with Load(gateway.port, DOMAINS) as load:
            for role in ROUNDS:
                wait_for_traffic(load, inbox)
                time.sleep(chance.random() * 0.5)
                count = WORKERS if role == "worker" else 1
                victim = chance.choice(wait_for_role(gateway.pid, role, count))
                os.kill(victim, signal.SIGKILL)
            wait_for_role(gateway.pid, "worker", WORKERS)
        ledger = gateway.wait_ledger(1, seconds=40)

        said = gateway.read_output()
        assert ledger.is_closed, said
        assert ledger.bounced == 0
        with open_client(gateway) as client:
            assert_sound(client, leftover=True)
            kept = check_promises(client, [load], inbox.arrived, ledger)
    assert kept.promised > 200, "too little was going on for the test to mean anything"
    print(kept)  # noqa: T201


def test_nothing_is_left_of_a_supervisor_that_was_killed() -> None:
    port = find_free_port()  # nobody is there yet: mail waits
    with Gateway({"*.load.test": port}, delivery=DELIVERY) as gateway:
        with Load(gateway.port, DOMAINS) as load:
            while len(load.accepted) < 50:
                time.sleep(0.05)
        for role, count in (("ingress", 1), ("worker", WORKERS), ("store", 1)):
            assert len(find_role(gateway.pid, role)) == count
        family = find_family(gateway.pid)

        gateway.kill()

        deadline = time.monotonic() + 5
        while left := [pid for pid in family if is_alive(pid)]:
            assert time.monotonic() < deadline, [family[pid] for pid in left]
            time.sleep(0.05)
        with Inbox(port=port) as reopened:
            gateway.start()
            ledger = gateway.wait_ledger(len(load.accepted), seconds=30)
            assert ledger.is_closed, gateway.read_output()
            arrived = reopened.arrived
    for mark, (_, domains) in load.accepted.items():
        assert all(arrived[mark, domain] == 1 for domain in domains)
