"""Who demands what: zone, policy, operator, sender; strongest first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.config import Seconds
from relay.config.schema import Dns, TlsLevel
from relay.net.resolver import Found, Resolver, Tlsa
from tests.kit.nameserver import SERVFAIL, open_nameserver
from workers.tls.demand import Demands, Unfit, Wish, demand
from workers.tls.guard import OPPORTUNISTIC, Guard
from workers.tls.sts import parse_policy

DIGEST = "0a" * 32
EE = Tlsa(3, 1, 1, bytes.fromhex(DIGEST))
ZONE: dict[str, Any] = {
    "_25._tcp.mx.test": {"TLSA": [f"3 1 1 {DIGEST}", f"1 1 1 {DIGEST}"]},
    "_25._tcp.useless.test": {"TLSA": [f"1 1 1 {DIGEST}"]},
    "_25._tcp.broken.test": SERVFAIL,
    "_26._tcp.other.test": {"TLSA": [f"3 1 1 {DIGEST}"]},
    "plain.test": {"A": ["192.0.2.1"]},
    "mx.test": {"CNAME": ["plain.test."]},
    "useless.test": {"CNAME": ["plain.test."]},
}
VERIFIED = Guard("dane", "verify", ("mx.test", "y.test"), (EE,))


def make_policy(mode: str) -> Any:
    text = f"version: STSv1\nmode: {mode}\nmx: mx.test\nmx: *.test\nmax_age: 86400\n"
    return parse_policy(text.replace("mx: *.test\n", "").encode(), "1")


@asynccontextmanager
async def open_resolver(*, authentic: bool = True) -> AsyncIterator[Resolver]:
    async with open_nameserver(ZONE, authentic=authentic) as server:
        yield Resolver(Dns(nameservers=(server.endpoint,), timeout=Seconds(2)))


async def decide(
    name: str = "mx.test",
    level: TlsLevel = "opportunistic",
    *,
    asked: str = "",
    sts: str = "",
    mx_secure: bool = True,
    secure: bool = True,
    authentic: bool = True,
    canonical: str = "",
    port: int = 25,
    dane: bool = True,
) -> Guard | Unfit:
    policy = make_policy(sts) if sts else None
    wish = Wish("y.test", level, asked, mx_secure, policy)
    hosts = {name: Found(("192.0.2.1",), secure, canonical or name)}
    async with open_resolver(authentic=authentic) as resolver:
        made = await demand(wish, hosts, {name: port}, resolver=resolver if dane else None)
    return made.guards.get(name) or made.unfit[name]


@pytest.mark.parametrize(
    ("case", "guard"),
    [
        ({}, VERIFIED),
        # RFC 7672 §2.2.1: every link of the chain must be validated.
        ({"mx_secure": False}, OPPORTUNISTIC),
        ({"secure": False}, OPPORTUNISTIC),
        ({"authentic": False}, OPPORTUNISTIC),
        ({"dane": False}, OPPORTUNISTIC),
        ({"name": "plain.test"}, OPPORTUNISTIC),
        ({"name": "useless.test"}, Guard("dane", "require", ("useless.test",))),
        # The port is a part of the name; aliases are asked for under both of their names.
        ({"port": 26}, OPPORTUNISTIC),
        (
            {"name": "alias.test", "canonical": "mx.test"},
            Guard("dane", "verify", ("mx.test", "alias.test", "y.test"), (EE,)),
        ),
        (
            {"name": "mx.test", "canonical": "plain.test"},
            Guard("dane", "verify", ("mx.test", "y.test"), (EE,)),
        ),
        # RFC 7672 §2.2.2: an alias that is secure, and leads to where nothing is.
        ({"canonical": "plain.test", "secure": False}, VERIFIED),
        ({"canonical": "plain.test", "secure": False, "mx_secure": False}, OPPORTUNISTIC),
        ({"canonical": "plain.test", "secure": False, "authentic": False}, OPPORTUNISTIC),
        (
            {"name": "useless.test", "canonical": "mx.test", "secure": False},
            Guard("dane", "require", ("useless.test",)),
        ),
        # DANE goes before MTA-STS and before the site (RFC 8461 §2).
        ({"sts": "enforce"}, VERIFIED),
        ({"level": "verify"}, VERIFIED),
        ({"level": "require"}, VERIFIED),
        ({"level": "none"}, Guard("none", "none")),
    ],
)
async def test_the_zone(case: dict[str, Any], guard: Guard) -> None:
    assert await decide(**case) == guard


@pytest.mark.parametrize("sts", ["", "enforce", "testing"])
async def test_a_host_whose_records_cannot_be_had_is_left_out(sts: str) -> None:
    unfit = await decide("broken.test", sts=sts)
    assert isinstance(unfit, Unfit)
    assert (unfit.failing, unfit.status) == ("dnssec-invalid", "4.7.5")
    # So it is when nobody can say whether it is an alias.
    unfit = await decide("_25._tcp.broken.test", secure=False, canonical="mx.test")
    assert isinstance(unfit, Unfit)
    # Where nothing is secure the records are not even asked for.
    assert isinstance(await decide("broken.test", secure=False), Guard)


@pytest.mark.parametrize(
    ("case", "guard"),
    [
        ({"sts": "enforce"}, Guard("sts", "verify")),
        ({"sts": "enforce", "level": "require"}, Guard("sts", "verify")),
        ({"sts": "enforce", "level": "none"}, Guard("none", "none")),
        ({"sts": "testing"}, Guard("opportunistic", "opportunistic", tested="named")),
        ({"sts": "testing", "level": "require"}, Guard("site", "require", tested="named")),
        (
            {"sts": "testing", "name": "plain.test"},
            Guard("opportunistic", "opportunistic", tested="unnamed"),
        ),
        ({"sts": "none"}, OPPORTUNISTIC),
        ({"level": "require"}, Guard("site", "require")),
        ({"level": "verify"}, Guard("site", "verify")),
        ({}, OPPORTUNISTIC),
    ],
)
async def test_policy_and_site_where_the_zone_says_nothing(
    case: dict[str, Any], guard: Guard
) -> None:
    assert await decide(**case, dane=False) == guard


async def test_a_host_that_the_policy_does_not_name_is_left_out() -> None:
    unfit = await decide("plain.test", sts="enforce", dane=False)
    assert isinstance(unfit, Unfit)
    assert unfit.failing == "validation-failure"
    assert "plain.test is not in the MTA-STS policy of y.test" in unfit.text


@pytest.mark.parametrize(
    ("case", "guard"),
    [
        ({}, OPPORTUNISTIC),
        ({"name": "broken.test"}, OPPORTUNISTIC),
        ({"name": "plain.test", "sts": "enforce"}, OPPORTUNISTIC),
        # What the operator has configured is not the receiver's policy.
        ({"level": "verify"}, Guard("site", "verify")),
    ],
)
async def test_a_message_can_ask_that_delivery_goes_before_tls(
    case: dict[str, Any], guard: Guard
) -> None:
    assert await decide(**{"asked": "optional"} | case) == guard


@pytest.mark.parametrize(
    ("case", "guard"),
    [
        ({}, Guard("dane", "verify", ("mx.test", "y.test"), (EE,), requiretls=True)),
        ({"dane": False, "sts": "enforce"}, Guard("sts", "verify", requiretls=True)),
        ({"dane": False}, Guard("requiretls", "verify", requiretls=True)),
        ({"name": "useless.test"}, Guard("requiretls", "verify", requiretls=True)),
        ({"level": "none", "dane": False}, Guard("requiretls", "verify", requiretls=True)),
    ],
)
async def test_a_message_can_demand_verified_tls(case: dict[str, Any], guard: Guard) -> None:
    assert await decide(**case, asked="required") == guard


@pytest.mark.parametrize("sts", ["", "testing"])
async def test_what_nobody_vouches_for_is_not_enough_for_requiretls(sts: str) -> None:
    unfit = await decide(asked="required", mx_secure=False, sts=sts)
    assert isinstance(unfit, Unfit)
    assert unfit.status == "5.7.30"


@pytest.mark.parametrize(
    ("case", "guard"),
    [
        # What the receiver says about its certificates goes first ...
        ({}, VERIFIED),
        ({"dane": False, "sts": "enforce"}, Guard("sts", "verify")),
        # ... and where it says nothing of use, the authorities decide; whatever the site says.
        ({"name": "useless.test"}, Guard("rule", "verify")),
        ({"name": "plain.test"}, Guard("rule", "verify")),
        ({"name": "plain.test", "level": "none"}, Guard("rule", "verify")),
        ({"name": "plain.test", "level": "require", "mx_secure": False}, Guard("rule", "verify")),
        ({"dane": False, "sts": "testing"}, Guard("rule", "verify")),
    ],
)
async def test_a_rule_can_demand_verified_tls(case: dict[str, Any], guard: Guard) -> None:
    assert await decide(**case, asked="verified") == guard


def test_sessions_for_other_demands_have_other_names() -> None:
    guards = [
        OPPORTUNISTIC,
        Guard("none", "none"),
        Guard("site", "require"),
        Guard("site", "verify"),
        Guard("rule", "verify"),
        Guard("sts", "verify"),
        Guard("sts", "verify", requiretls=True),
        Guard("opportunistic", "opportunistic", tested="named"),
        Guard("opportunistic", "opportunistic", tested="unnamed"),
        Guard("dane", "require", ("mx.test",)),
        VERIFIED,
        Guard("dane", "verify", ("mx.test", "y.test"), (EE._replace(data=b"x" * 32),)),
    ]
    labels = [Demands({"mx.test": guard}).label for guard in guards]
    assert len(set(labels)) == len(guards)
    two = {"a.test": VERIFIED, "b.test": OPPORTUNISTIC}
    assert Demands(two).label == Demands(dict(reversed(two.items()))).label


def test_hosts_of_many_domains_share_sessions_unless_a_name_counts() -> None:
    """Usage 2 lets a certificate bear the recipient domain's name: that proves nothing for others."""

    def label(record: Tlsa, domain: str) -> str:
        return Demands({"mx.test": Guard("dane", "verify", ("mx.test", domain), (record,))}).label

    anchor = EE._replace(usage=2)
    assert label(EE, "y.test") == label(EE, "z.test")
    assert label(anchor, "y.test") != label(anchor, "z.test")
