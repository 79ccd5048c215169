import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.units import Network
from relay.ingress.networks.blocks import Blocks, merge, take_out


def read(*blocks: str) -> list[Network]:
    return [ipaddress.ip_network(block) for block in blocks]


# Few addresses, so that networks meet.
v4 = st.builds(
    lambda number, length: ipaddress.IPv4Network(
        (number >> (32 - length) << (32 - length), length)
    ),
    st.integers(0x0A000000, 0x0A0000FF),
    st.integers(24, 32),
)
v6 = st.builds(
    lambda number, length: ipaddress.IPv6Network(
        (number >> (128 - length) << (128 - length), length)
    ),
    st.integers(0x20010DB8 << 96, (0x20010DB8 << 96) + 255),
    st.integers(120, 128),
)
networks = st.lists(v4 | v6, max_size=6)
addresses = st.one_of(
    st.integers(0x09FFFFF0, 0x0A00010F).map(ipaddress.IPv4Address),
    st.integers((0x20010DB8 << 96) - 16, (0x20010DB8 << 96) + 271).map(ipaddress.IPv6Address),
)


@given(networks, st.lists(addresses, max_size=20))
def test_blocks_hold_what_the_networks_hold(
    found: list[Network], asked: list[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> None:
    blocks, merged = Blocks(found), merge(found)

    for address in asked:
        inside = any(address in network for network in found)
        assert (address in blocks) == inside
        assert any(address in network for network in merged) == inside


@given(networks, networks, st.lists(addresses, max_size=20))
def test_what_is_taken_out_is_not_there(
    found: list[Network],
    taken: list[Network],
    asked: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> None:
    left = take_out(found, taken)

    for address in asked:
        inside = any(address in n for n in found) and not any(address in n for n in taken)
        assert any(address in network for network in left) == inside


@given(networks)
def test_the_shortest_form_is_one(found: list[Network]) -> None:
    assert merge(merge(found)) == merge(found) == merge(reversed(found))


def test_two_halves_are_the_whole() -> None:
    assert list(merge(read("192.0.2.128/25", "2001:db8::/32", "192.0.2.0/25"))) == read(
        "192.0.2.0/24", "2001:db8::/32"
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "255.255.255.255"])
def test_no_networks_hold_nothing(address: str) -> None:
    assert ipaddress.ip_address(address) not in Blocks([])


def test_many_networks_are_searched_quickly() -> None:
    many = [ipaddress.IPv4Network((n << 9, 24)) for n in range(10_000)]
    blocks, asked = Blocks(many), ipaddress.ip_address("203.0.113.9")

    started = time.process_time()
    for _ in range(1000):
        assert asked not in blocks
    assert time.process_time() - started < 0.5  # one by one: seconds
