import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.units import Network
from relay.ingress.networks.guard import count_addresses, find_fault, find_objection

OLD = ["192.0.2.0/24", "2001:db8::/48"]


def read(blocks: list[str]) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, blocks))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (OLD, ""),
        (["192.0.2.0/26", "2001:db8::/50"], ""),  # a quarter
        (["192.0.2.0/27", "192.0.2.32/28", "2001:db8::/48"], "less than 1/4"),
        (["198.51.100.0/22", "2001:db8::/46"], ""),  # four times
        (
            ["198.51.100.0/22", "203.0.113.7", "2001:db8::/48"],
            "1,025 IPv4 addresses instead of 256",
        ),
        (["192.0.2.0/24", "2001:db8::/51"], "less than 1/4"),
        (["192.0.2.0/24", "2001:db8::/45"], "524,288 IPv6 networks of /64 instead of 65,536"),
        (["192.0.2.0/24"], "0 IPv6 networks of /64 instead of 65,536"),
        (["2001:db8::/48"], "0 IPv4 addresses instead of 256"),
        ([], "no networks at all"),
        # The same addresses in many words are not more of them.
        (["192.0.2.0/24", "192.0.2.0/25", "192.0.2.7", "2001:db8::/48", "2001:db8::/49"], ""),
    ],
)
def test_what_may_take_the_place_of_old_networks(new: list[str], said: str) -> None:
    found = find_objection(read(OLD), read(new))

    assert said in found
    assert bool(said) == bool(found)


def test_a_family_that_is_new_is_for_an_operator() -> None:
    assert "instead of 0" in find_objection(read(["192.0.2.0/24"]), read(OLD))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (["0.0.0.0/0"], "0.0.0.0/0 is too wide"),
        (["::/0"], "::/0 is too wide"),
        (["10.0.0.0/8", "2001:db8::/32"], ""),
        (["10.0.0.0/7"], "expected /8 or longer"),
        (["10.0.0.0/8", "11.0.0.0/8"], "10.0.0.0/7 is too wide"),  # in two halves
        (["2001:db8::/19".replace("db8", "0")], ""),
        (["2000::/18"], "expected /19 or longer"),
        ([], "no networks at all"),
    ],
)
def test_some_are_unfit_whatever_there_was(new: list[str], said: str) -> None:
    assert said in find_fault(read(new))
    assert said in find_objection((), read(new))
    assert bool(said) == bool(find_objection((), read(new)))
    assert bool(said) <= bool(find_objection(read(new), read(new)))


def test_parts_of_one_64_count_once() -> None:
    many = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:8000::/65", "2001:db8:0:1::/64"]

    assert count_addresses(read(many)) == {4: 0, 6: 2}


@given(st.integers(9, 32), st.integers(9, 32))
def test_the_factor_is_the_same_both_ways(old: int, new: int) -> None:
    before, after = read([f"0.0.0.0/{old}"]), read([f"0.0.0.0/{new}"])

    assert bool(find_objection(before, after)) == bool(find_objection(after, before))
    assert bool(find_objection(before, after)) == (abs(old - new) > 2)
