"""What a domain publishes about TLS with its hosts, read: records and policies."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tls.sts import StsInvalid, StsPolicy, parse_policy, parse_record

# -- records


@pytest.mark.parametrize(
    ("txts", "ident"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1 ;\tid=1 ; "], "1"),
        ([b"v=STSv1; new_field.x-1=a:b!; id=1;"], "1"),
        ([b"v=STSv1; id=1; id=2"], "1"),
        ([b"v=spf1 -all", b"v=STSv1; id=1", b""], "1"),
        ([b"v=STSv10; id=3", b"v=STSv1; id=1"], "1"),
        ([], None),
        ([b"v=STSv1; id=1", b"v=STSv1; id=1"], None),
        ([b"v=STSv1; id=1", b"v=STSv1; nonsense"], None),
        ([b"v=stsv1; id=1"], None),
        ([b" v=STSv1; id=1"], None),
        ([b"id=1; v=STSv1"], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=a b"], None),
        ([b"v=STSv1; ID=1"], None),
        ([b"v=STSv1; id=" + b"9" * 33], None),
        ([b"v=STSv1; id=1;; x=y"], None),
        ([b"v=STSv1; id=1; junk"], None),
        ([b"v=STSv1; id=1; x=\xff"], None),
    ],
)
def test_record(txts: list[bytes], ident: str | None) -> None:
    assert parse_record(txts) == ident


@given(st.lists(st.binary() | st.binary().map(b"v=STSv1; id=".__add__), max_size=3))
def test_record_of_anything_is_an_id_or_none(txts: list[bytes]) -> None:
    ident = parse_record(txts)
    assert ident is None or re.fullmatch("[A-Za-z0-9]{1,32}", ident)


# -- policies


def make_text(mode: str = "enforce", *mx: str, max_age: object = 604800, end: str = "\r\n") -> str:
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {one}" for one in mx)]
    return "".join(line + end for line in [*lines, f"max_age: {max_age}"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " \t\r\n"])
def test_policy_is_read_with_any_line_ending(end: str) -> None:
    text = make_text("enforce", "mail.a.test", "*.B.test", "mail.a.test", end=end)

    assert parse_policy(text.encode(), "7") == StsPolicy(
        "7", "enforce", ("mail.a.test", "*.b.test"), 604800
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # In any order, without blanks, without a line end behind the last.
        ("max_age:5\nmx:m.test\nmode:testing\nversion:STSv1", ("testing", ("m.test",), 5)),
        ("version: STSv1\nmode: none\nmax_age: 0\n", ("none", (), 0)),
        (make_text("none", "m.test"), ("none", ("m.test",), 604800)),
        (make_text("enforce", "m.test") + "flavour: \xfc:sweet\n", ("enforce", ("m.test",), 604800)),
        (make_text("enforce", "m.test") + "mode: none\nmax_age: x\n", ("enforce", ("m.test",), 604800)),
        (make_text("enforce", "m.test", max_age=31557600), ("enforce", ("m.test",), 31557600)),
        (make_text("enforce", "m.test", max_age=9999999999), ("enforce", ("m.test",), 31557600)),
        (make_text("enforce", "localhost", "m_x.xn--bcher-kva.test"),
         ("enforce", ("localhost", "m_x.xn--bcher-kva.test"), 604800)),
    ],
)  # fmt: skip
def test_policy(text: str, expected: tuple[str, tuple[str, ...], int]) -> None:
    policy = parse_policy(text.encode("utf-8"))

    assert (policy.mode, policy.mx, policy.max_age) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "version is missing"),
        ("<html><body>Not here</body></html>", "expected NAME: VALUE"),
        (make_text("enforce", "m.test").replace("STSv1", "STSv2"), "version is 'STSv2'"),
        (make_text("enforce", "m.test").replace("version", "Version"), "version is missing"),
        (make_text("Enforce", "m.test"), "mode is 'Enforce'"),
        (make_text("", "m.test"), "mode is ''"),
        (make_text("enforce"), "has no mx"),
        (make_text("testing"), "has no mx"),
        (make_text("enforce", "m.test", max_age=""), "max_age is ''"),
        (make_text("enforce", "m.test", max_age="-1"), "max_age is '-1'"),
        (make_text("enforce", "m.test", max_age="1.5"), "max_age is"),
        (make_text("enforce", "m.test", max_age="\u0661"), "max_age is"),
        (make_text("enforce", "m.test", max_age="1" * 11), "max_age is"),
        ("version: STSv1\nmode: none\n", "max_age is missing"),
        (make_text("enforce", ""), "mx is ''"),
        (make_text("enforce", "*"), "expected a host name"),
        (make_text("enforce", "*.*.test"), "expected a host name"),
        (make_text("enforce", "a.*.test"), "expected a host name"),
        (make_text("enforce", ".a.test"), "expected a host name"),
        (make_text("enforce", "a..test"), "expected a host name"),
        (make_text("enforce", "m.test."), "expected a host name"),
        (make_text("enforce", "bücher.test"), "expected a host name"),
        (make_text("enforce", "\u212a.test"), "expected a host name"),
        (make_text("enforce", "x" * 64 + ".test"), "expected a host name"),
        (make_text("enforce", "a." * 130 + "test"), "expected a host name"),
        (make_text("enforce", "m.test m2.test"), "expected a host name"),
        (make_text("enforce", "m.test").replace("\r\n", "\r"), "version is"),
        (make_text("enforce", *(f"m{n}.test" for n in range(101))), "101 lines of mx"),
        (make_text("enforce", "m.test") + "\n" * 1000, "more than 1000 lines"),
        (make_text("enforce", "m.test") + "x: " + "y" * 65536, "too long"),
    ],
)  # fmt: skip
def test_what_is_not_a_policy(text: str, why: str) -> None:
    with pytest.raises(StsInvalid, match=re.escape(why)) as caught:
        parse_policy(text.encode("utf-8"))
    assert caught.value.failing == "sts-policy-invalid"
    assert len(str(caught.value)) < 600


@given(st.binary(max_size=500) | st.text().map(lambda s: (make_text("none") + s).encode()))
def test_policy_of_anything_is_a_policy_or_invalid(octets: bytes) -> None:
    try:
        policy = parse_policy(octets)
    except StsInvalid:
        return
    assert parse_policy(policy.text.encode()) == policy


_LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
_HOSTS = st.lists(_LABELS, min_size=1, max_size=4).map(".".join)


@given(st.lists(_HOSTS | _HOSTS.map("*.".__add__), min_size=1, max_size=5), _HOSTS, _LABELS)
def test_wildcard_stands_for_one_label(patterns: list[str], host: str, label: str) -> None:
    policy = parse_policy(make_text("enforce", *patterns).encode())

    assert policy.matches(host) == (host in patterns or f"*.{host.partition('.')[2]}" in patterns)
    for pattern in patterns:
        if pattern.startswith("*."):
            assert policy.matches(f"{label}.{pattern[2:]}")
        else:
            assert policy.matches(pattern.upper() + ".")
    assert parse_policy(policy.text.encode()) == policy


@pytest.mark.parametrize(
    ("host", "matches"),
    [
        ("mail.a.test", True), ("MAIL.A.test.", True), ("x.b.test", True), ("b.test", False),
        ("x.y.b.test", False), ("xb.test", False), ("mail.a.test.evil.test", False), ("", False),
        ("*.b.test", True), (".b.test", True),  # no host has such a name: the DNS' look-up says so
    ],
)  # fmt: skip
def test_matching(host: str, *, matches: bool) -> None:
    policy = parse_policy(make_text("enforce", "mail.a.test", "*.b.test").encode())

    assert policy.matches(host) is matches
