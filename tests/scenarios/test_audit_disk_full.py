"""The disk of the audit trail is full: no mail is accepted that it could not tell of, until there is room.

Deliveries go on meanwhile; what is to be told of them waits in memory.
"""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit import smalldisk
from tests.kit.console import Console, read_trail, wait_until
from tests.kit.family import wait_for_role
from tests.kit.gateway import Gateway
from tests.kit.letters import Traffic, make_letter, post
from tests.kit.shelf import Shelf
from tests.kit.smalldisk import SmallDisk, open_small_disk

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.skipif(bool(smalldisk.find_obstacle()), reason=smalldisk.find_obstacle()),
]

DOMAINS = [f"d{number}.load.test" for number in range(4)]
DELIVERY = 'processes = 1\nretry = ["1s"]\nidle = "1s"'
THREADS = 4
TROUBLE = "no mail is accepted until it can"
ADVICE = "free some space, or correct audit.directory"


@dataclass(frozen=True)
class Place:
    """A gateway whose trail is on a small disk."""

    disk: SmallDisk
    gateway: Gateway
    console: Console
    shelf: Shelf

    def read_trail(self) -> list[dict[str, Any]]:
        """Return the lines of all chains."""
        return list(read_trail(self.disk.path))

    def check(self, traffic: Traffic) -> None:
        """All that was promised was delivered, and both stand in the trail, which is sound."""
        ledger = self.gateway.wait_ledger(1)
        assert ledger.is_closed, self.gateway.read_output()
        wait_until(lambda: self.count_missing(traffic) == 0, "all of it is in the trail")
        done = self.console.call("audit", "verify")
        assert done.status == 0, done
        for mark, promise in traffic.promised.items():
            assert {taken.sent for taken in self.shelf.messages[mark]} == {promise.octets}

    def count_missing(self, traffic: Traffic) -> int:
        told: dict[str, list[str]] = defaultdict(list)
        for event in self.read_trail():
            if event["event"] in ("accepted", "delivered"):
                told[event["id"]].append(event["event"])
        return sum(
            sorted(told[one.id]) != ["accepted", *["delivered"] * len(one.people)]
            for one in traffic.promised.values()
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Shelf() as shelf, open_small_disk(tmp_path / "disk") as disk:
        tables = f'[audit]\ndirectory = "{disk.path}"'
        with Gateway({"*.load.test": shelf.port}, delivery=DELIVERY, tables=tables) as gateway:
            yield Place(disk, gateway, Console(gateway), shelf)


def test_nothing_is_accepted_that_could_not_be_told(place: Place) -> None:
    with Traffic(place.gateway.port, DOMAINS, threads=THREADS) as traffic:
        traffic.wait(20)
        place.disk.fill()
        began = time.monotonic()
        wait_until(lambda: traffic.answers[451] > 0, "senders are asked to come back", seconds=10)
        # Until a page of the file is full there is room for some lines; after that it is one flush.
        assert time.monotonic() - began < 5
        wait_until(lambda: TROUBLE in place.gateway.read_output(), "it is said", seconds=5)
        # Only at MAIL they are turned away: who was behind it is not.
        before = len(traffic.promised) + THREADS
        answer = post(place.gateway.port, make_letter("refused"), "r@d0.load.test")
        assert answer.code == 451
        assert "audit" not in answer.text.lower()
        time.sleep(1)
        assert len(traffic.promised) <= before
        # What was accepted goes out all the same; what is to be told of it is in memory.
        wait_until(lambda: place.gateway.read_ledger().queued == 0, "what was accepted goes out")
        refused = place.console.call("suspend", "--all", "--why", "to see what happens")
        assert refused.status == 1
        assert "nothing was done" in refused.err

        place.disk.free()
        traffic.wait(20, seconds=5)
    assert set(traffic.answers) == {451}
    assert not traffic.unknown
    assert "can be written again" in place.gateway.read_output()
    place.check(traffic)
    missed = [event for event in place.read_trail() if event["event"] == "missed"]
    assert missed
    assert {event["lines"] for event in missed} == {0}
    assert all("No space left on device" in event["text"] for event in missed)


def test_ingress_dies_while_the_disk_is_full(place: Place) -> None:
    """What it had in memory went with it; it begins again when there is room to go on with its chain."""
    with Traffic(place.gateway.port, DOMAINS, threads=THREADS) as traffic:
        traffic.wait(10)
    wait_until(lambda: place.count_missing(traffic) == 0, "all of it is in the trail")
    place.disk.fill()
    with Traffic(place.gateway.port, DOMAINS, threads=THREADS) as caught:
        wait_until(lambda: caught.answers[451] > 0, "senders are asked to come back")
        (victim,) = wait_for_role(place.gateway.pid, "ingress", 1)
        os.kill(victim, signal.SIGKILL)
        # Half a line is at the end of its file, and for the one that says so there is no room.
        wait_until(lambda: ADVICE in place.gateway.read_output(), "it cannot begin", seconds=20)
        accepted = len(caught.promised)
        place.disk.free()
        caught.wait(10)
    later = dict(list(caught.promised.items())[accepted:])
    place.check(traffic)
    caught.promised = later
    place.check(caught)
    events = [event["event"] for event in place.read_trail()]
    assert events.count("torn") == 1
