from pathlib import Path

import pytest

from relay.config import Config, read
from relay.config.schema import Tenant
from relay.config.units import Network
from relay.ingress import admission
from relay.ingress.admission import Admission, Refusal
from relay.ingress.networks.definition import find_networks
from relay.net.listen import unmap


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
    assert isinstance(door.find_tenant(unmap("::ffff:192.0.2.1"), b"a@acme.example"), Tenant)


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
    assert unmap(address) == shown


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


# -- domains below domains

TENANTS: list[dict[str, object]] = [
    {"name": "acme", "domains": ["acme.example"], "subdomains": True},
    {"name": "shop", "domains": ["shop.acme.example"]},
    {"name": "deep", "domains": ["a.b.shop.acme.example"], "subdomains": True},
    {"name": "narrow", "domains": ["narrow.example"], "subdomains": False},
]


@pytest.fixture
def nested(tmp_path: Path) -> Config:
    tenants = [{"networks": ["192.0.2.0/24"], **tenant} for tenant in TENANTS]
    return read({"tenant": tenants}, base=tmp_path, environment={})


@pytest.mark.parametrize(
    ("domain", "owner"),
    [
        ("acme.example", "acme"),
        ("x.acme.example", "acme"),
        ("x.y.z.acme.example", "acme"),
        ("shop.acme.example", "shop"),
        ("x.shop.acme.example", None),  # another's, who does not send from there
        ("b.shop.acme.example", None),
        ("a.b.shop.acme.example", "deep"),
        ("x.a.b.shop.acme.example", "deep"),
        ("narrow.example", "narrow"),
        ("x.narrow.example", None),
        ("xacme.example", None),
        ("example", None),
        ("", None),
        (".acme.example", None),
        ("x..acme.example", None),
        ("x .acme.example", None),
        ("acme.example.evil.test", None),
    ],
)
def test_the_nearest_domain_says_whose_it_is(
    domain: str, owner: str | None, nested: Config
) -> None:
    door = Admission(nested)

    assert [t.name for t in nested.tenant if door.owns(t, domain)] == ([owner] if owner else [])
    found = door.find_tenant("192.0.2.1", f"a@{domain}".encode())
    assert (found.name if isinstance(found, Tenant) else None) == owner


# -- the null sender, and who is near


def test_candidates_for_the_null_sender_are_near_and_prove_themselves(tmp_path: Path) -> None:
    here, there = ["192.0.2.0/24"], ["198.51.100.0/24"]
    tenants = [
        {"name": name, "domains": [f"{name}.example"], "networks": networks, "proof": proof}
        for name, networks, proof in (
            ("a", here, ["dkim"]),
            ("b", here, []),
            ("c", [*here, *there], ["dkim"]),
            ("d", there, []),
        )
    ]
    door = Admission(read({"tenant": tenants}, base=tmp_path, environment={}))

    for client, names, near in (
        ("192.0.2.1", ["a", "c"], True),
        ("198.51.100.1", ["c"], True),
        ("203.0.113.1", [], False),
    ):
        assert [tenant.name for tenant in door.find_candidates(client)] == names
        assert door.is_near(client) == near
        assert isinstance(door.find_tenant(client, b""), Refusal)


# -- sets that change


class Published:
    """Sets as an ingress process keeps them."""

    def __init__(self) -> None:
        self.version = 0
        self.networks: dict[str, tuple[Network, ...]] = {"partner": ()}

    def put(self, *blocks: str) -> None:
        self.networks["partner"] = find_networks(blocks)
        self.version += 1

    def find(self, names: tuple[str, ...]) -> tuple[Network, ...]:
        return find_networks(names, self.networks)

    def is_known(self, names: tuple[str, ...]) -> bool:
        return all(self.networks.get(name, True) for name in names)


@pytest.fixture
def partners(tmp_path: Path) -> Config:
    tenants = [
        {"name": "acme", "domains": ["acme.example"], "networks": ["partner"], "proof": ["dkim"]},
        {"name": "globex", "domains": ["globex.example"], "networks": ["203.0.113.7"]},
    ]
    document = {"tenant": tenants, "network": [{"name": "partner", "spf": "a.test"}]}
    return read(document, base=tmp_path, environment={})


def test_what_is_remembered_ends_when_a_set_changes(partners: Config) -> None:
    sets = Published()
    sets.put("192.0.2.0/24")
    door = Admission(partners, sets)
    assert door.is_near("192.0.2.1")
    assert not door.is_near("198.51.100.1")

    sets.put("198.51.100.0/24")

    assert not door.is_near("192.0.2.1")
    assert door.is_near("198.51.100.1")
    assert [tenant.name for tenant in door.find_candidates("198.51.100.1")] == ["acme"]
    assert isinstance(door.find_tenant("198.51.100.1", b"a@acme.example"), Tenant)


@pytest.mark.parametrize(
    ("client", "sender", "temporary"),
    [
        ("192.0.2.1", b"a@acme.example", True),  # perhaps it is in there
        ("192.0.2.1", b"", True),
        ("203.0.113.7", b"a@acme.example", True),
        ("203.0.113.7", b"", True),
        ("203.0.113.7", b"a@nobody.example", False),
    ],
)
def test_who_may_be_in_a_set_that_is_not_known_yet_may_come_again(
    partners: Config, client: str, sender: bytes, temporary: bool
) -> None:
    sets = Published()
    door = Admission(partners, sets)
    found = door.find_tenant(client, sender)
    assert isinstance(found, Refusal)
    assert found.temporary == temporary
    assert "acme" not in found.text
    assert isinstance(door.find_tenant("203.0.113.7", b"a@globex.example"), Tenant)

    sets.put("198.51.100.0/24")

    found = door.find_tenant(client, sender)
    assert isinstance(found, Refusal)
    assert not found.temporary


def test_without_sets_the_seeds_are_used(partners: Config, config: Config) -> None:
    assert Admission(config).is_near("209.85.220.41")
    assert Admission(partners).is_near("203.0.113.7")
    assert not Admission(partners).is_near("192.0.2.1")
