"""The Compose file: what stands in it fits together, and is as locked up as it can be."""

import ipaddress
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose

from relay.config import Config, load
from relay.store.embedded import find_url
from tests.kit.composed import find_file, find_mounts, read_composed
from workers.cli.main import _COMMANDS

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "deploy"
_OURS = ("ingress", "worker", "admin")
_OVERRIDES = ((), ("compose.macvlan.yml",), ("compose.host.yml",))
COMPOSED = read_composed()
SERVICES: dict[str, dict[str, Any]] = COMPOSED["services"]
each_service = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with what `make-secrets.sh` makes."""
    deploy = tmp_path_factory.mktemp("deploy")
    script = deploy / "make-secrets.sh"
    script.write_bytes((_DEPLOY / "make-secrets.sh").read_bytes())
    (deploy / "secrets").mkdir()
    subprocess.run(["sh", script], check=True, capture_output=True)
    return deploy / "secrets"


@pytest.fixture(scope="module")
def config(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return the configuration, read as a container would, with its secrets in place."""
    text = (_DEPLOY / "outgate.compose.toml").read_text("utf-8")
    for name, secret in COMPOSED["secrets"].items():
        text = text.replace(f"/run/secrets/{name}", str(secrets / Path(secret["file"]).name))
    file = tmp_path_factory.mktemp("config") / "outgate.toml"
    file.write_text(text)
    return load(str(file), environment=SERVICES["ingress"]["environment"])


# -- the file itself


@pytest.mark.parametrize("overrides", _OVERRIDES, ids=lambda names: "".join(names) or "alone")
def test_it_is_what_the_specification_allows(overrides: tuple[str, ...]) -> None:
    PyCompose.from_json(json.dumps(read_composed(*overrides))).validate()


def test_a_mistake_would_be_found() -> None:
    wrong = read_composed()
    wrong["services"]["store"]["networks"] = ["nowhere"]
    with pytest.raises(ValueError, match="nowhere"):
        PyCompose.from_json(json.dumps(wrong)).validate()

    wrong["services"]["store"]["read_onyl"] = True
    with pytest.raises(ValueError, match="read_onyl"):
        PyCompose.from_json(json.dumps(wrong))


def _list_keys() -> Iterator[tuple[str, str]]:
    for name, service in SERVICES.items():
        yield from ((name, key) for key in service)


def test_only_keys_that_compose_knows() -> None:
    known = {
        *("build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck"),
        *("image", "logging", "networks", "ports", "read_only", "restart", "secrets"),
        *("security_opt", "stop_grace_period", "tmpfs", "ulimits", "user", "volumes"),
    }

    assert [(name, key) for name, key in _list_keys() if key not in known] == []


@each_service
def test_nobody_is_root_or_can_become_it(name: str) -> None:
    service = SERVICES[name]

    assert service["user"].split(":")[0] not in ("0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@each_service
def test_each_tells_how_it_is(name: str) -> None:
    test = SERVICES[name]["healthcheck"]["test"]

    assert test[0] == "CMD"
    if test[1] == "outgate":
        assert test[2] in _COMMANDS
        assert test[3] == name == SERVICES[name]["command"][0]


@each_service
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]

    assert image == "outgate" or re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)+", image)


@each_service
def test_what_is_mounted_is_there(name: str) -> None:
    for target, source in find_mounts(SERVICES[name]).items():
        if source.startswith("."):
            assert find_file(source).exists(), target
        else:
            assert source in COMPOSED["volumes"]


@each_service
def test_secrets_are_files_and_nothing_secret_is_in_the_environment(name: str) -> None:
    service = SERVICES[name]

    assert set(service.get("secrets", ())) <= COMPOSED["secrets"].keys()
    for key, value in service.get("environment", {}).items():
        assert not re.search("PASSWORD|TOKEN|SECRET|KEY", key) or value.startswith("/run/secrets/")


def test_each_secret_is_made_and_used(secrets: Path) -> None:
    made = {file.name for file in secrets.iterdir()}
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}

    assert {Path(secret["file"]).name for secret in COMPOSED["secrets"].values()} == made
    assert used == COMPOSED["secrets"].keys()


def test_secrets_that_are_there_stay(secrets: Path) -> None:
    before = {file: file.read_bytes() for file in secrets.iterdir()}

    subprocess.run(["sh", secrets.parent / "make-secrets.sh"], check=True, capture_output=True)

    assert {file: file.read_bytes() for file in secrets.iterdir()} == before
    assert secrets.stat().st_mode & 0o077 == 0


def test_only_mail_is_reached_from_elsewhere() -> None:
    published = {
        name: port.rpartition(":")[0]
        for name, service in SERVICES.items()
        for port in service.get("ports", ())
    }

    assert published.pop("balancer") == "2525"
    assert published
    assert all(where.startswith("127.0.0.1:") for where in published.values())


def test_the_store_is_reached_by_us_only() -> None:
    members = {name for name, service in SERVICES.items() if "store" in service["networks"]}

    assert COMPOSED["networks"]["store"] == {"internal": True}
    assert members == {"store", *_OURS}
    assert SERVICES["store"]["networks"] == ["store"]


def test_who_reaches_the_store_knows_its_password(secrets: Path, config: Config) -> None:
    password = (secrets / "store_password").read_text().strip()

    assert re.fullmatch("[0-9a-f]{64}", password)
    assert (secrets / "store_auth").read_text() == f'requirepass "{password}"\n'
    assert SERVICES["store"]["command"][:2] == ["valkey-server", "/run/secrets/store_auth"]
    assert find_url(config) == f"redis://:{password}@store:6379/0"
    assert {n for n, s in SERVICES.items() if "store_auth" in s.get("secrets", ())} == {"store"}
    assert {n for n, s in SERVICES.items() if "store_password" in s.get("secrets", ())} == {
        "store",
        *_OURS,
    }


def test_a_new_password_is_made_known_to_the_store(secrets: Path, tmp_path: Path) -> None:
    deploy = shutil.copytree(secrets.parent, tmp_path / "deploy")
    (deploy / "secrets/store_password").write_text("another\n")

    subprocess.run(["sh", deploy / "make-secrets.sh"], check=True, capture_output=True)

    assert (deploy / "secrets/store_password").read_text() == "another\n"
    assert (deploy / "secrets/store_auth").read_text() == 'requirepass "another"\n'


# -- our services and their configuration


@pytest.mark.parametrize("name", _OURS)
def test_containers_run_commands_of_ours(name: str) -> None:
    service = SERVICES[name]

    assert service["command"][0] in _COMMANDS
    assert service["environment"]["OUTGATE_CONFIG"] in find_mounts(service)
    assert int(service["stop_grace_period"].removesuffix("s")) > 30  # delivery.grace


def test_the_configuration_is_one_for_containers(config: Config) -> None:
    # A container's file system is read-only but for the state directory.
    assert config.state_dir == "/var/lib/outgate"
    assert config.log.events == "stdout"
    assert config.ingress.listen[0].host == "0.0.0.0"
    assert config.admin.listen[0].host == "0.0.0.0"
    assert config.admin.token_file
    assert SERVICES["worker"]["stop_grace_period"] == "40s"
    assert config.delivery.grace < 40


def test_it_is_no_open_relay_for_googles_customers(config: Config) -> None:
    assert all(tenant.proof for tenant in config.tenant if "google" in tenant.networks)


def test_what_dockers_name_server_says_of_dnssec_is_not_believed(config: Config) -> None:
    assert config.dns.trust_ad is False


def test_ports_are_those_that_services_listen_on(config: Config) -> None:
    ports = {name: SERVICES[name]["ports"][0].rpartition(":")[2] for name in ("balancer", "admin")}

    assert ports == {
        "balancer": str(config.ingress.listen[0].port),
        "admin": str(config.admin.listen[0].port),
    }


def test_only_the_balancer_is_believed(config: Config) -> None:
    (balancer,) = config.ingress.proxies
    address = SERVICES["balancer"]["networks"]["front"]["ipv4_address"]
    (front,) = COMPOSED["networks"]["front"]["ipam"]["config"]

    assert balancer == address
    # Others get their addresses from a range that this one is not in.
    assert ipaddress.ip_address(address) in ipaddress.ip_network(front["subnet"])
    assert ipaddress.ip_address(address) not in ipaddress.ip_network(front["ip_range"])
    assert {n for n, s in SERVICES.items() if "front" in s["networks"]} == {"balancer", "ingress"}


def test_each_address_that_a_worker_can_get_is_a_source(config: Config) -> None:
    (out,) = COMPOSED["networks"]["out"]["ipam"]["config"]
    range_ = ipaddress.ip_network(out["ip_range"])

    assert {source.address for source in config.source} == {str(address) for address in range_}
    assert config.pool["default"].keys() == {source.name for source in config.source}
    assert [n for n, s in SERVICES.items() if "out" in s["networks"]] == ["worker"]
    assert SERVICES["worker"]["deploy"]["replicas"] == 3 <= len(config.source)
    assert SERVICES["ingress"]["deploy"]["replicas"] == 2


def test_the_balancer_waits_longer_than_the_ingress(config: Config) -> None:
    text = (_DEPLOY / "haproxy/haproxy.cfg").read_text("utf-8")
    minutes = [int(n) for n in re.findall(r"timeout (?:client|server) (\d+)m", text)]

    assert len(minutes) == 2
    assert min(minutes) * 60 > max(config.ingress.message_timeout, config.ingress.command_timeout)


# -- overrides


def test_workers_on_a_network_of_their_own() -> None:
    composed = read_composed("compose.macvlan.yml", environment={"OUTGATE_PARENT": "eth1"})
    out = composed["networks"]["out"]

    assert (out["driver"], out["driver_opts"]) == ("macvlan", {"parent": "eth1"})
    (block,) = out["ipam"]["config"]
    assert ipaddress.ip_network(block["ip_range"]).subnet_of(ipaddress.ip_network(block["subnet"]))


def test_workers_on_the_hosts_network() -> None:
    composed = read_composed("compose.host.yml")
    worker, store = composed["services"]["worker"], composed["services"]["store"]

    assert worker["network_mode"] == "host"
    assert "networks" not in worker
    assert worker["environment"]["OUTGATE_STORE_URL"] == "redis://127.0.0.1:6379/0"
    assert worker["environment"]["OUTGATE_CONFIG"] == "/etc/outgate/outgate.toml"
    assert store["ports"] == ["127.0.0.1:6379:6379"]
    assert "out" not in composed["networks"]


# -- the image


def test_the_image_runs_as_nobody_in_particular() -> None:
    lines = (_DEPLOY / "Dockerfile").read_text("utf-8").splitlines()

    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]
    assert 'ENTRYPOINT ["outgate"]' in lines
    assert any('"outgate", "alive"' in line for line in lines)
    assert "STOPSIGNAL SIGTERM" in lines


def test_what_the_image_is_made_of_is_there_and_no_secret_goes_in() -> None:
    text = (_DEPLOY / "Dockerfile").read_text("utf-8")
    allowed = (_DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    copied = {
        one
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for one in line.split()[:-1]
    }

    assert allowed[1] == "*"
    assert copied == {line.removeprefix("!") for line in allowed if line.startswith("!")}
    assert all((_ROOT / one).exists() for one in copied)
