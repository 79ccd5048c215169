"""The resolver behind a real validating one (Unbound), before real signed zones (NSD)."""

import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from relay.config.schema import Dns
from relay.net.resolver import Found, Mx, NameNotFound, NameUnavailable, Resolver, Tlsa
from tests.kit.dnssec import Fault, Servers, Zone, find_obstacle, open_dnssec, run_dnssec
from tests.kit.ports import is_listening

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle()))

OLD, NEW = (Tlsa(3, 1, 1, octet * 32) for octet in (b"\x0a", b"\x0b"))
LOOK_UPS = ("find_mx", "find_addresses", "find_tlsa", "find_txt")


def write(*records: Tlsa) -> list[str]:
    return [f"{r.usage} {r.selector} {r.matching} {r.data.hex()}" for r in records]


def make_zones() -> dict[str, Zone]:
    everything = {
        "MX": ["10 mx.example.test."],
        "A": ["192.0.2.1"],
        "AAAA": ["2001:db8::1"],
        "TXT": ['"v=STSv1; id=1;"'],
        "TLSA": write(OLD),
    }
    return {
        "example.test": Zone(
            {
                "example.test": {"MX": ["10 mx.example.test."], "TXT": ['"v=STSv1; id=1;"']},
                "mx.example.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
                "_25._tcp.mx.example.test": {"TLSA": write(OLD)},
                "four.example.test": {"A": ["192.0.2.4"]},
                "alias.example.test": {"CNAME": ["second.example.test."]},
                "second.example.test": {"CNAME": ["mx.example.test."]},
                "away.example.test": {"CNAME": ["mx.plain.test."]},
                "into.example.test": {"CNAME": ["bogus.test."]},
                "dangling.example.test": {"CNAME": ["gone.plain.test."]},
                "_25._tcp.away.example.test": {"CNAME": ["tlsa.plain.test."]},
                "_25._tcp.alias.example.test": {"CNAME": ["_25._tcp.mx.example.test."]},
                "*.wild.example.test": {"A": ["192.0.2.5"]},
                "spoilt.example.test": {"A": ["192.0.2.6"]},
                "_25._tcp.spoilt.example.test": {"TLSA": write(OLD)},
                "child.example.test": {"A": ["192.0.2.7"]},
            },
            spoilt={"_25._tcp.spoilt.example.test"},
        ),
        "_tcp.child.example.test": Zone(
            {"_25._tcp.child.example.test": {"TLSA": write(OLD)}}, fault=Fault.WRONG_DS
        ),
        "plain.test": Zone(
            {
                "plain.test": {"MX": ["10 mx.plain.test."]},
                "mx.plain.test": {"A": ["192.0.2.8"], "AAAA": ["2001:db8::8"]},
                "tlsa.plain.test": {"TLSA": write(OLD)},
                "back.plain.test": {"CNAME": ["mx.example.test."]},
            },
            signed=False,
        ),
        **{
            f"{fault.name.lower().replace('_', '-')}.test": Zone(
                {f"{fault.name.lower().replace('_', '-')}.test": dict(everything)}, fault=fault
            )
            for fault in Fault
        },
    }


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with run_dnssec(make_zones()) as servers:
        yield servers


@pytest.fixture
def resolver(servers: Servers) -> Resolver:
    return make(servers)


def make(servers: Servers, *, trust: bool | None = None) -> Resolver:
    return Resolver(Dns(nameservers=(servers.endpoint,), trust_ad=trust))


async def test_what_a_signed_zone_holds_is_secure(resolver: Resolver) -> None:
    assert await resolver.find_mx("Example.Test.") == Found(
        (Mx(10, "mx.example.test"),), secure=True, name="example.test"
    )
    assert await resolver.find_addresses("mx.example.test", socket.AF_INET) == Found(
        ("192.0.2.1",), secure=True, name="mx.example.test"
    )
    assert await resolver.find_addresses("mx.example.test") == Found(
        ("192.0.2.1", "2001:db8::1"), secure=True, name="mx.example.test"
    )
    assert await resolver.find_tlsa("_25._tcp.mx.example.test") == Found(
        (OLD,), secure=True, name="_25._tcp.mx.example.test"
    )
    assert await resolver.find_txt("example.test") == Found(
        (b"v=STSv1; id=1;",), secure=True, name="example.test"
    )


async def test_that_there_is_no_record_is_secure_too(resolver: Resolver) -> None:
    # RFC 7672 §2.2.1: without an MX record the host is as good as this denial.
    none = await resolver.find_mx("mx.example.test")
    assert none == Found((), secure=True, name="mx.example.test")
    found = await resolver.find_addresses("four.example.test", socket.AF_INET6)
    assert (found.records, found.secure) == ((), True)
    found = await resolver.find_addresses("four.example.test")
    assert (found.records, found.secure) == (("192.0.2.4",), True)
    assert (await resolver.find_tlsa("_25._tcp.four.example.test")).records == ()


@pytest.mark.parametrize("name", ["gone.example.test", "gone.plain.test", "elsewhere.test"])
async def test_name_that_does_not_exist_is_no_failure(resolver: Resolver, name: str) -> None:
    with pytest.raises(NameNotFound):
        await resolver.find_mx(name)


async def test_what_a_wildcard_makes_is_secure(resolver: Resolver) -> None:
    found = await resolver.find_addresses("any.wild.example.test")
    assert found == Found(("192.0.2.5",), secure=True, name="any.wild.example.test")


async def test_what_an_unsigned_zone_holds_is_found_and_not_secure(resolver: Resolver) -> None:
    assert await resolver.find_mx("plain.test") == Found(
        (Mx(10, "mx.plain.test"),), secure=False, name="plain.test"
    )
    found = await resolver.find_addresses("mx.plain.test")
    assert (found.records, found.secure) == (("192.0.2.8", "2001:db8::8"), False)
    assert not (await resolver.find_mx("mx.plain.test")).secure
    assert not (await resolver.find_tlsa("tlsa.plain.test")).secure


# -- what does not validate


@pytest.mark.parametrize("look_up", LOOK_UPS)
@pytest.mark.parametrize("name", ["bogus.test", "expired.test", "wrong-ds.test", "lame.test"])
async def test_what_does_not_validate_is_unavailable(
    resolver: Resolver, name: str, look_up: str
) -> None:
    find: Callable[[str], Awaitable[Found[Any]]] = getattr(resolver, look_up)
    with pytest.raises(NameUnavailable, match="SERVFAIL"):
        await find(name)
    with pytest.raises(NameUnavailable, match="SERVFAIL"):
        await find(f"no-such-name.{name}")


@pytest.mark.parametrize("host", ["spoilt.example.test", "child.example.test"])
async def test_tlsa_that_does_not_validate_leaves_the_address_alone(
    resolver: Resolver, host: str
) -> None:
    assert (await resolver.find_addresses(host)).secure
    with pytest.raises(NameUnavailable):
        await resolver.find_tlsa(f"_25._tcp.{host}")


async def test_nobody_else_suffers(resolver: Resolver) -> None:
    with pytest.raises(NameUnavailable):
        await resolver.find_mx("bogus.test")
    assert (await resolver.find_mx("example.test")).secure


# -- aliases


async def test_secure_aliases_lead_to_a_name_that_is_secure(resolver: Resolver) -> None:
    found = await resolver.find_addresses("alias.example.test")
    assert found == Found(("192.0.2.1", "2001:db8::1"), secure=True, name="mx.example.test")
    assert await resolver.find_tlsa("_25._tcp.alias.example.test") == Found(
        (OLD,), secure=True, name="_25._tcp.mx.example.test"
    )


@pytest.mark.parametrize(
    ("alias", "target"),
    [("away.example.test", "mx.plain.test"), ("back.plain.test", "mx.example.test")],
    ids=["out of a signed zone", "into one"],
)
async def test_an_alias_is_as_good_as_its_worst_part(
    resolver: Resolver, alias: str, target: str
) -> None:
    found = await resolver.find_addresses(alias)
    assert (found.secure, found.name) == (False, target)
    assert len(found.records) == 2


@pytest.mark.parametrize(
    ("alias", "target", "secure"),
    [
        ("away.example.test", "mx.plain.test", True),
        ("back.plain.test", "mx.example.test", False),
        ("alias.example.test", "second.example.test", True),
    ],
)
async def test_one_step_of_an_alias_is_as_good_as_its_own_zone(
    resolver: Resolver, alias: str, target: str, *, secure: bool
) -> None:
    assert await resolver.find_alias(alias) == Found((target,), secure=secure, name=alias)


async def test_tlsa_through_an_alias_into_an_unsigned_zone_is_not_secure(
    resolver: Resolver,
) -> None:
    found = await resolver.find_tlsa("_25._tcp.away.example.test")
    assert found == Found((OLD,), secure=False, name="tlsa.plain.test")


async def test_an_alias_to_what_does_not_validate_is_unavailable(resolver: Resolver) -> None:
    with pytest.raises(NameUnavailable):
        await resolver.find_addresses("into.example.test")


async def test_an_alias_to_nothing_does_not_exist(resolver: Resolver) -> None:
    with pytest.raises(NameNotFound):
        await resolver.find_addresses("dangling.example.test")


# -- belief


async def test_no_answer_is_secure_when_nobody_is_believed(servers: Servers) -> None:
    resolver = make(servers, trust=False)
    assert not (await resolver.find_mx("example.test")).secure
    assert not (await resolver.find_addresses("alias.example.test")).secure
    assert not (await resolver.find_tlsa("_25._tcp.mx.example.test")).secure
    with pytest.raises(NameUnavailable):  # whoever is believed: it was not had
        await resolver.find_mx("bogus.test")


# -- time


async def test_a_key_may_be_rolled_over() -> None:
    name = "_25._tcp.mx.example.test"
    zones = make_zones()
    async with open_dnssec(zones) as servers:
        for records in ((OLD,), (OLD, NEW), (NEW,)):
            zones["example.test"].names[name]["TLSA"] = write(*records)
            servers.publish()
            found = await make(servers).find_tlsa(name)
            assert (set(found.records), found.secure) == (set(records), True)


async def test_a_zone_may_break_and_be_mended() -> None:
    zone = Zone({"example.test": {"MX": ["10 mx.example.test."]}})
    async with open_dnssec({"example.test": zone}) as servers:
        assert (await make(servers).find_mx("example.test")).secure
        zone.fault = Fault.EXPIRED
        servers.publish()
        with pytest.raises(NameUnavailable):
            await make(servers).find_mx("example.test")
        zone.fault = None
        servers.publish()
        assert (await make(servers).find_mx("example.test")).secure


def test_nothing_is_left_running() -> None:
    with run_dnssec({}) as servers:
        assert is_listening(servers.endpoint.port)
    assert not is_listening(servers.endpoint.port)
