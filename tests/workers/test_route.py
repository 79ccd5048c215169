"""Routes: configured, by MX, and every way in which there is none."""

import random
import socket
import time
from pathlib import Path as File
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from relay.config import Config, read
from relay.model import Blame, Disposition, Outcome
from relay.net.resolver import Resolver
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from workers import route as module
from workers.hosts import Host, NoAddress, find_family
from workers.route import Path, Router

V4, V6 = socket.AF_INET, socket.AF_INET6

ZONE: dict[str, Any] = {
    "two.test": {"MX": ["20 b.mail.test.", "10 a.mail.test."]},
    "same.test": {"MX": ["5 b.mail.test.", "50 a.mail.test."]},
    "equal.test": {"MX": [f"10 {c}.mail.test." for c in "abcd"]},
    "backup.test": {"MX": ["10 a.mail.test.", "20 aspmx.l.big.test."]},
    "hosted.test": {"MX": ["10 aspmx.l.big.test."]},
    "many.test": {"MX": [f"10 n{n}.wild.test." for n in range(30)]},
    "wide.test": {"MX": ["10 wide.mail.test."]},
    "aliased.test": {"MX": ["10 alias.mail.test."]},
    "plain.test": {"A": ["192.0.2.80"]},
    "v6.test": {"MX": ["10 six.mail.test."]},
    "only6.test": {"MX": ["10 only6.mail.test.", "20 none.mail.test."]},
    "only6.mail.test": {"AAAA": ["2001:db8::66"]},
    "oneof.test": {"MX": ["10 a.mail.test.", "10 aspmx.l.big.test."]},
    "crowd.test": {"MX": ["10 aspmx.l.big.test.", *(f"10 n{n}.wild.test." for n in range(9))]},
    "failover.test": {"MX": ["10 aspmx.l.big.test.", "20 a.mail.test."]},
    "upper.test": {"MX": ["10 A.Mail.TEST.", "20 b.mail.test."]},
    "twice.test": {"MX": ["10 a.mail.test.", "20 a.mail.test.", "30 b.mail.test."]},
    "pointed.test": {"MX": ["10 named.mail.test."]},
    "named.mail.test": {"A": ["192.0.2.70"]},
    "null.test": {"MX": ["0 ."]},
    "nullandmore.test": {"MX": ["0 .", "10 a.mail.test."]},
    "broken.test": SERVFAIL,
    "halfbroken.test": {"MX": ["10 broken.mail.test.", "20 a.mail.test."]},
    "unknowable.test": {"MX": ["10 broken.mail.test.", "20 none.mail.test."]},
    "gap.test": {"MX": ["10 none.mail.test.", "20 gone.mail.test.", "30 a.mail.test."]},
    "nowhere.test": {"MX": ["10 none.mail.test.", "20 gone.mail.test."]},
    "inward.test": {"MX": ["10 inward.mail.test."]},
    "mixed.test": {"MX": ["10 mixed.mail.test."]},
    "ours.test": {"MX": ["10 ours.mail.test."]},
    "garbage.test": {"MX": ["10 192.0.2.1.", "20 -x.mail.test.", "30 a\\032b.test."]},
    "partgarbage.test": {"MX": ["10 192.0.2.1.", "20 a.mail.test."]},
    "loop.test": {"MX": ["10 a.mail.test.", "20 gate.example.net.", "30 b.mail.test."]},
    "circle.test": {"MX": ["10 gate.example.net.", "20 a.mail.test."]},
    **{f"{c}.mail.test": {"A": [f"192.0.2.{n}"]} for n, c in enumerate("abcd", 1)},
    "aspmx.l.big.test": {"A": ["192.0.2.50"]},
    "*.wild.test": {"A": ["192.0.2.60"]},
    "wide.mail.test": {"A": [f"192.0.2.{n}" for n in range(100, 120)]},
    "alias.mail.test": {"CNAME": ["a.mail.test."]},
    "six.mail.test": {"AAAA": ["2001:db8::6"], "A": ["192.0.2.6"]},
    "none.mail.test": {"TXT": ['"nothing"']},
    "broken.mail.test": SERVFAIL,
    "inward.mail.test": {
        "A": ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1"],
        "AAAA": ["::1", "::", "::ffff:127.0.0.1", "fe80::1"],
    },
    "mixed.mail.test": {"A": ["127.0.0.1", "10.0.0.5", "192.0.2.55"]},
    "ours.mail.test": {"A": ["198.51.100.11"]},
    "inside.test": {"A": ["127.0.0.1"]},
}
BASE: dict[str, Any] = {
    "ingress": {"hostname": "Gate.example.net", "listen": ["198.51.100.1:25"]},
    "source": [{"name": "a", "address": "198.51.100.11"}],
}


def configure(server: Nameserver | None = None, **tables: Any) -> Config:
    dns = {"nameservers": [str(server.endpoint)] if server else ["127.0.0.1:9"], "timeout": "2s"}
    return read({**BASE, "dns": dns, **tables}, base=File(), environment={})


def make(config: Config, seed: int = 1) -> Router:
    return Router(config, Resolver(config.dns), chance=random.Random(seed))


async def find(domain: str, family: Any = V4, **tables: Any) -> Path | Outcome:
    async with open_nameserver(ZONE) as server:
        return await make(configure(server, **tables)).find(domain, family)


async def find_path(domain: str, family: Any = V4, **tables: Any) -> Path:
    path = await find(domain, family, **tables)
    assert isinstance(path, Path), path
    return path


def addresses(path: Path | Outcome) -> list[str]:
    assert isinstance(path, Path), path
    return [host.address for host in path.hosts]


def get_level(path: Path) -> str:
    (level,) = {host.guard.level for host in path.hosts}
    return level


# -- MX


async def test_hosts_are_in_order_of_preference() -> None:
    path = await find_path("two.test")

    assert path.hosts == (
        Host("a.mail.test", "192.0.2.1", 25),
        Host("b.mail.test", "192.0.2.2", 25),
    )
    assert (get_level(path), path.messages_per_connection) == ("opportunistic", 100)


async def test_equal_hosts_are_drawn_anew_for_each_call() -> None:
    async with open_nameserver(ZONE) as server:
        router = make(configure(server))

        paths = [await router.find("equal.test", V4) for _ in range(60)]

    firsts = {addresses(path)[0] for path in paths}
    assert firsts == {f"192.0.2.{n}" for n in (1, 2, 3, 4)}
    assert len({path.key for path in paths if isinstance(path, Path)}) == 1
    assert len(server.queries) == 5


async def test_equal_set_of_hosts_is_one_site_whatever_the_preferences() -> None:
    two, same = await find_path("two.test"), await find_path("same.test")

    assert (two.site, two.key) == (same.site, same.key)
    assert two.site != (await find_path("equal.test")).site


async def test_single_host_gives_the_site_its_name() -> None:
    assert (await find_path("hosted.test")).site == "aspmx.l.big.test"


async def test_set_of_hosts_has_one_name_whoever_asks_and_in_what_order() -> None:
    async with open_nameserver(ZONE) as server:
        routers = [make(configure(server), seed) for seed in range(3)]
        sites = {
            (await router.find(domain, V4)).site  # type: ignore[union-attr]
            for domain in ("two.test", "same.test", "upper.test", "twice.test")
            for router in routers
        }

    (site,) = sites
    assert site.startswith("a.mail.test+1-")


@given(
    st.sets(
        st.frozensets(st.sampled_from([f"{c}.mail.test" for c in "abcdef"]), min_size=1),
        min_size=2,
        max_size=10,
    ),
    st.randoms(use_true_random=False),
)
def test_other_sets_of_hosts_have_other_names(
    groups: set[frozenset[str]], chance: random.Random
) -> None:
    router = make(configure())

    names = {router._name_group(group) for group in groups}
    again = {router._name_group(chance.sample(sorted(group), len(group)) * 2) for group in groups}

    assert len(names) == len(groups)
    assert again == names


async def test_group_never_has_the_name_of_a_configured_site() -> None:
    # The site is for one domain; who points to the same host does not get its terms.
    sites = [{"name": "named.mail.test", "domains": ["own.test"], "tls": "none"}]

    path = await find_path("pointed.test", site=sites)

    assert path.site.startswith("named.mail.test+0-")
    assert get_level(path) == "opportunistic"


async def test_hosts_of_a_route_have_one_name_in_any_order() -> None:
    hosts = ["127.0.0.2:25", "127.0.0.1:25"]

    paths = [
        await find_path("x.test", route=[{"domains": ["*"], "hosts": order}])
        for order in (hosts, hosts[::-1], ["127.0.0.1:26"], hosts[:1])
    ]

    assert paths[0].site == paths[1].site
    assert paths[0].hosts == paths[1].hosts[::-1]
    assert len({path.site for path in paths}) == 3
    assert paths[2].site == "127.0.0.1:26"


async def test_hosts_and_addresses_are_bounded() -> None:
    assert len((await find_path("many.test")).hosts) == 5
    assert len((await find_path("wide.test")).hosts) == 3


async def test_prohibited_hosts_do_not_take_the_places_of_others() -> None:
    prohibited = [f"n{n}.wild.test" for n in range(29)]
    path = await find_path("many.test", delivery={"prohibited_hosts": prohibited})
    assert {host.name for host in path.hosts} == {"n29.wild.test"}


@pytest.mark.parametrize(
    ("domain", "family", "expected"),
    [
        ("aliased.test", V4, ["192.0.2.1"]),
        ("plain.test", V4, ["192.0.2.80"]),
        ("v6.test", V6, ["2001:db8::6"]),
        ("v6.test", V4, ["192.0.2.6"]),
        ("v6.test", None, ["192.0.2.6", "2001:db8::6"]),
        ("gap.test", V4, ["192.0.2.1"]),
        ("halfbroken.test", V4, ["192.0.2.1"]),
        ("mixed.test", V4, ["192.0.2.55"]),
        ("partgarbage.test", V4, ["192.0.2.1"]),
        ("nullandmore.test", V4, ["192.0.2.1"]),
        ("loop.test", V4, ["192.0.2.1"]),
    ],
)
async def test_usable_hosts_are_used(domain: str, family: Any, expected: list[str]) -> None:
    assert sorted(addresses(await find(domain, family))) == expected


@pytest.mark.parametrize(
    ("domain", "family", "disposition", "code", "status"),
    [
        ("null.test", V4, Disposition.BOUNCED, 556, "5.1.10"),
        ("gone.test", V4, Disposition.BOUNCED, 0, "5.1.2"),
        ("[10.0.0.1]", V4, Disposition.BOUNCED, 0, "5.1.2"),
        ("[IPv6:2001:db8::1]", V4, Disposition.BOUNCED, 0, "5.1.2"),
        ("", V4, Disposition.BOUNCED, 0, "5.1.2"),
        ("two .test", V4, Disposition.BOUNCED, 0, "5.1.2"),
        ("192.0.2.1", V4, Disposition.BOUNCED, 0, "5.1.2"),
        ("broken.test", V4, Disposition.DEFERRED, 0, "4.4.3"),
        ("unknowable.test", V4, Disposition.DEFERRED, 0, "4.4.3"),
        ("nowhere.test", V4, Disposition.DEFERRED, 0, "4.4.4"),
        ("two.test", V6, Disposition.DEFERRED, 0, "4.4.4"),
        ("plain.test", V6, Disposition.DEFERRED, 0, "4.4.4"),
        ("garbage.test", V4, Disposition.DEFERRED, 0, "4.4.4"),
        ("inward.test", V4, Disposition.DEFERRED, 0, "4.4.4"),
        ("inward.test", V6, Disposition.DEFERRED, 0, "4.4.4"),
        ("ours.test", V4, Disposition.DEFERRED, 0, "4.4.4"),
        ("circle.test", V4, Disposition.DEFERRED, 0, "4.4.6"),
    ],
)
async def test_no_route_has_a_reason(
    domain: str, family: Any, disposition: Disposition, code: int, status: str
) -> None:
    outcome = await find(domain, family)

    assert isinstance(outcome, Outcome)
    assert (outcome.disposition, outcome.code, outcome.status) == (disposition, code, status)
    assert outcome.blame is (Blame.RECIPIENT if code or status[0] == "5" else Blame.HOST)
    assert outcome.text


async def test_plan_is_made_again_when_the_zone_has_changed(mock_clock: MockClock) -> None:
    zone = dict(ZONE)
    async with open_nameserver(zone, ttl=0) as server:
        router = make(configure(server))
        before = addresses(await router.find("plain.test", V4))
        zone["plain.test"] = {"A": ["192.0.2.81"]}

        mock_clock.jump(6)

        assert (before, addresses(await router.find("plain.test", V4))) == (
            ["192.0.2.80"],
            ["192.0.2.81"],
        )


# -- the source's family


@pytest.mark.parametrize(
    ("domain", "family", "other"),
    [
        ("only6.test", V4, V6),
        ("two.test", V6, V4),
        ("plain.test", V6, V4),
        ("nowhere.test", V4, None),
        ("inward.test", V4, None),  # it has addresses of both, and none that we would connect to
        ("inward.test", V6, None),
        ("nowhere.test", None, None),
        ("unknowable.test", V4, None),
    ],
)
async def test_hosts_that_another_source_could_reach_are_told_apart(
    domain: str, family: Any, other: Any
) -> None:
    outcome = await find(domain, family)

    assert isinstance(outcome, Outcome)
    assert (outcome.family if isinstance(outcome, NoAddress) else None) is other


async def test_reason_names_the_family_that_is_there() -> None:
    outcome = await find("only6.test", V4)

    assert isinstance(outcome, NoAddress)
    assert (outcome.disposition, outcome.blame) == (Disposition.DEFERRED, Blame.HOST)
    assert outcome.text == (
        "only6.test: no usable IPv4 address for its hosts: only6.mail.test (none), "
        "none.mail.test (none); they have IPv6 addresses: only6.mail.test (2001:db8::66), "
        "none.mail.test (none)"
    )


async def test_other_family_of_a_route_is_told() -> None:
    outcome = await find("x.test", V6, route=[{"domains": ["*"], "hosts": ["127.0.0.1:25"]}])

    assert isinstance(outcome, NoAddress)
    assert outcome.family is V4


async def test_other_family_is_not_asked_for_while_there_are_addresses() -> None:
    async with open_nameserver(ZONE) as server:
        await make(configure(server)).find("plain.test", V4)

    assert len(server.queries) == 2  # MX, A


# -- configured routes


@pytest.mark.parametrize(
    ("domain", "port"),
    [("x.test", 1), ("y.x.test", 2), ("z.y.x.test", 2), ("other.test", 3)],
)
async def test_first_route_that_matches_is_taken(domain: str, port: int) -> None:
    routes = [
        {"domains": ["x.test"], "hosts": ["192.0.2.1:1"]},
        {"domains": ["*.x.test"], "hosts": ["192.0.2.1:2"]},
        {"domains": ["*"], "hosts": ["192.0.2.1:3"]},
    ]

    path = await find_path(domain, route=routes)

    assert path.hosts == (Host("192.0.2.1", "192.0.2.1", port),)


async def test_hosts_of_a_route_keep_their_order_and_may_be_ours() -> None:
    hosts = ["Inside.test:2600", "127.0.0.2:2601", "localhost:2602", "gone.test:25"]

    path = await find_path("x.test", route=[{"domains": ["*"], "hosts": hosts}])

    assert path.hosts == (
        Host("inside.test", "127.0.0.1", 2600),
        Host("127.0.0.2", "127.0.0.2", 2601),
        Host("localhost", "127.0.0.1", 2602),
    )


async def test_route_uses_what_the_source_can_reach() -> None:
    route = [{"domains": ["*"], "hosts": ["127.0.0.1:25", "[::1]:26"]}]

    assert addresses(await find("x.test", V4, route=route)) == ["127.0.0.1"]
    assert addresses(await find("x.test", V6, route=route)) == ["::1"]
    assert addresses(await find("x.test", None, route=route)) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:25", "4.4.4"), ("broken.test:25", "4.4.3")]
)
async def test_route_without_a_usable_host_is_temporary(host: str, status: str) -> None:
    outcome = await find("x.test", V6, route=[{"domains": ["*"], "hosts": [host]}])

    assert isinstance(outcome, Outcome)
    assert (outcome.disposition, outcome.status) == (Disposition.DEFERRED, status)


async def test_address_literal_is_refused_before_any_route() -> None:
    route = [{"domains": ["*"], "hosts": ["127.0.0.1:25"]}]

    assert isinstance(await find("[127.0.0.1]", route=route), Outcome)


async def test_literal_route_asks_nobody_and_is_kept() -> None:
    config = configure(route=[{"domains": ["*.test"], "hosts": ["127.0.0.1:2600"]}])
    router = make(config)

    first = await router.find("x.test", V4)

    assert await router.find("x.test", V4) is first


async def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 10)
    async with open_nameserver(ZONE) as server:
        route = [{"domains": ["*.fixed.test"], "hosts": ["127.0.0.1:2600"]}]
        router = make(configure(server, route=route))

        for n in range(15):
            await router.find(f"d{n}.fixed.test", V4)
            await router.find(f"d{n}.wild.test", V4)

    assert len(router._fixed) == len(router._plans) == 10


async def test_literal_route_costs_next_to_nothing() -> None:
    router = make(configure(route=[{"domains": ["*.test"], "hosts": ["127.0.0.1:2600"]}]))
    await router.find("x.test", V4)

    def measure() -> float:
        started = time.perf_counter()
        for _ in range(2000):
            with pytest.raises(StopIteration):
                router.find("x.test", V4).send(None)  # answers without a checkpoint
        return (time.perf_counter() - started) / 2000

    # Most of this is pytest.raises; the look-up itself is under a microsecond.
    assert min(measure() for _ in range(3)) < 20e-6


# -- sites

BIG = {"name": "big", "mx": ["*.big.test"], "tls": "verify"}


@pytest.mark.parametrize(
    ("domain", "site"),
    [
        ("hosted.test", "big"),  # by MX host
        ("two.test", "named"),  # by domain
        ("failover.test", "big"),  # its best host, and a backup elsewhere
        ("backup.test", None),  # only its backup is there
        ("oneof.test", None),  # one of its best
        ("crowd.test", None),  # one of its best, whichever five are tried
        ("equal.test", None),
    ],
)
async def test_first_site_that_matches_is_taken(domain: str, site: str | None) -> None:
    sites = [BIG, {"name": "named", "domains": ["two.test"]}, {"name": "rest", "tls": "none"}]

    path = await find_path(domain, site=sites)

    assert path.is_shared == (site is not None)
    if site is None:
        assert get_level(path) == "none"
        assert path.site not in ("big", "named", "rest")
    else:
        assert path.site == site


async def test_site_matches_routes_by_domain_and_by_host() -> None:
    route = [
        {"domains": ["x.test"], "hosts": ["127.0.0.1:25"]},
        {"domains": ["y.test"], "hosts": ["aspmx.l.big.test:25"]},
        {"domains": ["z.test"], "hosts": ["127.0.0.1:25"]},
    ]
    sites = [BIG, {"name": "named", "domains": ["x.test"]}]

    paths = [await find_path(domain, route=route, site=sites) for domain in ("x.test", "y.test")]
    rest = await find_path("z.test", route=route, site=sites)

    assert [(path.site, get_level(path)) for path in paths] == [
        ("named", "opportunistic"),
        ("big", "verify"),
    ]
    assert (rest.site, get_level(rest)) == ("127.0.0.1:25", "opportunistic")
    assert len({path.key for path in (*paths, rest)}) == 3


@pytest.mark.parametrize(
    ("site", "most"),
    [
        ({"connections": 5, "source": {"connections": 2, "messages_per_connection": 9}}, 9),
        ({"connections": 5, "messages_per_connection": 7}, 7),
        ({"source": {"messages_per_connection": 3}}, 3),
        ({}, 40),
    ],
)
async def test_nearest_limit_holds(site: dict[str, Any], most: int) -> None:
    delivery = {"connections": 8, "messages_per_connection": 40}

    path = await find_path("two.test", delivery=delivery, site=[{"name": "s", **site}])

    assert path.messages_per_connection == most


@pytest.mark.parametrize("domain", ["two.test", "hosted.test", "equal.test", "x.test"])
async def test_path_and_its_site_say_the_same(domain: str) -> None:
    route = [{"domains": ["x.test"], "hosts": ["127.0.0.1:25"]}]
    async with open_nameserver(ZONE) as server:
        router = make(configure(server, route=route, site=[BIG]))

        path = await router.find(domain, V4)

    assert isinstance(path, Path)
    terms = router.sites.find(path.site)
    assert (terms.name, terms.tls) == (path.site, get_level(path))
    assert terms.messages_per_connection == path.messages_per_connection


async def test_session_for_one_tls_level_is_not_shared_with_another() -> None:
    loose = await find_path("two.test", site=[{"name": "s"}])
    strict = await find_path("two.test", site=[{"name": "s", "tls": "verify"}])

    assert loose.key != strict.key


async def test_mx_hosts_are_looked_up_together() -> None:
    async with open_nameserver(ZONE) as server:
        router = make(configure(server))
        await router._resolver.find_mx("equal.test")
        server.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(router.find, "equal.test", V4)
            await trio.testing.wait_all_tasks_blocked(0.01)
            asked = len(server.queries)
            server.gate.set()

    assert asked == 1 + 4


async def test_witness_hears_what_was_asked_and_decided_of_every_host() -> None:
    heard: list[Any] = []
    async with open_nameserver(ZONE) as server:
        config = configure(server, site=[{"name": "s", "tls": "verify"}])
        resolver = Resolver(config.dns)
        router = Router(config, resolver, witness=lambda *facts: heard.append(facts))
        for _ in range(2):
            await router.find("halfbroken.test", V4)

    ((wish, found, demands),) = heard
    assert (wish.domain, wish.level, wish.secure) == ("halfbroken.test", "verify", False)
    assert isinstance(found["broken.mail.test"], str)
    assert {name: guard.level for name, guard in demands.guards.items()} == {
        "a.mail.test": "verify"
    }


@pytest.mark.parametrize(
    ("address", "family"), [("0.0.0.0", V4), ("127.0.0.11", V4), ("::", V6), ("2001:db8::1", V6)]
)
def test_family_of_a_source(address: str, family: socket.AddressFamily) -> None:
    assert find_family(address) is family
