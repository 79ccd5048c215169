import ipaddress
from pathlib import Path
from typing import Any

import pytest

from relay.config import Config, read
from relay.config.tenants import BUILT_IN
from relay.ingress.networks.blocks import merge
from relay.ingress.networks.definition import (
    Seeds,
    find_networks,
    list_definitions,
    list_used,
)
from relay.ingress.networks.guard import find_fault


def make_config(base: Path, *names: str, network: list[dict[str, Any]] | None = None) -> Config:
    tenant = {"name": "acme", "domains": ["acme.example"], "networks": list(names)}
    return read({"tenant": [tenant], "network": network or []}, base=base, environment={})


def test_those_that_the_configuration_knows_are_built_in(config: Config) -> None:
    assert tuple(list_definitions(config)) == BUILT_IN


def test_seeds_are_sets_that_could_be_published(config: Config) -> None:
    for one in list_definitions(config).values():
        assert merge(one.seed) == one.seed
        assert not find_fault(one.seed)
        assert one.seeded


def test_google_is_where_workspace_sends_from() -> None:
    networks = find_networks(("google",))

    for address in ("209.85.128.0", "209.85.255.255", "74.125.0.1", "2a00:1450:4864::1"):
        assert any(ipaddress.ip_address(address) in network for network in networks)
    for address in ("209.85.127.255", "8.8.8.8", "2a00:1450:4001::1", "108.177.16.1"):
        assert not any(ipaddress.ip_address(address) in network for network in networks)


def test_what_google_forwards_is_another_set_that_is_not_refreshed(config: Config) -> None:
    one = list_definitions(config)["google-forwarding"]

    assert one.is_fixed
    assert find_networks((one.name,)) == one.seed
    assert ipaddress.ip_address("108.177.17.1") in one.seed[0]


def test_an_address_is_a_network_of_one() -> None:
    (network,) = find_networks(("192.0.2.7",))

    assert network.num_addresses == 1
    with pytest.raises(ValueError, match="expected"):
        find_networks(("gogle",))


def test_only_what_a_tenant_names_is_in_use(tmp_path: Path) -> None:
    network = [{"name": "a", "spf": "a.test"}, {"name": "b", "json": "https://b.test/x"}]

    used = list_used(make_config(tmp_path, "b", "192.0.2.0/24", network=network))

    assert [(one.name, one.origin) for one in used.values()] == [("b", "json https://b.test/x")]
    assert list(list_used(make_config(tmp_path, "google"))) == ["google"]


def test_a_configured_set_takes_the_place_of_the_built_in_one(tmp_path: Path) -> None:
    config = make_config(tmp_path, "google", network=[{"name": "google", "spf": "x.test"}])

    (one,) = list_used(config).values()

    assert (one.origin, one.seed, one.refresh) == ("spf x.test", (), 3600)
    seeds = Seeds(config)
    assert seeds.find(("google", "192.0.2.7")) == (ipaddress.ip_network("192.0.2.7"),)
    assert not seeds.is_known(("192.0.2.7", "google"))
    assert seeds.is_known(("192.0.2.7",))
