"""The resolver against a real name server on loopback."""

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from relay.config import Endpoint, Seconds
from relay.config.schema import Dns
from relay.errors import ConfigError
from relay.net.resolver import Found, Mx, NameNotFound, NameUnavailable, Resolver, Tlsa
from tests.kit.nameserver import REFUSED, SERVFAIL, SILENT, Nameserver, open_nameserver

ZONE: dict[str, Any] = {
    "example.test": {"MX": ["20 MX2.example.test.", "10 mx1.example.test."]},
    "mx1.example.test": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
    "mx2.example.test": {"A": ["192.0.2.3"]},
    "alias.test": {"CNAME": ["mx1.example.test."]},
    "null.test": {"MX": ["0 ."]},
    "broken.test": SERVFAIL,
    "refused.test": REFUSED,
    "silent.test": SILENT,
    "wide.test": {"A": [f"192.0.2.{n}" for n in range(1, 200)]},
    "late.test": {"A": ["192.0.2.7"]},
    "_25._tcp.mx1.example.test": {"TLSA": [f"3 1 1 {'0a' * 32}", "2 0 0 abcd"]},
    "_mta-sts.example.test": {"TXT": ['"v=STSv1; " "id=7;"', '"other"']},
    "_25._tcp.broken.test": SERVFAIL,
}


@pytest.fixture
async def server() -> AsyncIterator[Nameserver]:
    async with open_nameserver(dict(ZONE)) as server:
        yield server


@pytest.fixture
def resolver(server: Nameserver) -> Resolver:
    return make(server)


def make(*servers: Nameserver, timeout: float = 5) -> Resolver:
    return Resolver(Dns(nameservers=tuple(s.endpoint for s in servers), timeout=Seconds(timeout)))


async def test_mx_records_come_in_lower_case_without_the_dot(resolver: Resolver) -> None:
    assert set((await resolver.find_mx("Example.Test.")).records) == {
        Mx(20, "mx2.example.test"),
        Mx(10, "mx1.example.test"),
    }


async def test_null_mx_is_the_root(resolver: Resolver) -> None:
    assert (await resolver.find_mx("null.test")).records == (Mx(0, ""),)


@pytest.mark.parametrize(
    ("name", "family", "addresses"),
    [
        ("mx1.example.test", socket.AF_INET, {"192.0.2.1", "192.0.2.2"}),
        ("mx1.example.test", socket.AF_INET6, {"2001:db8::1"}),
        ("mx1.example.test", None, {"192.0.2.1", "192.0.2.2", "2001:db8::1"}),
        ("alias.test", socket.AF_INET, {"192.0.2.1", "192.0.2.2"}),
        ("mx2.example.test", socket.AF_INET6, set()),
        ("mx2.example.test", None, {"192.0.2.3"}),
    ],
)
async def test_addresses_of_the_family_are_found(
    resolver: Resolver, name: str, family: socket.AddressFamily | None, addresses: set[str]
) -> None:
    assert set((await resolver.find_addresses(name, family)).records) == addresses


async def test_answer_too_long_for_udp_is_had_over_tcp(resolver: Resolver) -> None:
    assert len((await resolver.find_addresses("wide.test", socket.AF_INET)).records) == 199


async def test_no_record_is_an_empty_answer(resolver: Resolver) -> None:
    assert (await resolver.find_mx("mx1.example.test")).records == ()


async def test_name_that_does_not_exist_is_told_apart(resolver: Resolver) -> None:
    with pytest.raises(NameNotFound, match=r"gone\.test: no such name"):
        await resolver.find_mx("gone.test")


@pytest.mark.parametrize("name", ["a..b.test", "x" * 64 + ".test", "a." * 130 + "test"])
async def test_name_that_cannot_exist_is_not_asked_for(
    resolver: Resolver, server: Nameserver, name: str
) -> None:
    with pytest.raises(NameNotFound):
        await resolver.find_mx(name)

    assert server.queries == []


@pytest.mark.parametrize("name", ["broken.test", "refused.test"])
async def test_server_failure_is_not_no_record(resolver: Resolver, name: str) -> None:
    with pytest.raises(NameUnavailable, match=r"SERVFAIL|REFUSED"):
        await resolver.find_mx(name)


async def test_silence_ends_after_the_configured_time(server: Nameserver) -> None:
    started = trio.current_time()

    with pytest.raises(NameUnavailable, match=r"no answer from the DNS within 0\.1 s"):
        await make(server, timeout=0.1).find_mx("silent.test")

    assert trio.current_time() - started < 1


async def test_one_family_is_enough_when_the_other_fails(server: Nameserver) -> None:
    resolver = make(server)
    await resolver.find_addresses("mx1.example.test", socket.AF_INET)
    server.trouble = SERVFAIL

    found = await resolver.find_addresses("mx1.example.test")
    assert set(found.records) == {"192.0.2.1", "192.0.2.2"}


async def test_next_server_is_asked_when_the_first_fails(server: Nameserver) -> None:
    async with open_nameserver({}) as broken:
        broken.trouble = SERVFAIL

        found = await make(broken, server).find_addresses("mx2.example.test")
        assert found.records == ("192.0.2.3",)


async def test_twenty_at_once_are_one_query(server: Nameserver, resolver: Resolver) -> None:
    server.gate = trio.Event()
    found: list[Found[str]] = []

    async def look_up() -> None:
        found.append(await resolver.find_addresses("mx2.example.test", socket.AF_INET))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look_up)
        await trio.testing.wait_all_tasks_blocked(0.01)
        server.gate.set()

    assert [one.records for one in found] == [("192.0.2.3",)] * 20
    assert server.queries == [("mx2.example.test", "A")]


async def test_failure_is_shared_too(server: Nameserver, resolver: Resolver) -> None:
    failures: list[NameUnavailable] = []

    async def look_up() -> None:
        try:
            await resolver.find_mx("broken.test")
        except NameUnavailable as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look_up)

    assert len(failures) == 20
    assert server.queries == [("broken.test", "MX")]


@pytest.mark.parametrize("cancelled", [0, 1], ids=["who asked", "who waited"])
async def test_cancelled_look_up_does_not_take_others_along(
    server: Nameserver, resolver: Resolver, cancelled: int
) -> None:
    server.gate = trio.Event()
    found: list[Found[str]] = []
    scopes = [trio.CancelScope() for _ in range(3)]

    async def look_up(scope: trio.CancelScope) -> None:
        with scope:
            found.append(await resolver.find_addresses("late.test", socket.AF_INET))

    async with trio.open_nursery() as nursery:
        for scope in scopes:
            nursery.start_soon(look_up, scope)
            await trio.testing.wait_all_tasks_blocked(0.01)
        scopes[cancelled].cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        server.gate.set()

    assert [one.records for one in found] == [("192.0.2.7",)] * 2
    assert len(server.queries) == (2 if cancelled == 0 else 1)


@pytest.mark.parametrize(
    ("ttl", "kept"), [(0, 5), (100, 100), (100_000, 3600)], ids=["floor", "ttl", "ceiling"]
)
async def test_answer_is_kept_for_its_ttl_within_bounds(
    mock_clock: MockClock, ttl: int, kept: float
) -> None:
    async with open_nameserver(ZONE, ttl=ttl) as server:
        resolver = make(server)

        for wait in (0, kept - 1, 2):
            mock_clock.jump(wait)
            await resolver.find_addresses("mx2.example.test", socket.AF_INET)

    assert len(server.queries) == 2


@pytest.mark.parametrize(
    ("name", "kept"), [("gone.test", 60), ("mx1.example.test", 60), ("broken.test", 5)]
)
async def test_negative_answers_are_kept_for_less(
    mock_clock: MockClock, server: Nameserver, resolver: Resolver, name: str, kept: float
) -> None:
    for wait in (0, kept - 1, 2):
        mock_clock.jump(wait)
        with contextlib.suppress(NameNotFound, NameUnavailable):
            await resolver.find_mx(name)

    assert len(server.queries) == 2


async def test_cache_is_bounded_and_forgets_what_was_not_used(
    server: Nameserver,
) -> None:
    resolver = Resolver(Dns(nameservers=(server.endpoint,), cache=2))
    first, second, third = "mx1.example.test", "mx2.example.test", "late.test"

    for name in (first, second, first, third, first, second):
        await resolver.find_addresses(name, socket.AF_INET)

    assert [name for name, _ in server.queries] == [first, second, third, second]
    assert resolver.size == 2


async def test_what_takes_much_memory_counts_as_many(server: Nameserver) -> None:
    # 199 addresses: some 11 KiB.
    server.zone = {f"{n}.wide.test": ZONE["wide.test"] for n in range(5)} | ZONE
    resolver = Resolver(Dns(nameservers=(server.endpoint,), cache=40))
    await resolver.find_addresses("mx2.example.test", socket.AF_INET)

    for n in range(5):
        await resolver.find_addresses(f"{n}.wide.test", socket.AF_INET)
    assert resolver.size == 3
    server.queries.clear()
    await resolver.find_addresses("4.wide.test", socket.AF_INET)
    assert server.queries == []


async def test_an_answer_larger_than_the_cache_reaches_all_who_wait(server: Nameserver) -> None:
    resolver = Resolver(Dns(nameservers=(server.endpoint,), cache=2))
    found: list[int] = []

    async def look_up() -> None:
        found.append(len((await resolver.find_addresses("wide.test", socket.AF_INET)).records))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(look_up)
    assert found == [199] * 5
    assert len(set(server.queries)) == 1
    assert resolver.size == 1
    await resolver.find_addresses("mx2.example.test", socket.AF_INET)
    assert resolver.size == 1  # that one


def test_name_server_that_is_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dns\.nameservers"):
        Resolver(Dns(nameservers=(Endpoint("ns.example.test", 53),)))


# -- what an answer is worth


@pytest.mark.parametrize(
    ("trust", "authentic", "secure"),
    [(None, True, True), (None, False, False), (False, True, False), (True, True, True)],
    ids=["loopback", "not validated", "not to be believed", "configured"],
)
async def test_an_answer_is_secure_when_a_believed_server_says_so(
    *, trust: bool | None, authentic: bool, secure: bool
) -> None:
    async with open_nameserver(ZONE, authentic=authentic) as server:
        resolver = Resolver(Dns(nameservers=(server.endpoint,), trust_ad=trust))
        assert (await resolver.find_mx("example.test")).secure is secure
        assert (await resolver.find_mx("mx1.example.test")).secure is secure  # that there is none
        assert (await resolver.find_addresses("mx1.example.test")).secure is secure
        assert (await resolver.find_tlsa("_25._tcp.mx1.example.test")).secure is secure


def test_a_server_elsewhere_is_not_believed_by_itself() -> None:
    near, far = Endpoint("127.0.0.1", 53), Endpoint("192.0.2.53", 53)
    assert Resolver(Dns(nameservers=(near, Endpoint("::1", 53)))).is_trusted
    assert not Resolver(Dns(nameservers=(near, far))).is_trusted
    assert Resolver(Dns(nameservers=(far,), trust_ad=True)).is_trusted


async def test_an_answer_says_where_aliases_led(resolver: Resolver) -> None:
    found = await resolver.find_addresses("Alias.test.", socket.AF_INET)
    assert found.name == "mx1.example.test"


async def test_an_alias_is_had_by_itself(resolver: Resolver) -> None:
    assert await resolver.find_alias("Alias.test") == Found(
        ("mx1.example.test",), name="alias.test"
    )
    assert (await resolver.find_alias("mx1.example.test")).records == ()
    assert (await resolver.find_alias("gone.test")).records == ()
    with pytest.raises(NameUnavailable):
        await resolver.find_alias("broken.test")


async def test_tlsa_records_are_read(resolver: Resolver) -> None:
    found = await resolver.find_tlsa("_25._tcp.mx1.example.test")
    assert set(found.records) == {Tlsa(3, 1, 1, b"\n" * 32), Tlsa(2, 0, 0, b"\xab\xcd")}
    assert (await resolver.find_tlsa("_25._tcp.gone.test")).records == ()
    with pytest.raises(NameUnavailable):
        await resolver.find_tlsa("_25._tcp.broken.test")


async def test_a_malformed_tlsa_record_does_not_take_the_others_along() -> None:
    """A digest of two octets: the zone's owner has slipped, and his host has TLS all the same."""
    records = {"_25._tcp.mx.test": {"TLSA": ["3 1 1 0102", f"3 1 1 {'0a' * 32}"]}}
    async with open_nameserver(records) as server:
        found = await make(server).find_tlsa("_25._tcp.mx.test")
    assert set(found.records) == {Tlsa(3, 1, 1, b"\x01\x02"), Tlsa(3, 1, 1, b"\n" * 32)}


async def test_strings_of_a_txt_record_are_joined(resolver: Resolver) -> None:
    found = await resolver.find_txt("_mta-sts.example.test")
    assert set(found.records) == {b"v=STSv1; id=7;", b"other"}
    assert (await resolver.find_txt("_mta-sts.gone.test")).records == ()


async def test_names_of_an_address(server: Nameserver, resolver: Resolver) -> None:
    server.zone = {
        **server.zone,
        "1.2.0.192.in-addr.arpa": {"PTR": ["MX1.example.test.", "other.test."]},
        "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa": {"PTR": ["six.test."]},
        "9.2.0.192.in-addr.arpa": SERVFAIL,
    }
    names = (await resolver.find_names("192.0.2.1")).records
    assert set(names) == {"mx1.example.test", "other.test"}
    assert (await resolver.find_names("2001:db8::1")).records == ("six.test",)
    assert (await resolver.find_names("192.0.2.2")).records == ()
    with pytest.raises(NameUnavailable):
        await resolver.find_names("192.0.2.9")
    with pytest.raises(ValueError, match="address"):
        await resolver.find_names("mx1.example.test")


async def test_the_authority_of_the_root(server: Nameserver, resolver: Resolver) -> None:
    server.zone = {".": {"SOA": ["A.root.test. h.root.test. 1 7200 900 1209600 300"]}}
    server.authentic = True

    found = await resolver.find_authority("")

    assert (found.records, found.secure) == (("a.root.test",), True)
    with pytest.raises(NameNotFound):
        await resolver.find_authority("nobody.test")


async def test_whom_it_asks(server: Nameserver, resolver: Resolver) -> None:
    assert resolver.nameservers == (f"127.0.0.1@{server.port}",)
