"""Sets that are kept fresh: real DNS, real Redis; time passes when the test says so."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from relay.config import Config, Seconds, read
from relay.config.schema import Dns
from relay.config.units import Network
from relay.events import EventLog, decode_event
from relay.ingress.networks import sets as sets_module
from relay.ingress.networks.definition import find_networks
from relay.ingress.networks.sets import NetworkSets
from relay.net.resolver import Resolver
from relay.store.keys import make_key
from relay.store.link import Link
from relay.store.networks import StoredSets
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from tests.kit.redis import Server

HOUR = 3600.0
OLD = "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/48 -all"
OTHER = "v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 ip6:2001:db8::/48 -all"
WIDE = "v=spf1 ip4:10.0.0.0/8 ip6:2001:db8::/48 -all"
NONE = "v=spf1 -all"
OLD_NETWORKS = ["192.0.2.0/24", "2001:db8::/48"]


@dataclass
class Process:
    """One ingress process: its sets, its link, and its own log."""

    sets: NetworkSets
    link: Link
    log: EventLog
    path: Path

    @property
    def networks(self) -> list[str]:
        return list(map(str, self.sets.find(("partner",))))

    @property
    def events(self) -> list[dict[str, Any]]:
        self.log.flush()
        return [decode_event(line) for line in self.path.read_bytes().splitlines()]

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


class World:
    """The DNS, the store, the clock, and processes."""

    def __init__(self, base: Path, dns: Nameserver, url: str) -> None:
        self.base = base
        self.dns = dns
        self.url = url
        self._opened: list[Process] = []

    def publish(self, record: str) -> None:
        self.dns.zone = {"a.test": {"TXT": [f'"{record}"']}}

    def make_config(self, **network: Any) -> Config:
        network = {"name": "partner", "spf": "a.test", **network}
        tenant = {"name": "acme", "domains": ["acme.example"], "networks": ["partner"]}
        document: dict[str, object] = {"network": [network], "tenant": [tenant]}
        return read(document, base=self.base, environment={})

    def start(self, config: Config | None = None) -> Process:
        """Return a process that has not looked yet."""
        config = config or self.make_config()
        path = self.base / f"events{len(self._opened)}"
        log = EventLog(str(path))
        # Every answer is fresh: what a resolver remembers is no matter of this file.
        resolver = Resolver(Dns(nameservers=(self.dns.endpoint,), timeout=Seconds(2)))
        link = Link(self.url, timeout=10)
        process = Process(NetworkSets(config, resolver, link, log), link, log, path)
        self._opened.append(process)
        return process

    async def begin(self, config: Config | None = None) -> Process:
        """Return a process that has looked once."""
        process = self.start(config)
        await process.sets.look()
        return process

    async def look(self, process: Process, *, later: float = 0) -> list[str]:
        """Look so many seconds later; return the names of the events that this wrote."""
        before = len(process.events)
        if later:
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, MockClock)  # the test asks for the fixture, by itself
            clock.jump(later)
        await process.sets.look()
        return process.names[before:]

    async def age_store(self, seconds: float) -> None:
        """Let what is stored be older: the store's clock is not ours to set."""
        link = Link(self.url, timeout=10)
        key = make_key(0, "networks")
        pairs = await link.call("HGETALL", key)
        for name, record in zip(pairs[::2], pairs[1::2], strict=True):
            aged = json.loads(record)
            aged["time"] -= seconds
            await link.call("HSET", key, name, json.dumps(aged))
        await link.aclose()

    async def close(self) -> None:
        for process in self._opened:
            await process.link.aclose()


@asynccontextmanager
async def open_world(base: Path, url: str) -> AsyncIterator[World]:
    async with open_nameserver({}, ttl=1) as dns:
        world = World(base, dns, url)
        world.publish(OLD)
        yield world
        await world.close()


@pytest.fixture
async def world(server: Server, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, server.url) as world:
        yield world


async def wait_for(process: Process, version: int) -> None:
    while process.sets.version < version:
        await trio.lowlevel.checkpoint()


# -- one process


async def test_a_set_without_a_seed_has_nothing_until_the_first_answer(world: World) -> None:
    process = world.start()
    assert (process.networks, process.sets.version) == ([], 0)
    assert not process.sets.is_known(("partner",))
    assert process.sets.is_known(("192.0.2.1",))

    await process.sets.look()

    assert process.networks == OLD_NETWORKS
    assert process.sets.version == 1
    assert process.sets.is_known(("partner", "192.0.2.1"))
    assert list(map(str, process.sets.find(("192.0.2.7", "partner")))) == [
        "192.0.2.7/32",
        *OLD_NETWORKS,
    ]
    (event,) = process.events
    assert event.pop("time") > 1_700_000_000
    assert event == {
        "event": "networks-changed",
        "set": "partner",
        "origin": "spf a.test",
        "old": 0,
        "new": 2,
        "added": OLD_NETWORKS,
        "removed": [],
    }


async def test_a_set_is_asked_for_once_in_its_interval(world: World, mock_clock: MockClock) -> None:
    process = await world.begin()
    await world.look(process, later=0.89 * HOUR)
    assert len(world.dns.queries) == 1

    assert await world.look(process, later=0.22 * HOUR) == []

    assert len(world.dns.queries) == 2
    assert (process.sets.version, process.networks) == (1, OLD_NETWORKS)


async def test_a_change_within_bounds_is_taken_and_told(
    world: World, mock_clock: MockClock
) -> None:
    process = await world.begin()
    world.publish(OTHER)

    assert await world.look(process, later=1.2 * HOUR) == ["networks-changed"]

    assert process.networks == ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/48"]
    assert process.sets.version == 2
    event = process.events[-1]
    assert (event["added"], event["removed"]) == (["198.51.100.0/24"], [])
    assert (event["old"], event["new"]) == (2, 3)


async def test_other_words_for_the_same_are_no_change(world: World, mock_clock: MockClock) -> None:
    process = await world.begin()
    world.publish("v=spf1 ip6:2001:db8::/48 ip4:192.0.2.128/25 ip4:192.0.2.0/25 ip4:192.0.2.1")

    assert await world.look(process, later=1.2 * HOUR) == []
    assert process.sets.version == 1


@pytest.mark.parametrize(
    ("record", "said", "count"),
    [(WIDE, "more than 4 times", 2), (NONE, "no networks at all", 0)],
)
async def test_a_refused_set_leaves_the_old_one_in_use(
    world: World,
    mock_clock: MockClock,
    record: str,
    said: str,
    count: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = await world.begin()
    world.publish(record)

    assert await world.look(process, later=1.2 * HOUR) == ["networks-refused"]

    assert (process.networks, process.sets.version) == (OLD_NETWORKS, 1)
    event = process.events[-1]
    assert said in event["text"]
    assert (event["set"], event["old"], event["new"]) == ("partner", 2, count)
    assert "outgate networks --accept partner" in caplog.text
    # It is told once, also by a process that begins later.
    assert await world.look(process, later=1.2 * HOUR) == []
    assert await world.look(process, later=1.2 * HOUR) == []
    await world.age_store(2 * HOUR)
    assert (await world.begin()).names == []
    assert len(world.dns.queries) == 5
    assert await world.look(process) == []  # that process has asked for all
    # Another one is told again, and one that is good ends it.
    world.publish("v=spf1 ip4:10.0.0.0/9 ip6:2001:db8::/48")
    assert await world.look(process, later=1.2 * HOUR) == ["networks-refused"]
    world.publish(OLD)
    assert await world.look(process, later=1.2 * HOUR) == []
    assert (await StoredSets(process.link).read(["partner"])).refused == {}


async def test_what_an_operator_accepts_is_in_use_at_the_next_look(
    world: World, mock_clock: MockClock
) -> None:
    process = await world.begin()
    world.publish(WIDE)
    await world.look(process, later=1.2 * HOUR)
    refused = (await StoredSets(process.link).read(["partner"])).refused["partner"]
    await StoredSets(process.link).write("partner", refused.read_networks(), refused.origin)

    assert await world.look(process, later=sets_module.LOOK) == []

    assert process.networks == ["10.0.0.0/8", "2001:db8::/48"]
    assert process.sets.version == 2
    assert len(world.dns.queries) == 2  # nobody was asked
    assert await world.look(process, later=1.2 * HOUR) == []
    assert len(world.dns.queries) == 3


async def test_the_dns_is_away(
    world: World, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    process = await world.begin()
    world.dns.trouble = SERVFAIL
    assert await world.look(process, later=1.2 * HOUR) == ["networks-not-refreshed"]
    event = process.events[-1]
    assert "a.test: no usable answer from the DNS: SERVFAIL" in event["text"]
    assert (event["set"], event["old"]) == ("partner", 2)
    assert "Those before stay in use" in caplog.text

    # Asked again every minute, told once an hour, in use for ever.
    asked = len(world.dns.queries)
    for _ in range(58):
        assert await world.look(process, later=61) == []
    assert len(world.dns.queries) >= asked + 58
    assert await world.look(process, later=120) == ["networks-not-refreshed"]
    await world.look(process, later=1000 * HOUR)
    assert process.networks == OLD_NETWORKS
    world.dns.trouble = None
    world.publish(OTHER)
    assert await world.look(process, later=61) == ["networks-changed"]


async def test_the_dns_is_away_from_the_start(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.dns.trouble = SERVFAIL
    process = await world.begin()

    assert (process.networks, process.names) == ([], ["networks-not-refreshed"])
    assert process.events[0]["old"] == 0
    assert "Nobody can send from there yet" in caplog.text


async def test_run_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setattr(sets_module, "LOOK", 0.0)  # time stands still but for the jump
    process = world.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.sets.run)
        await wait_for(process, 1)
        # What is on its way to the store when time jumps has taken too long.
        while not (await StoredSets(process.link).read(["partner"])).good:
            pass
        world.publish(OTHER)
        mock_clock.jump(1.2 * HOUR)
        await wait_for(process, 2)
        nursery.cancel_scope.cancel()
    assert process.names == ["networks-changed"] * 2


async def test_a_file(world: World, mock_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "ranges.json"
    path.write_text('{"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}]}')
    process = await world.begin(world.make_config(spf="", json="ranges.json"))
    assert process.networks == ["192.0.2.0/24"]
    assert process.events[0]["origin"] == f"json {path}"

    path.unlink()
    assert await world.look(process, later=1.2 * HOUR) == ["networks-not-refreshed"]
    assert process.networks == ["192.0.2.0/24"]


async def test_without_a_name_server(world: World) -> None:
    path = world.base / "events"
    log = EventLog(str(path))
    link = Link(world.url, timeout=10)
    sets = NetworkSets(world.make_config(), None, link, log)

    await sets.look()

    log.flush()
    assert b"there is no name server" in path.read_bytes()
    await link.aclose()


async def test_google_begins_with_its_seed_and_forwarding_is_never_asked_for(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    names = ["google", "google-forwarding"]
    tenant = {"name": "acme", "domains": ["acme.example"], "networks": names}
    config = read({"tenant": [tenant]}, base=world.base, environment={})
    seed: tuple[Network, ...] = find_networks(("google",))
    process = world.start(config)
    assert process.sets.find(("google",)) == seed
    assert process.sets.is_known(tuple(names))
    terms = " ".join(f"ip{network.version}:{network}" for network in seed)
    strings = " ".join(f'"{part} "' for part in f"v=spf1 {terms} ~all".split(" "))
    world.dns.zone = {"_spf.google.com": {"TXT": [strings]}}

    await process.sets.look()

    assert world.dns.queries == [("_spf.google.com", "TXT")]
    assert (process.names, process.sets.version) == ([], 0)
    assert list((await StoredSets(process.link).read(names)).good) == ["google"]
    assert process.sets.find(("google-forwarding",)) == find_networks(("google-forwarding",))


# -- the store


async def test_the_last_good_set_is_kept_over_a_restart_without_a_dns(world: World) -> None:
    await world.begin()
    await world.age_store(30 * 24 * HOUR)
    world.dns.trouble = SERVFAIL

    process = world.start()
    await process.sets.read_store()
    assert process.networks == OLD_NETWORKS

    await process.sets.look()
    assert (process.networks, process.names) == (OLD_NETWORKS, ["networks-not-refreshed"])


async def test_a_fresh_set_is_taken_from_the_store_instead_of_asked_for(
    world: World, mock_clock: MockClock
) -> None:
    first = await world.begin()
    second = await world.begin()
    assert (second.networks, second.names, len(world.dns.queries)) == (OLD_NETWORKS, [], 1)

    await world.age_store(1.2 * HOUR)
    world.publish(OTHER)
    assert await world.look(first, later=1.2 * HOUR) == ["networks-changed"]
    assert await world.look(second) == []

    assert second.networks == first.networks
    assert second.sets.version == 2
    assert len(world.dns.queries) == 2


async def test_a_refused_set_is_asked_for_once_for_all(world: World, mock_clock: MockClock) -> None:
    first, second = await world.begin(), await world.begin()
    world.publish(WIDE)
    await world.age_store(1.2 * HOUR)

    assert await world.look(first, later=1.2 * HOUR) == ["networks-refused"]
    assert await world.look(second) == []

    assert len(world.dns.queries) == 2
    assert second.networks == OLD_NETWORKS


async def test_what_another_configuration_had_is_no_use(world: World) -> None:
    await world.begin(world.make_config(spf="b.test"))
    await StoredSets(world.start().link).write(
        "partner", find_networks(("203.0.113.0/24",)), "spf b.test"
    )

    process = await world.begin()

    assert process.networks == OLD_NETWORKS
    assert process.names == ["networks-changed"]


@pytest.mark.parametrize("networks", [["0.0.0.0/0"], [], ["hello"]])
async def test_what_is_unfit_is_not_taken_from_the_store(
    world: World, server: Server, networks: list[str]
) -> None:
    record = {"networks": networks, "time": 4e9, "origin": "spf a.test"}
    with server.client() as client:
        client.hset(make_key(0, "networks"), "partner", json.dumps(record))
    process = world.start()

    await process.sets.read_store()
    assert process.networks == []
    await process.sets.look()

    assert process.networks == OLD_NETWORKS


async def test_what_is_from_the_future_is_asked_for(world: World) -> None:
    await world.begin()
    await world.age_store(-24 * HOUR)

    process = await world.begin()

    assert (process.networks, len(world.dns.queries)) == (OLD_NETWORKS, 2)


async def test_without_a_store_a_process_goes_on_by_itself(
    server: Server, tmp_path: Path, mock_clock: MockClock
) -> None:
    async with open_world(tmp_path, f"unix://{tmp_path}/nobody") as world:
        process = await world.begin()
        assert process.networks == OLD_NETWORKS
        world.publish(OTHER)
        assert await world.look(process, later=61) == ["networks-changed"]
        world.publish(WIDE)
        assert await world.look(process, later=61) == ["networks-refused"]
        assert await world.look(process, later=61) == []
        assert len(process.networks) == 3
        # It is back: what we have is for all.
        world.publish(OTHER)
        process.sets._store = StoredSets(link := Link(server.url, timeout=10))
        await world.look(process, later=61)
        assert len((await StoredSets(link).read(["partner"])).good["partner"].networks) == 3
        await link.aclose()
