"""``outgate networks`` as a person runs it, on a real store and a real DNS."""

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.config.units import Network
from relay.ingress.networks.definition import find_networks
from relay.store.link import Link
from relay.store.networks import StoredSets
from relay.store.suspension import Suspensions
from tests.kit.command import Desk, make_desk
from tests.kit.nameserver import SERVFAIL, Nameserver, Zone, open_nameserver
from tests.kit.redis import Server

_TABLES = """
[dns]
nameservers = ["127.0.0.1:{port}"]
[[network]]
name = "partner"
spf = "a.test"
[[tenant]]
name = "initech"
domains = ["initech.example"]
networks = [{names}]
"""
_ALL = '"google", "google-forwarding", "partner", "192.0.2.7"'
OLD: tuple[Network, ...] = find_networks(("192.0.2.0/24",))
NEW: tuple[Network, ...] = find_networks(("10.0.0.0/16", "192.0.2.0/24"))


def make(base: Path, server: Server, names: str = _ALL, port: int = 9) -> Desk:
    return make_desk(base, server, tables=_TABLES.format(port=port, names=names))


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    return make(tmp_path, server)


@pytest.fixture
def sets(link: Link) -> StoredSets:
    return StoredSets(link)


async def test_list_before_anything_is_known(desk: Desk) -> None:
    done = await desk.call("networks", "--json")

    assert done.status == 1
    rows = {row["name"]: row for row in done.said["sets"]}
    assert list(rows) == ["google", "google-forwarding", "partner"]
    google, forwarding, partner = rows.values()
    assert (google["origin"], google["from"], google["count"]) == ("spf _spf.google.com", "seed", 8)
    assert google["networks"] == [str(network) for network in find_networks(("google",))]
    assert (google["age"], google["pending"]) == (None, None)
    assert (forwarding["origin"], forwarding["count"]) == ("built in", 3)
    assert (partner["from"], partner["networks"]) == ("nothing", [])
    words = " ".join((await desk.call("networks")).out.split())
    assert "as of November 2026, not refreshed yet" in words
    assert "as of 2021 " in words + " "
    assert "not known yet: nobody can send" in words


async def test_list_of_what_is_stored(desk: Desk, sets: StoredSets) -> None:
    await sets.write("partner", OLD, "spf a.test")
    await sets.write("google", OLD, "spf old.example")  # of another configuration
    await sets.refuse("google", OLD, "spf old.example", "old")
    await sets.refuse("partner", NEW, "spf a.test", "too many")

    google, _, partner = (await desk.ask("networks"))["sets"]

    assert (google["from"], google["pending"]) == ("seed", None)
    assert (partner["from"], partner["networks"]) == ("published", ["192.0.2.0/24"])
    assert 0 <= partner["age"] < 60
    pending = partner["pending"]
    assert 0 <= pending.pop("age") < 60
    assert pending == {
        "why": "too many",
        "count": 2,
        "networks": ["10.0.0.0/16", "192.0.2.0/24"],
        "added": ["10.0.0.0/16"],
        "removed": [],
    }
    done = await desk.call("networks")
    words = " ".join(done.out.split())
    assert "2 networks (1 added, 0 removed): too many" in words
    assert "outgate networks --accept partner" in words
    assert max(map(len, done.out.splitlines())) <= 100


async def test_no_tenant_names_a_set(server: Server, tmp_path: Path) -> None:
    desk = make(tmp_path, server, '"192.0.2.7"')

    assert await desk.ask("networks") == {"sets": []}
    assert (await desk.call("networks")).out == "no tenant names a set of networks\n"


# -- accepting


async def test_accepting_is_recorded(desk: Desk, sets: StoredSets, link: Link) -> None:
    await sets.write("partner", OLD, "spf a.test")
    await sets.refuse("partner", NEW, "spf a.test", "too many")

    done = await desk.call("networks", "--accept", "partner", "--why", "ticket 4711")

    assert (done.status, done.err) == (0, "")
    assert "partner: 2 networks instead of 1 (1 added, 0 removed)" in done.out
    listing = await sets.read(["partner"])
    assert listing.good["partner"].read_networks() == NEW
    assert listing.refused == {}
    (event,) = desk.read_events("networks-accepted")
    assert (event["who"].partition("@")[0], event["why"]) == ("ann", "ticket 4711")
    assert (event["set"], event["origin"], event["old"], event["new"]) == (
        "partner", "spf a.test", 1, 2,
    )  # fmt: skip
    assert (event["added"], event["removed"]) == (["10.0.0.0/16"], [])
    (decision,) = await Suspensions(link).read_decisions()
    assert b"networks-accepted" in decision


async def test_accepting_instead_of_a_seed(desk: Desk, sets: StoredSets) -> None:
    await sets.refuse("google", OLD, "spf _spf.google.com", "too few")

    done = await desk.ask("networks", "--accept", "google")

    assert (done["accepted"], done["old"], done["new"]) == (True, 8, 1)
    assert len(done["removed"]) == 8


async def test_nothing_to_accept(desk: Desk, sets: StoredSets) -> None:
    await sets.refuse("partner", NEW, "spf b.test", "of another configuration")

    done = await desk.call("networks", "--accept", "partner", "--json")

    assert (done.status, done.said) == (1, {"name": "partner", "accepted": False})
    assert "there is nothing to accept" in done.err
    assert desk.read_events("networks-accepted") == []
    assert (await sets.read(["partner"])).good == {}


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        ((), "there would be no networks at all; this cannot be accepted"),
        ((ipaddress.ip_network("0.0.0.0/0"),), "0.0.0.0/0 is too wide"),
    ],
)
async def test_what_nobody_may_accept(
    desk: Desk, sets: StoredSets, networks: tuple[Network, ...], said: str
) -> None:
    await sets.refuse("partner", networks, "spf a.test", "why")

    done = await desk.call("networks", "--accept", "partner")

    assert done.status == 1
    assert said in done.err
    assert (await sets.read(["partner"])).good == {}


@pytest.mark.parametrize("option", ["--accept", "--check"])
async def test_set_that_does_not_exist(desk: Desk, option: str) -> None:
    done = await desk.call("networks", option, "gogle")

    assert done.status == 2
    assert done.err == (
        f"outgate: {option} gogle: no set of networks of that name; "
        "there is google, google-forwarding, partner\n"
    )


# -- checking


@pytest.fixture
async def dns() -> AsyncIterator[Nameserver]:
    zone: Zone = {"a.test": {"TXT": ['"v=spf1 mx ip4:192.0.2.128/25 ip4:192.0.2.0/25 -all"']}}
    async with open_nameserver(zone) as dns:
        yield dns


async def test_check_needs_no_store(dns: Nameserver, server: Server, tmp_path: Path) -> None:
    desk = make(tmp_path, server, port=dns.port)
    path = Path(desk.file)
    path.write_text(path.read_text().replace(server.url, f"unix://{tmp_path}/nobody"))

    done = await desk.call("networks", "--check", "partner")

    assert (done.status, done.out) == (0, "192.0.2.0/24\n")
    assert done.err == "outgate: note: a.test: mx is not followed\n"
    said = await desk.ask("networks", "--check", "partner")
    assert (said["origin"], said["count"], said["fault"]) == ("spf a.test", 1, "")
    assert (said["networks"], len(said["notes"])) == (["192.0.2.0/24"], 1)
    assert (await desk.ask("networks", "--check", "google-forwarding"))["count"] == 3


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ({"a.test": {"TXT": ['"v=spf1 ip4:10.0.0.0/7"']}}, "10.0.0.0/7 is too wide"),
        ({"a.test": {"TXT": ['"v=spf1 -all"']}}, "there would be no networks at all"),
        ({"a.test": SERVFAIL}, "a.test: no usable answer from the DNS: SERVFAIL"),
        ({}, "a.test: no SPF record"),
    ],
)
async def test_check_of_what_would_not_be_taken(
    dns: Nameserver, server: Server, tmp_path: Path, zone: Zone, said: str
) -> None:
    dns.zone = zone

    done = await make(tmp_path, server, port=dns.port).call("networks", "--check", "partner")

    assert done.status == 1
    assert said in done.err
