"""Rests: of a whole site at its gate, of one of its host groups here, and what begins them anew."""

import math
from pathlib import Path as File
from typing import Any

import pytest
import trio

from relay.config import Config
from relay.events import EventLog, decode_event
from relay.model import Blame, Disposition, Outcome
from relay.store.gate import Gates
from relay.store.link import Link
from tests.workers.test_berth import TERMS
from workers.berth import Berth
from workers.hosts import Host
from workers.rest import Rest
from workers.route import Path
from workers.site import Terms
from workers.tls.guard import Guard

RETRY = (0.4, 2.0)  # so the first rest has a tenth of a second
SILENT = Outcome(Disposition.DEFERRED, Blame.HOST, status="4.4.1", text="no answer")
UNPROVEN = Outcome(Disposition.DEFERRED, Blame.HOST, command="STARTTLS", text="not its name")


class Place:
    """A source, a site in whose entry one group of hosts is, and the log."""

    def __init__(self, base: File, gates: Gates, **facts: Any) -> None:
        self.log = EventLog(str(base / "events"))
        terms = Terms(**TERMS | {"retry": RETRY})
        self.berth = Berth("a", terms, gates, worker="w", find_share=lambda: 1.0)
        guard = facts.pop("guard", Guard("none", "opportunistic"))
        hosts = (Host("mx.test", "127.0.0.1", 25, guard),)
        self.rest = Rest(Path("site", "site/mx", hosts, 100, **facts), self.berth, self.log)

    def read_events(self, base: File) -> list[dict[str, Any]]:
        self.log.flush()
        return [decode_event(line) for line in (base / "events").read_bytes().splitlines()]


@pytest.fixture
def gates(link: Link, config: Config) -> Gates:
    return Gates(link, lease=config.delivery.claim)


async def test_a_site_rests_at_its_gate(gates: Gates, tmp_path: File) -> None:
    place = Place(tmp_path, gates)

    wait = await place.rest.begin(SILENT)

    assert wait == pytest.approx(0.1)
    assert place.berth.failures == 1
    assert place.rest.left <= 0  # the gate says no
    (told,) = place.read_events(tmp_path)
    assert (told["event"], told["site"], told["source"]) == ("resting", "site", "a")
    assert (told["wait"], told["text"]) == (0.1, "no answer")
    place.rest.recover()
    assert place.berth.failures == 0


async def test_one_group_of_many_rests_alone_and_twice_as_long_each_time(
    gates: Gates, tmp_path: File
) -> None:
    place = Place(tmp_path, gates, is_shared=True)

    assert [await place.rest.begin(SILENT) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]

    assert place.berth.failures == 0  # others of the site go on
    assert 1.5 < place.rest.left <= 2.0
    place.rest.recover()
    assert await place.rest.begin(SILENT) == 0.1
    place.rest.forget()
    assert place.rest.left == -math.inf


async def test_after_a_thousand_failures_it_is_still_a_number(gates: Gates, tmp_path: File) -> None:
    place = Place(tmp_path, gates, is_shared=True)
    for _ in range(1100):
        assert await place.rest.begin(SILENT) <= 2.0
        await trio.lowlevel.checkpoint()


async def test_what_one_domain_demands_is_nobody_else_s_trouble(
    gates: Gates, tmp_path: File
) -> None:
    place = Place(tmp_path, gates, guard=Guard("sts", "verify", ("mx.test",)))

    assert await place.rest.begin(UNPROVEN) == 0.1

    assert place.berth.failures == 0
    assert 0 < place.rest.left <= 0.1
    assert place.read_events(tmp_path) == []
    await place.rest.begin(SILENT)  # there is no host at all: that is everybody's
    assert place.berth.failures == 1
    assert len(place.read_events(tmp_path)) == 1
