"""Walks over a real name server on loopback."""

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Seconds
from relay.config.schema import Dns
from relay.ingress.networks import spf
from relay.ingress.networks.spf import SpfUnusable, Walked, _Record, walk
from relay.net.resolver import Resolver
from tests.kit.nameserver import SERVFAIL, SILENT, Trouble, open_nameserver

Records = Mapping[str, str | list[str] | Trouble]


def quote(text: str) -> str:
    """Write a record as strings; none may be longer than 255 octets."""
    return " ".join(f'"{text[n : n + 200]}"' for n in range(0, len(text), 200))


async def look(records: Records) -> Walked | SpfUnusable:
    """Walk from a.test; records are TXT, in quotes where they have several strings."""
    zone: dict[str, dict[str, list[str]] | Trouble] = {}
    for owner, txts in records.items():
        if isinstance(txts, Trouble):
            zone[owner] = txts
        else:
            listed = [txts] if isinstance(txts, str) else txts
            zone[owner] = {"TXT": [t if t.startswith('"') else quote(t) for t in listed]}
    async with open_nameserver(zone) as server:
        config = Dns(nameservers=(server.endpoint,), timeout=Seconds(0.5))
        try:
            return await walk(Resolver(config), "A.test.")
        except SpfUnusable as error:
            return error


async def find(records: Records) -> Walked:
    found = await look(records)
    assert isinstance(found, Walked), found
    return found


async def read(records: Records) -> list[str]:
    return list(map(str, (await find(records)).networks))


async def fail(records: Records) -> str:
    found = await look(records)
    assert isinstance(found, SpfUnusable), found
    return str(found)


async def test_flat_record() -> None:
    record = (
        "v=spf1 ip4:74.125.0.0/16 ip4:209.85.128.0/17 ip4:192.0.2.7 "
        "ip6:2001:4860:4864::/56 ip6:2001:db8::1 ~all"
    )

    assert await read({"a.test": record}) == [
        "74.125.0.0/16", "209.85.128.0/17", "192.0.2.7/32", "2001:4860:4864::/56",
        "2001:db8::1/128",
    ]  # fmt: skip


async def test_includes_of_includes() -> None:
    records = {
        "a.test": "v=spf1 include:_b.test include:_c.test ?all",
        "_b.test": "v=spf1 ip4:192.0.2.0/24 include:d.test -all",
        "_c.test": "v=spf1 ip6:2001:db8::/32 include:d.test",  # again, and not in a circle
        "d.test": "v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24",
    }

    assert await read(records) == ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"]


async def test_redirect() -> None:
    records = {
        "a.test": "v=spf1 redirect=B.test. ip4:192.0.2.1",  # it counts last, wherever it stands
        "b.test": "v=spf1 ip4:192.0.2.2 redirect=c.test",
        "c.test": "v=spf1 ip4:192.0.2.3 -all",
    }

    assert await read(records) == ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"]


async def test_all_makes_a_redirect_not_count_and_what_follows_never_match() -> None:
    record = "v=spf1 ip4:192.0.2.1 redirect=gone.test -all ip4:192.0.2.2 include:gone.test"

    assert await read({"a.test": record}) == ["192.0.2.1/32"]


async def test_strings_of_a_record_are_joined_without_a_blank() -> None:
    assert await read({"a.test": '"v=spf1 ip4:192.0.2" ".0/24 ip4:198.51." "100.0/24 -all"'}) == [
        "192.0.2.0/24",
        "198.51.100.0/24",
    ]


async def test_a_record_that_takes_tcp() -> None:
    many = [f"ip4:10.{n >> 8}.{n & 255}.0/24" for n in range(1500)]

    assert len(await read({"a.test": " ".join(["v=spf1", *many, "-all"])})) == 1500


async def test_other_records_of_the_name_do_not_count() -> None:
    records = {"a.test": ["v=spf10 ip4:192.0.2.1", "hello", "V=SPF1 IP4:192.0.2.2", "v=spf1x"]}

    assert await read(records) == ["192.0.2.2/32"]


async def test_a_record_with_nothing_in_it_has_no_networks() -> None:
    assert await read({"a.test": "v=spf1"}) == []
    assert await read({"a.test": "v=spf1  -all "}) == []


# -- qualifiers


async def test_only_what_passes_counts() -> None:
    records = {
        "a.test": "v=spf1 -ip4:192.0.2.1 ~ip4:192.0.2.2 ?ip4:192.0.2.3 +ip4:192.0.2.4 ip4:192.0.2.5"
        " ?include:b.test +include:c.test",
        "b.test": "v=spf1 ip4:192.0.2.6",
        "c.test": "v=spf1 ip4:192.0.2.7 -ip4:192.0.2.8",
    }

    assert await read(records) == ["192.0.2.4/32", "192.0.2.5/32", "192.0.2.7/32"]


async def test_what_does_not_pass_is_not_in_what_follows() -> None:
    records = {
        "a.test": "v=spf1 ip4:192.0.2.0/30 -ip4:192.0.2.0/25 -include:b.test ip4:192.0.2.0/24"
        " redirect=c.test",
        "b.test": "v=spf1 -ip4:198.51.100.1 ip4:198.51.100.0/31 -all",
        # What b does not let pass, it does not match at all.
        "c.test": "v=spf1 ip4:198.51.100.0/31 -all",
    }

    assert await read(records) == ["192.0.2.0/30", "192.0.2.128/25", "198.51.100.1/32"]


async def test_what_an_include_does_not_match_is_not_taken_out_elsewhere() -> None:
    records = {
        "a.test": "v=spf1 include:b.test ip4:192.0.2.0/24",
        "b.test": "v=spf1 -ip4:192.0.2.0/24 ip4:198.51.100.1 -all",
    }

    assert await read(records) == ["198.51.100.1/32", "192.0.2.0/24"]


# -- what is not followed


async def test_what_needs_a_message_is_left_out_and_noted() -> None:
    records = {
        "a.test": "v=spf1 a mx/24 a:b.test/24//64 -ptr exists:%{i}.x.test include:%{d}.b.test "
        "ip4:192.0.2.1 exp=why.test unknown=x:y redirect=%{d2}.c.test"
    }

    found = await find(records)

    assert [str(network) for network in found.networks] == ["192.0.2.1/32"]
    assert found.notes == (
        "a.test: a is not followed",
        "a.test: mx is not followed",
        "a.test: a is not followed",
        "a.test: ptr is not followed",
        "a.test: exists is not followed",
        "a.test: include '%{d}.b.test' is not followed: it has a macro",
        "a.test: redirect '%{d2}.c.test' is not followed: it has a macro",
    )


# -- errors


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({}, "a.test: no SPF record"),
        ({"a.test": "hello"}, "a.test: no SPF record"),
        ({"a.test": ["v=spf1 -all", "v=spf1 ip4:192.0.2.1"]}, "a.test: 2 SPF records"),
        ({"a.test": SERVFAIL}, "a.test: no usable answer from the DNS: SERVFAIL"),
        ({"a.test": SILENT}, "a.test: no answer from the DNS within 0.5 s"),
        (
            {"a.test": "v=spf1 include:b.test", "b.test": "v=spf1 redirect=c.test"},
            "c.test (by way of a.test > b.test): no SPF record",
        ),
        (
            {"a.test": "v=spf1 ip4:192.0.2.1 include:b.test", "b.test": SERVFAIL},
            "b.test (by way of a.test): no usable answer from the DNS: SERVFAIL",
        ),
        ({"a.test": "v=spf1 include:a.test"}, "a.test (by way of a.test): leads back to itself"),
        (
            {
                "a.test": "v=spf1 include:b.test",
                "b.test": "v=spf1 redirect=c.test",
                "c.test": "v=spf1 ?include:B.test.",
            },
            "b.test (by way of a.test > b.test > c.test): leads back to itself",
        ),
        ({"a.test": "v=spf1 ip4:192.0.2.1/24"}, "has host bits set"),
        ({"a.test": "v=spf1 ip4:192.0.2.0/255.255.255.0"}, "expected a network"),
        ({"a.test": "v=spf1 ip4:192.0.2.0/33"}, "ip4 of '192.0.2.0/33'"),
        ({"a.test": "v=spf1 ip4:192.0.2.0/024"}, "expected a network"),
        ({"a.test": "v=spf1 ip4:192.0.02.0"}, "ip4 of '192.0.02.0'"),
        ({"a.test": "v=spf1 ip4:192.0.2"}, "ip4 of '192.0.2'"),
        ({"a.test": "v=spf1 ip4:2001:db8::/32"}, "expected a network"),
        ({"a.test": "v=spf1 ip6:2001:db8::1%eth0"}, "expected a network"),
        ({"a.test": "v=spf1 ip6:2001:db8::/129"}, "ip6 of '2001:db8::/129'"),
        ({"a.test": "v=spf1 ip6:192.0.2.0/24"}, "ip6 of '192.0.2.0/24'"),
        ({"a.test": "v=spf1 ip4"}, "ip4 without a value"),
        ({"a.test": "v=spf1 ip4/24"}, "ip4 without a value"),
        ({"a.test": "v=spf1 include:"}, "include without a value"),
        ({"a.test": "v=spf1 include:b..test"}, "expected a domain"),
        ({"a.test": "v=spf1 redirect="}, "expected one redirect"),
        ({"a.test": "v=spf1 redirect=b.test redirect=c.test"}, "expected one redirect"),
        ({"a.test": "v=spf1 ipv4:192.0.2.1"}, "'ipv4' is no SPF mechanism"),
        ({"a.test": "v=spf1 all:x"}, "'all' is no SPF mechanism"),
        ({"a.test": "v=spf1 192.0.2.1"}, "'192.0.2.1' is no SPF term"),
        ({"a.test": "v=spf1 +all"}, "+all lets everybody pass"),
        ({"a.test": "v=spf1 include:b.test", "b.test": "v=spf1 all"}, "b.test (by way of a.test)"),
        ({"a.test": r"v=spf1 ip4:192.0.2.1\195\164"}, "not ASCII text"),
        ({"a.test": "v=spf1 " + " ".join(f"-ip4:192.0.2.{n}" for n in range(17))}, "more than 16"),
    ],
)
async def test_what_cannot_be_read_is_an_error_that_says_where(records: Records, said: str) -> None:
    assert said in await fail(records)


async def test_ten_lookups_and_no_more() -> None:
    names = [f"n{number}.test" for number in range(1, 12)]
    records: dict[str, str | list[str] | Trouble] = {
        name: f"v=spf1 ip4:192.0.2.{number}" for number, name in enumerate(names)
    }
    includes = [f"include:{name}" for name in names]
    records["a.test"] = " ".join(["v=spf1", *includes[:9], "redirect=n10.test"])
    assert len(await read(records)) == 10

    records["a.test"] = " ".join(["v=spf1", *includes])
    assert await fail(records) == "n11.test (by way of a.test): more than 10 look-ups"

    records["n1.test"] = "v=spf1 include:n11.test"
    records["a.test"] = " ".join(["v=spf1", *includes[:9], "redirect=n10.test"])
    assert await fail(records) == "n10.test (by way of a.test): more than 10 look-ups"


async def test_a_chain_without_an_end() -> None:
    records = {f"n{n}.test": f"v=spf1 include:n{n + 1}.test" for n in range(20)}
    records["a.test"] = "v=spf1 include:n0.test"

    assert "n10.test (by way of a.test > n0.test > " in await fail(records)


async def test_networks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spf, "MOST_NETWORKS", 4)
    four = " ".join(f"ip4:192.0.2.{n}" for n in range(4))

    assert len(await read({"a.test": f"v=spf1 {four}"})) == 4
    records = {"a.test": "v=spf1 ip4:192.0.2.9 include:b.test", "b.test": f"v=spf1 {four}"}
    assert "b.test (by way of a.test): more than 4 networks" in await fail(records)
    # One with a hole in it is many.
    assert "more than 4" in await fail({"a.test": "v=spf1 -ip4:10.0.0.1 ip4:10.0.0.0/8"})


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_any_text_is_a_record_or_an_error(text: str) -> None:
    with contextlib.suppress(SpfUnusable):
        record = _Record(("a.test",), f"v=spf1 {text}")
        assert all(term.name for term in record.mechanisms)
