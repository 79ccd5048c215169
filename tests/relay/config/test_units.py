import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.units import (
    Endpoint,
    Rate,
    Rates,
    Seconds,
    parse_endpoint,
    parse_network,
    parse_octets,
    parse_proxy,
    parse_rate,
    parse_rates,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("1.5m", 90),
        ("4h", 14_400),
        ("5d", 432_000),
        (" 5 d ", 432_000),
        (7, 7),
        (0.5, 0.5),
        (0, 0),
    ],
)
def test_duration_is_read(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "-1s",
        "1w",
        "5 m in",
        "s",
        -1,
        True,
        None,
        [],
        "1e3s",
        math.inf,
        math.nan,
        "9" * 400 + "s",
    ],
)
def test_duration_of_another_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match='expected a duration such as "30s"'):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [(1048576, 1048576), ("100", 100), ("100B", 100), ("64KiB", 65_536), ("50MiB", 50 << 20), ("1 GiB", 1 << 30)],
)  # fmt: skip
def test_size_is_read(text: object, octets: int) -> None:
    assert parse_octets(text) == octets


@pytest.mark.parametrize("text", ["", "5MB", "1.5MiB", "-1", -1, 1.5, True, "MiB", "9" * 5000])
def test_size_of_another_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected a size such as 1048576"):
        parse_octets(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/s", Rate(100, 1)), ("500/m", Rate(500, 60)), ("7 / h", Rate(7, 3600)), ("20000/d", Rate(20_000, 86_400)),
     ("100/s burst 7", Rate(100, 1, 7)), ("30/m  burst  1", Rate(30, 60, 1))],
)  # fmt: skip
def test_rate_is_read(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "0/s",
        "100",
        "100/w",
        "1.5/s",
        "/s",
        "-1/s",
        100,
        None,
        [],
        "1/s burst",
        "1/s burst 0",
        "1/sburst 2",
        "1/s burst -1",
        "1234567890/s",
    ],
)
def test_rate_of_another_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match='expected a rate such as "100/s"'):
        parse_rate(text)


@pytest.mark.parametrize("text", ["100/h burst 5", "20000/d burst 1"])
def test_sum_has_no_burst(text: str) -> None:
    # It may be used up at any time: a burst would be a promise that nobody keeps.
    with pytest.raises(ValueError, match="expected a burst only with a rate by the second"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "burst", "cap"),
    [("1/s", 1, False), ("100/s", 20, False), ("200/s burst 3", 3, False), ("600/m", 2, False),
     ("10/m", 1, False), ("3600/h", 1, True), ("20000/d", 1, True)],
)  # fmt: skip
def test_burst_is_a_fifth_of_a_second_unless_said(text: str, burst: int, cap: bool) -> None:
    rate = parse_rate(text)

    assert (rate.burst, rate.is_cap) == (burst, cap)


_RATES = st.builds(
    lambda count, unit, burst: f"{count}/{unit}" + (f" burst {burst}" if unit in "sm" else ""),
    st.integers(1, 10**9 - 1),
    st.sampled_from("smhd"),
    st.integers(1, 10**9 - 1),
)


@given(_RATES)
def test_rate_is_written_as_it_is_read(text: str) -> None:
    assert repr(parse_rate(text)) == text
    assert parse_rate(repr(parse_rate(text))) == parse_rate(text)


@pytest.mark.parametrize(
    ("value", "windows"),
    [
        ("5/s", (Rate(5, 1),)),
        (["5/s"], (Rate(5, 1),)),
        (["20000/d", "200/s", "5000/m burst 9"], (Rate(200, 1), Rate(5000, 60, 9), Rate(20_000, 86_400))),
    ],
)  # fmt: skip
def test_rates_are_read_shortest_first(value: object, windows: tuple[Rate, ...]) -> None:
    assert parse_rates(value).windows == windows


@pytest.mark.parametrize(
    "value", [[], ["1/s", "2/s"], ["1/s", "1/s burst 2"], [["1/s"]], "", 1, ["1/s", 1]]
)
def test_rates_of_another_form_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^expected (a rate such as|at least one rate)"):
        parse_rates(value)


def test_order_of_rates_is_no_difference() -> None:
    assert parse_rates(["1/s", "2/d"]) == parse_rates(["2/d", "1/s"])
    assert len({parse_rates("1/s"), parse_rates(["1/s"]), parse_rates("1/s burst 2")}) == 2
    assert repr(Rates((Rate(2, 86_400), Rate(1, 1)))) == "1/s burst 1, 2/d"


_TOML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_PARSERS = [parse_seconds, parse_octets, parse_rate, parse_rates, parse_endpoint]


@pytest.mark.parametrize("parse", _PARSERS)
@given(
    value=_TOML | st.from_regex(r"[0-9.]{1,20} ?/? ?[A-Za-z]{0,3}( burst [0-9]+)?|[0-9a-f:.\[\]]+")
)
def test_whatever_toml_delivers_is_read_or_refused(
    parse: Callable[[object], object], value: object
) -> None:
    try:
        found = parse(value)
    except ValueError as error:
        found = str(error)

    assert not isinstance(found, str) or found.startswith("expected ")
    assert not isinstance(found, Seconds) or 0 <= found < math.inf


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("socks5://192.0.2.1:1080", ("socks5", "", Endpoint("192.0.2.1", 1080))),
        ("socks5://me@p.example:1080", ("socks5", "me", Endpoint("p.example", 1080))),
        ("socks5://me@acme.example@[2001:db8::1]:1", ("socks5", "me@acme.example", Endpoint("2001:db8::1", 1))),
        ("haproxy://p.example:65535", ("haproxy", "", Endpoint("p.example", 65_535))),
    ],
)  # fmt: skip
def test_proxy_is_read(text: str, proxy: object) -> None:
    assert parse_proxy(text) == proxy


@pytest.mark.parametrize(
    "text",
    ["", "p.example:1080", "socks5://p.example", "socks5://:1080", "socks5://@p.example:1080",
     "socks5://me:secret@p.example:1080", "socks5:p.example:1080", "socks4://p.example:1080",
     "haproxy://me@p.example:1080", "socks5://p.example:0", "socks5://p.example:1080/",
     "socks5://" + "m" * 256 + "@p.example:1080", " socks5://p.example:1080", "SOCKS5://p.example:1"],
)  # fmt: skip
def test_proxy_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='expected "socks5://HOST:PORT"') as caught:
        parse_proxy(text)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:2525", Endpoint("127.0.0.1", 2525)),
        ("[::1]:25", Endpoint("::1", 25)),
        ("mx.example.org:25", Endpoint("mx.example.org", 25)),
        ("localhost:65535", Endpoint("localhost", 65_535)),
    ],
)
def test_endpoint_is_read_and_written_alike(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert repr(endpoint) == text


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", ":25", "::1:25", "[::1]", "a:b", "a:65536", "a b:25", 25]
)
def test_endpoint_of_another_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match='expected "HOST:PORT"'):
        parse_endpoint(text)


def test_equal_units_are_one_key() -> None:
    assert len({Rate(1, 60), Rate(1, 60), Rate(60, 3600)}) == 2
    assert len({Endpoint("a", 1), Endpoint("a", 1), Endpoint("a", 2)}) == 2


def test_address_is_a_network_of_one() -> None:
    assert parse_network("192.0.2.1").num_addresses == 1


@pytest.mark.parametrize("text", ["192.0.2.1/24", "acme.example", "", "192.0.2.0/33"])
def test_network_of_another_form_is_refused(text: str) -> None:
    # 192.0.2.1/24 has host bits set: did they mean one address or 256?
    with pytest.raises(ValueError, match='expected "google" or a network'):
        parse_network(text)
