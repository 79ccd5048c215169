import ipaddress
from pathlib import Path

import pytest

from relay.config import Config, read
from relay.config.schema import Tenant
from relay.ingress import admission
from relay.ingress.admission import Admission, Refusal
from relay.ingress.networks.definition import find_networks
from relay.ingress.service import _unmap


@pytest.fixture
def config(tmp_path: Path) -> Config:
    tenants = [
        {
            "name": "acme",
            "domains": ["acme.example", "xn--bcher-kva.example"],
            "networks": ["192.0.2.0/24", "2001:db8:1::/48"],
        },
        {"name": "globex", "domains": ["globex.example"], "networks": ["198.51.100.7"]},
        {"name": "both", "domains": ["both.example"], "networks": ["192.0.2.0/25", "google"]},
    ]
    return read({"tenant": tenants}, base=tmp_path, environment={})


@pytest.fixture
def door(config: Config) -> Admission:
    return Admission(config)


@pytest.mark.parametrize(
    ("client", "sender", "tenant"),
    [
        ("192.0.2.1", b"a@acme.example", "acme"),
        ("192.0.2.1", b"a@ACME.Example", "acme"),
        ("192.0.2.1", b"a@acme.example.", "acme"),
        ("192.0.2.1", "a@bücher.example".encode(), "acme"),
        ("192.0.2.1", b"a@XN--bcher-kva.example", "acme"),
        ("192.0.2.1", b'"x@y"@acme.example', "acme"),
        ("192.0.2.1", b"a@both.example", "both"),
        ("192.0.2.200", b"a@both.example", None),
        ("2001:db8:1::9", b"a@acme.example", "acme"),
        ("2001:db8:2::9", b"a@acme.example", None),
        ("198.51.100.7", b"a@globex.example", "globex"),
        ("198.51.100.8", b"a@globex.example", None),
        ("198.51.100.7", b"a@acme.example", None),
        ("192.0.2.1", b"a@globex.example", None),
        ("203.0.113.1", b"a@acme.example", None),
        ("192.0.2.1", b"a@sub.acme.example", None),
        ("192.0.2.1", b"a@notacme.example", None),
        ("192.0.2.1", b"a@acme.example.evil.test", None),
        ("192.0.2.1", b"a@example", None),
        ("192.0.2.1", b"a@[192.0.2.1]", None),
        ("192.0.2.1", b"a@\xff.example", None),
        ("192.0.2.1", b"nobody", None),
        ("192.0.2.1", b"", None),
        ("209.85.220.41", b"a@both.example", "both"),
        ("2607:f8b0:4864:20::1", b"a@both.example", "both"),
        ("209.85.220.41", b"a@acme.example", None),
        ("127.0.0.1", b"a@acme.example", None),
        ("::1", b"a@acme.example", None),
    ],
)
def test_network_and_domain_together_name_the_tenant(
    client: str, sender: bytes, tenant: str | None, door: Admission
) -> None:
    for _ in range(2):  # the second answer comes from memory
        found = door.find_tenant(client, sender)
        if tenant is None:
            assert isinstance(found, Refusal)
        else:
            assert isinstance(found, Tenant)
            assert found.name == tenant


def test_a_mapped_address_is_the_address_itself(door: Admission) -> None:
    assert isinstance(door.find_tenant(_unmap("::ffff:192.0.2.1"), b"a@acme.example"), Tenant)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
def test_addresses_as_they_are_shown(address: str, shown: str) -> None:
    assert _unmap(address) == shown


@pytest.mark.parametrize("client", ["192.0.2.1", "198.51.100.7", "203.0.113.1", "2001:db8::1"])
@pytest.mark.parametrize("sender", [b"", b"a@acme.example", b"a@globex.example", b"a@x.test"])
def test_a_refusal_gives_nothing_away(client: str, sender: bytes, door: Admission) -> None:
    found = door.find_tenant(client, sender)

    if isinstance(found, Refusal):
        for secret in ("acme", "globex", "both", "192.0.2", "198.51", "google", client):
            assert secret not in found.text
        assert found.reason
        assert found.text.isascii()


def test_what_is_remembered_of_addresses_is_bounded(
    door: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_REMEMBERED", 10)

    for number in range(100):
        assert isinstance(door.find_tenant(f"203.0.113.{number}", b"a@acme.example"), Refusal)
        assert len(door._known) <= 10


def test_without_tenants_nobody_may_send(tmp_path: Path) -> None:
    door = Admission(read({}, base=tmp_path, environment={}))

    assert isinstance(door.find_tenant("127.0.0.1", b"a@b.test"), Refusal)


def test_google_is_a_set_of_networks() -> None:
    networks = find_networks(("google",))

    for address in ("209.85.128.0", "209.85.255.255", "74.125.0.1", "2a00:1450:4864::1"):
        assert any(ipaddress.ip_address(address) in network for network in networks)
    for address in ("209.85.127.255", "8.8.8.8", "2a00:1450:4001::1"):
        assert not any(ipaddress.ip_address(address) in network for network in networks)


def test_an_address_is_a_network_of_one() -> None:
    (network,) = find_networks(("192.0.2.7",))

    assert network.num_addresses == 1
    with pytest.raises(ValueError, match="expected"):
        find_networks(("gogle",))
