import pytest

from relay.config.units import (
    Endpoint,
    Rate,
    parse_endpoint,
    parse_network,
    parse_octets,
    parse_rate,
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


@pytest.mark.parametrize("text", ["", "5", "-1s", "1w", "5 m in", "s", -1, True, None, [], "1e3s"])
def test_duration_of_another_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match='expected a duration such as "30s"'):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [(1048576, 1048576), ("100", 100), ("100B", 100), ("64KiB", 65_536), ("50MiB", 50 << 20), ("1 GiB", 1 << 30)],
)  # fmt: skip
def test_size_is_read(text: object, octets: int) -> None:
    assert parse_octets(text) == octets


@pytest.mark.parametrize("text", ["", "5MB", "1.5MiB", "-1", -1, 1.5, True, "MiB"])
def test_size_of_another_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected a size such as 1048576"):
        parse_octets(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/s", Rate(100, 1)), ("500/m", Rate(500, 60)), ("7 / h", Rate(7, 3600)), ("20000/d", Rate(20_000, 86_400))],
)  # fmt: skip
def test_rate_is_read(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["0/s", "100", "100/w", "1.5/s", "/s", "-1/s", 100, None])
def test_rate_of_another_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match='expected a rate such as "100/s"'):
        parse_rate(text)


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
