"""What is prohibited stays so in every form; nothing else is."""

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.schema import PROHIBITED
from workers.prohibited import Prohibited

DEFAULT = Prohibited(PROHIBITED)

FORMS: dict[str, Callable[[int], int]] = {
    "mapped": lambda v4: 0xFFFF << 32 | v4,
    "compatible": lambda v4: v4,
    "translated": lambda v4: 0xFFFF << 48 | v4,
    "NAT64": lambda v4: 0x64FF9B << 96 | v4,
    "local NAT64": lambda v4: 0x64FF9B0001 << 80 | v4,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 0x1234,
}
numbers = st.integers(0, 2**32 - 1)
beyond = st.integers(0x2003 << 112, 2**128 - 1)  # IPv6 that stands for no IPv4 address
addresses = st.ip_addresses().map(str)


def write(form: str, v4: str) -> str:
    return str(ipaddress.IPv6Address(FORMS[form](int(ipaddress.IPv4Address(v4)))))


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.255.255"),
        *("192.168.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "febf::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::1"),
    ],
)  # fmt: skip
def test_no_host_of_the_internet_by_default(address: str) -> None:
    assert DEFAULT.covers_address(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.0.0.1"),
        *("128.0.0.1", "172.15.255.255", "172.32.0.0", "192.167.255.255", "223.255.255.255"),
        *("2001:db8::1", "2606:4700::1", "fbff::1", "fec0::1", "64:ff9b::1.1.1.1"),
        *("64:ff9b:2::10.0.0.1", "2002:101:101::a00:1", "2003:a00:1::1", "::1:10.0.0.1"),
    ],
)
def test_the_rest_by_default_is_free(address: str) -> None:
    assert not DEFAULT.covers_address(address)


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("mx.example.org", True),
        ("a.mx.example.org", False),
        ("bad.example", False),
        ("mx.bad.example", True),
        ("a.b.bad.example", True),
        ("notbad.example", False),
        ("192.0.2.1", False),
    ],
)
def test_names_are_matched_as_elsewhere(name: str, *, covered: bool) -> None:
    prohibited = Prohibited(["mx.example.org", "*.bad.example", "192.0.2.1"])
    assert prohibited.covers_name(name) is covered


def test_the_star_covers_every_name_and_no_address() -> None:
    everything = Prohibited(["*"])
    assert everything.covers_name("mx.example.org")
    assert not everything.covers_address("192.0.2.1")


def test_nothing_is_covered_where_nothing_is_listed() -> None:
    nothing = Prohibited([])
    assert not nothing.covers_address("127.0.0.1")
    assert not nothing.covers_name("localhost")


def test_an_address_is_a_network_of_one() -> None:
    prohibited = Prohibited(["192.0.2.7", "2001:db8::7", "198.51.100.0/24"])
    covered = {"192.0.2.7", "2001:db8::7", "2001:DB8:0::7", "198.51.100.255"}
    assert {one for one in covered if prohibited.covers_address(one)} == covered
    assert not any(map(prohibited.covers_address, ("192.0.2.6", "192.0.2.8", "2001:db8::8")))


@pytest.mark.parametrize("text", ["", "mx.example.org", "127.1", "0x7f000001", "10.0.0.1/32"])
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        DEFAULT.covers_address(text)


@pytest.mark.parametrize("form", FORMS)
@given(number=numbers, length=st.integers(0, 32), other=numbers)
def test_a_form_is_covered_as_the_address_itself(
    form: str, number: int, length: int, other: int
) -> None:
    network = ipaddress.ip_network((number, length), strict=False)
    prohibited = Prohibited([str(network)])
    for one in (number, other):
        v4 = str(ipaddress.IPv4Address(one))
        covered = ipaddress.ip_address(v4) in network
        assert prohibited.covers_address(v4) is covered
        assert prohibited.covers_address(write(form, v4)) is covered


@given(
    networks=st.lists(
        st.one_of(st.tuples(numbers, st.integers(0, 32)), st.tuples(beyond, st.integers(3, 128))),
        max_size=5,
    ),
    number=st.one_of(numbers, beyond),
)
def test_it_agrees_with_one_network_after_the_other(
    networks: list[tuple[int, int]], number: int
) -> None:
    listed = [ipaddress.ip_network(one, strict=False) for one in networks]
    ip = ipaddress.ip_address(number)
    covered = any(ip in network for network in listed)
    assert Prohibited(map(str, listed)).covers_address(str(ip)) is covered


@given(address=addresses)
def test_an_address_prohibits_itself(address: str) -> None:
    assert Prohibited([address]).covers_address(address)
