"""What receivers would make of SPF records, against a real name server."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Seconds
from relay.config.schema import Dns
from relay.net.resolver import Resolver
from tests.kit.nameserver import SERVFAIL, open_nameserver
from workers.doctor.spf import Verdict, _Broken, _read, evaluate

HOSTS: dict[str, Any] = {
    "mx.y.test": {"A": ["192.0.2.20"], "AAAA": ["2001:db8::20"]},
    "y.test": {"MX": ["10 mx.y.test."], "A": ["192.0.2.21"]},
    "null.test": {"MX": ["0 ."]},
    "wide.test": {"MX": [f"{n} mx.y.test." for n in range(1, 3)]},
    "many.test": {"MX": [f"{n} mx{n}.y.test." for n in range(1, 12)]},
    "broken.test": SERVFAIL,
    "down.test": SERVFAIL,
}


async def ask(records: dict[str, str | list[str]], address: str = "192.0.2.1") -> Verdict:
    """Evaluate the record of x.test."""
    zone = dict(HOSTS)
    for name, texts in records.items():
        several = [texts] if isinstance(texts, str) else texts
        zone[name] = zone.get(name, {}) | {"TXT": [f'"{text}"' for text in several]}
    async with open_nameserver(zone) as server:
        resolver = Resolver(Dns(nameservers=(server.endpoint,), timeout=Seconds(2)))
        return await evaluate(resolver, address, "x.test")


@pytest.mark.parametrize(
    ("record", "address", "result"),
    [
        ("v=spf1 ip4:192.0.2.1 -all", "192.0.2.1", "pass"),
        ("v=spf1 ip4:192.0.2.0/24 -all", "192.0.2.255", "pass"),
        ("V=SPF1 IP4:192.0.2.0/24 -ALL", "192.0.2.255", "pass"),
        ("v=spf1 +ip4:192.0.2.2 -all", "192.0.2.1", "fail"),
        ("v=spf1 ip4:192.0.2.2 ~all", "192.0.2.1", "softfail"),
        ("v=spf1 ip4:192.0.2.2 ?all", "192.0.2.1", "neutral"),
        ("v=spf1 ip4:192.0.2.2", "192.0.2.1", "neutral"),
        ("v=spf1", "192.0.2.1", "neutral"),
        ("v=spf1 +all", "192.0.2.1", "pass"),
        ("v=spf1 -ip4:192.0.2.1 ip4:192.0.2.0/24 -all", "192.0.2.1", "fail"),
        ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8::5", "pass"),
        ("v=spf1 ip6:2001:db8::/32 -all", "192.0.2.1", "fail"),
        ("v=spf1 ip4:192.0.2.0/24 -all", "2001:db8::5", "fail"),
        # a and mx, of the domain itself or of another, with prefixes for both families
        ("v=spf1 a:y.test -all", "192.0.2.21", "pass"),
        ("v=spf1 a:y.test -all", "192.0.2.22", "fail"),
        ("v=spf1 a:y.test/24 -all", "192.0.2.22", "pass"),
        ("v=spf1 mx:y.test -all", "192.0.2.20", "pass"),
        ("v=spf1 mx:y.test//64 -all", "2001:db8::99", "pass"),
        ("v=spf1 mx:y.test/24//128 -all", "2001:db8::99", "fail"),
        ("v=spf1 mx:y.test/24//128 -all", "192.0.2.99", "pass"),
        ("v=spf1 mx:null.test -all", "192.0.2.20", "fail"),
        ("v=spf1 a mx -all", "192.0.2.1", "fail"),
        # modifiers that nobody knows are passed over
        ("v=spf1 exp=why.test hello=world ip4:192.0.2.1 -all", "192.0.2.1", "pass"),
        # errors, wherever they stand
        ("v=spf1 ip4:192.0.2.1 ip5:1 -all", "192.0.2.1", "permerror"),
        ("v=spf1 ip4:192.0.2.1 -al l:", "192.0.2.1", "permerror"),
        ("v=spf1 ip4:192.0.2.300 -all", "192.0.2.1", "permerror"),
        ("v=spf1 ip4:192.0.2.0/255.255.255.0 -all", "192.0.2.1", "permerror"),
        ("v=spf1 a:y.test/33 -all", "192.0.2.1", "permerror"),
        ("v=spf1 include: -all", "192.0.2.1", "permerror"),
        ("v=spf1 include -all", "192.0.2.1", "permerror"),
        ("v=spf1 all:x -all", "192.0.2.1", "permerror"),
        ("v=spf1 redirect=y.test redirect=z.test", "192.0.2.1", "permerror"),
        ("v=spf1 include:nothing.test -all", "192.0.2.1", "permerror"),
        ("v=spf1 redirect=nothing.test", "192.0.2.1", "permerror"),
        ("v=spf1 mx:many.test -all", "192.0.2.1", "permerror"),
        ("v=spf1 a:one.test a:two.test a:three.test -all", "192.0.2.1", "permerror"),
        ("v=spf1 a:one.test a:two.test -all", "192.0.2.1", "fail"),
        # who does not answer
        ("v=spf1 a:broken.test -all", "192.0.2.1", "temperror"),
        ("v=spf1 include:broken.test -all", "192.0.2.1", "temperror"),
        ("v=spf1 ip4:192.0.2.1 include:broken.test -all", "192.0.2.1", "pass"),
        # what depends on the message
        ("v=spf1 exists:%{i}.y.test -all", "192.0.2.1", "unknown"),
        ("v=spf1 exists:y.test -all", "192.0.2.1", "unknown"),
        ("v=spf1 ptr -all", "192.0.2.1", "unknown"),
        ("v=spf1 include:%{d}.y.test -all", "192.0.2.1", "unknown"),
        ("v=spf1 redirect=%{d}.y.test", "192.0.2.1", "unknown"),
        ("v=spf1 ip4:192.0.2.1 exists:%{i}.y.test -all", "192.0.2.1", "pass"),
        ("v=spf1 exists:%{i}.y.test ip4:192.0.2.1 -all", "192.0.2.1", "pass"),
        ("v=spf1 -exists:%{i}.y.test ip4:192.0.2.1 -all", "192.0.2.1", "unknown"),
        ("v=spf1 -exists:%{i}.y.test -all", "192.0.2.1", "fail"),
    ],
)
async def test_a_record_of_its_own(record: str, address: str, result: str) -> None:
    verdict = await ask({"x.test": record}, address)

    assert verdict.result == result, verdict.text


@pytest.mark.parametrize(
    ("records", "result", "text"),
    [
        ({}, "none", "x.test has no SPF record"),
        ({"x.test": ["other", "v=spf10 -all"]}, "none", "x.test has no SPF record"),
        ({"x.test": ["v=spf1 -all", "v=spf1 +all"]}, "permerror", "2 SPF records"),
        (
            {"x.test": "v=spf1 include:i.test -all", "i.test": "v=spf1 ip4:192.0.2.1 -all"},
            "pass",
            "include:i.test of x.test",
        ),
        (
            {"x.test": "v=spf1 ~include:i.test -all", "i.test": "v=spf1 ip4:192.0.2.1 -all"},
            "softfail",
            "include:i.test of x.test",
        ),
        (
            {"x.test": "v=spf1 include:i.test ?all", "i.test": "v=spf1 -all"},
            "neutral",
            "?all of x.test",
        ),
        (
            {"x.test": "v=spf1 include:i.test -all", "i.test": "v=spf1 ip4:nonsense"},
            "permerror",
            "i.test (by way of x.test): ip4:nonsense: expected a network",
        ),
        (
            {"x.test": "v=spf1 include:i.test -all", "i.test": "v=spf1 exists:%{i}.z.test -all"},
            "unknown",
            "exists:%{i}.z.test of i.test has a macro",
        ),
        (
            {"x.test": "v=spf1 redirect=i.test", "i.test": "v=spf1 ip4:192.0.2.1 -all"},
            "pass",
            "ip4:192.0.2.1 of i.test",
        ),
        (
            {"x.test": "v=spf1 redirect=i.test ~all", "i.test": "v=spf1 ip4:192.0.2.1 -all"},
            "softfail",
            "~all of x.test",
        ),
        ({"x.test": "v=spf1 include:x.test -all"}, "permerror", "more than 10 look-ups"),
    ],
)
async def test_several_records(records: dict[str, str | list[str]], result: str, text: str) -> None:
    verdict = await ask(records)

    assert verdict.result == result
    assert text in verdict.text


@pytest.mark.parametrize(("count", "result"), [(10, "pass"), (11, "permerror")])
async def test_ten_look_ups_over_all_records_are_the_most(count: int, result: str) -> None:
    """Two includes, and what they ask for, count together."""
    asked = " ".join(["a:y.test"] * (count - 2))
    records: dict[str, str | list[str]] = {
        "x.test": "v=spf1 include:i.test include:j.test -all",
        "i.test": f"v=spf1 {asked} -all",
        "j.test": "v=spf1 ip4:192.0.2.1 -all",
    }

    assert (await ask(records)).result == result


_WORDS = st.sampled_from(
    [
        *[
            "a",
            "mx",
            "ip4",
            "ip6",
            "include",
            "all",
            "ptr",
            "exists",
            "redirect=",
            "-",
            "+",
            "~",
            "?",
            ":",
            "/",
            "//",
            "24",
            "64",
            "y.test",
            "=",
            "x",
        ],
        *("192.0.2.1", "2001:db8::1", "%{i}", "%", " "),
    ]
)


@given(st.one_of(st.lists(_WORDS, max_size=20).map("".join), st.text(max_size=60)))
def test_whatever_stands_in_a_record_is_read_or_broken(text: str) -> None:
    record = None
    with contextlib.suppress(_Broken):
        record = _read(("x.test",), f"v=spf1 {text}")

    if record is not None:
        assert all(term.name for term in record.terms)
        assert not (record.redirect and any(term.name == "all" for term in record.terms))
